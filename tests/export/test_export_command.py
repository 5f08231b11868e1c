"""``qwave export`` on a finished sweep: every option, every refusal, and what it prints."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from qwave.cli import main
from qwave.exporting import handover, models, onnx_file
from qwave.packing import packed_size_bytes
from qwave.runtime import PackedClassifier, load_packed
from qwave.space import load_sweep
from qwave.store import Store
from qwave.store.folder import opened_store
from qwave.sweep import load_study, plan_sweep, point_config

from .examples import Swept

pytestmark = pytest.mark.slow


@pytest.fixture
def export(
    swept: Swept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Exit code, stdout and stderr of an export into a folder of the test's own."""

    def run(*arguments: str) -> tuple[int, str, str]:
        places = ("--store", str(swept.store), "--sweep", "small", "--out", str(tmp_path))
        code = main(["export", "-q", *arguments, *places])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_sweep_has_what_the_tests_need(swept: Swept) -> None:
    assert len(swept.front) >= 2
    assert swept.beside_front
    assert swept.curious


# --- which model ---


def test_a_trial_is_exported_by_its_number(
    export: Callable[..., tuple[int, str, str]], swept: Swept, tmp_path: Path
) -> None:
    point = swept.beside_front
    code, out, err = export(str(point.number), "--no-register")
    assert (code, err) == (0, f"trial {point.number}: {point.label}\n")
    folder = tmp_path / f"trial_{point.number:04d}"
    assert sorted(file.name for file in folder.iterdir()) == ["model.qwave", "model_card.md"]
    assert load_packed(folder / "model.qwave").packed.header.config_digest == point.digest
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    assert f"{len(swept.points)} configurations were trained, and this one is not on" in card
    heading, row, command = out.splitlines()
    assert heading.split("  ")[0] == "file"
    assert row.startswith(f"{folder / 'model.qwave'}  {point.size_bytes} B")
    assert row.endswith("  -")
    # Who made embeddings of unknown origin has to say by what.
    assert command == (
        f"predict clips:      qwave predict {folder / 'model.qwave'} --encoder NAME CLIP..."
    )


def test_the_front_is_exported_member_by_member(
    export: Callable[..., tuple[int, str, str]], swept: Swept, tmp_path: Path
) -> None:
    code, out, _ = export("--front", "--no-register")
    assert code == 0
    *table, command = out.splitlines()
    assert len(table) == 1 + len(swept.front)
    last = tmp_path / f"trial_{swept.front[-1].number:04d}" / "model.qwave"
    assert command.startswith(f"predict clips:      qwave predict {last} ")
    assert {folder.name for folder in tmp_path.iterdir()} == {
        f"trial_{point.number:04d}" for point in swept.front
    }
    for point in swept.front:
        file = tmp_path / f"trial_{point.number:04d}" / "model.qwave"
        assert file.stat().st_size == point.size_bytes


def test_a_budget_exports_the_most_accurate_that_fits(
    export: Callable[..., tuple[int, str, str]], swept: Swept
) -> None:
    smaller, larger = swept.front[:2]
    for budget_bytes, point in (
        (smaller.size_bytes, smaller),
        (larger.size_bytes - 1, smaller),
        (larger.size_bytes, larger),
    ):
        code, out, _ = export("--budget", f"{budget_bytes}B", "--no-register", "--json")
        assert code == 0
        assert json.loads(out)["models"][0]["trial"] == point.number


def test_a_trial_that_repeats_another_is_that_other_one(
    export: Callable[..., tuple[int, str, str]], swept: Swept, tmp_path: Path
) -> None:
    first = swept.points[0].number
    code, _, err = export(str(swept.repeat), "--no-register")
    assert code == 0
    assert f"note: trial {swept.repeat} repeats trial {first}\n" in err
    assert [folder.name for folder in tmp_path.iterdir()] == [f"trial_{first:04d}"]


def test_a_model_goes_into_the_store_unless_told_otherwise(
    swept: Swept, capsys: pytest.CaptureFixture[str]
) -> None:
    number = swept.front[0].number
    places = ["--store", str(swept.store), "--sweep", "small"]
    assert main(["export", "-q", str(number), "--no-register", *places]) == 0
    assert (swept.store / "models" / "small" / f"trial_{number:04d}" / "model.qwave").is_file()
    assert str(swept.store / "models" / "small") in capsys.readouterr().out


# --- options ---


def test_json_is_one_object_with_all_numbers(
    export: Callable[..., tuple[int, str, str]], swept: Swept, tmp_path: Path
) -> None:
    code, out, _ = export("--front", "--no-register", "--json")
    assert code == 0
    models = json.loads(out)["models"]
    for model, point in zip(models, swept.front, strict=True):
        folder = tmp_path / f"trial_{point.number:04d}"
        assert (model["folder"], model["file"]) == (str(folder), str(folder / "model.qwave"))
        header = load_packed(folder / "model.qwave").packed.header
        assert model["sure_probability"] == header.sure_probability > 0
        assert 0.05 <= model["temperature"] <= 10
        assert (model["trial"], model["digest"]) == (point.number, point.digest)
        assert model["size_bytes"] == point.size_bytes
        low, high = model["accuracy_interval"]
        assert low <= model["accuracy"] <= high
        assert 0 <= model["largest_difference"] < 1e-5
        assert model["n_other_class"] == 0
        assert set(model["latency_us"]) == {"1", "64"}
        assert (model["uri"], model["aliases"]) == (None, [])


def test_without_a_refit_it_is_the_first_folds_model(
    export: Callable[..., tuple[int, str, str]], swept: Swept, tmp_path: Path
) -> None:
    point = swept.front[0]
    assert export(str(point.number), "--no-refit", "--no-register")[0] == 0
    folder = tmp_path / f"trial_{point.number:04d}"
    artifacts = swept.store / "artifacts" / "small" / point.mlflow_run_id / "artifacts"
    recorded = artifacts / "fold_0" / "model.qwave"
    shipped, first = (load_packed(file).packed for file in (folder / "model.qwave", recorded))
    assert {**vars(shipped.header), "sure_probability": 0.0} == vars(first.header)
    assert "the model of the first fold" in (folder / "model_card.md").read_text(encoding="utf-8")


def test_onnx_is_written_beside_it(
    export: Callable[..., tuple[int, str, str]], swept: Swept, tmp_path: Path
) -> None:
    assert export(str(swept.curious.number), "--onnx", "--no-register")[0] == 0
    folder = tmp_path / f"trial_{swept.curious.number:04d}"
    assert (folder / "model.onnx").stat().st_size > 0
    assert "of `model.onnx`, run in onnxruntime" in (folder / "model_card.md").read_text("utf-8")


def test_models_are_registered_with_their_aliases(
    export: Callable[..., tuple[int, str, str]], swept: Swept
) -> None:
    best = swept.front[-1]
    code, out, _ = export("--budget", "70kB")
    assert code == 0
    assert "browse the models:  mlflow ui --backend-store-uri sqlite:///" in out
    row = out.splitlines()[1]
    client = MlflowClient(f"sqlite:///{swept.store / 'mlflow.db'}")
    for alias in ("best-at-70kB", "best-at-1MB", f"trial-{best.number}"):
        assert f" {alias}" in row
        version = client.get_model_version_by_alias("small", alias)
        assert version.tags["qwave.trial_number"] == str(best.number)
        assert f"models:/small/{version.version} " in row
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    kinds = {run.data.tags["qwave.kind"] for run in client.search_runs([experiment.experiment_id])}
    assert kinds == {"trial", "study", "export"}


# --- what is refused ---


def test_one_way_to_choose_is_needed_and_one_only(
    export: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    for arguments, n_ways in (((), 0), (("1", "--front"), 2), (("--front", "--budget", "1kB"), 2)):
        code, out, err = export(*arguments)
        assert (code, out) == (2, "")
        assert err == (
            f"error: say which model, in one of three ways, but got {n_ways} of them: `qwave "
            "export 12` (a trial's number), `qwave export --front` (every member of the front), "
            "or `qwave export --budget 50kB` (the most accurate that fits)\n"
        )
    assert list(tmp_path.iterdir()) == []


def test_trials_that_cannot_be_exported_are_refused_with_those_that_can(
    export: Callable[..., tuple[int, str, str]], swept: Swept, tmp_path: Path
) -> None:
    members = ", ".join(str(point.number) for point in swept.front)
    last = max(swept.over_budget, swept.repeat, swept.cut_off)
    for number, message in (
        (
            last + 1,
            f"there is no trial {last + 1}: trials are 0 to {last}, and those of the front",
        ),
        (swept.over_budget, f"trial {swept.over_budget} was not trained (over budget); those of"),
        (swept.cut_off, f"trial {swept.cut_off} was not trained (interrupted); those of the fr"),
    ):
        code, _, err = export(str(number))
        assert code == 2
        assert err.startswith(f"error: {message}")
        assert err.endswith(f"smallest first, {members}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "big"], "error: --budget must be a size such as 2000, 50kB, 1.5MB or 20KiB"),
        (["1", "--device", "cuda:99"], "error: device 'cuda:99' is not there"),
        (["1", "--sweep", "other"], "holds no study 'other' (it holds small); search first"),
    ],
)
def test_bad_arguments_are_refused(
    swept: Swept, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    places = ["--store", str(swept.store), *([] if "--sweep" in arguments else ["--sweep", "sma"])]
    assert main(["export", "-q", *arguments, *places]) == 2
    assert message in capsys.readouterr().err


def test_the_device_is_where_the_model_is_trained(
    export: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it not refused at once, training would refuse it."""
    monkeypatch.setattr(models, "resolve_device", lambda device: None)
    code, _, err = export("--front", "--no-register", "--device", "cuda:99")
    assert code == 2
    assert "error: device 'cuda:99' is not there" in err
    assert list(tmp_path.iterdir()) == []


def test_a_budget_that_nothing_fits_names_the_smallest(
    export: Callable[..., tuple[int, str, str]], swept: Swept
) -> None:
    smallest = swept.front[0]
    code, _, err = export("--budget", f"{smallest.size_bytes - 1}")
    assert code == 2
    assert err == (
        f"error: --budget {smallest.size_bytes - 1}: no model of the front has "
        f"{smallest.size_bytes - 1} bytes or less; the smallest, trial {smallest.number}, has "
        f"{smallest.size_bytes}\n"
    )


def test_onnx_without_its_libraries_is_refused_before_anything_is_trained(
    export: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    code, _, err = export("--front", "--onnx")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "pip install 'qwave[onnx]'" in err


def test_a_store_in_use_is_refused(
    export: Callable[..., tuple[int, str, str]], swept: Swept
) -> None:
    with opened_store(Store(swept.store)):
        code, _, err = export("--front")
    assert code == 2
    assert f"--store {swept.store} is in use by another process" in err


def test_no_store_is_refused_and_none_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "none"
    assert main(["export", "-q", "--front", "--store", str(store)]) == 2
    assert "holds no study 'moe_pareto' (it holds no study)" in capsys.readouterr().err
    assert not store.exists()


def test_a_sweep_without_a_trained_trial_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened_store(Store(tmp_path)):
        journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.journal"))
        storage = optuna.storages.JournalStorage(journal)
        optuna.create_study(study_name="empty", storage=storage)
    places = ["--store", str(tmp_path), "--sweep", "empty"]
    assert main(["export", "-q", "--front", *places]) == 2
    assert "error: the sweep 'empty' has no trained trial yet" in capsys.readouterr().err


def test_a_failed_proof_ends_with_exit_code_1_and_no_model(
    export: Callable[..., tuple[int, str, str]],
    swept: Swept,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def silent(path: Path) -> PackedClassifier:
        packed = load_packed(path).packed
        layers = {
            name: dataclasses.replace(layer, bias=layer.bias[::-1], codes=-layer.codes)
            for name, layer in packed.layers.items()
        }
        return PackedClassifier(dataclasses.replace(packed, layers=layers))

    monkeypatch.setattr(handover, "load_packed", silent)
    code, out, err = export(str(swept.front[0].number))
    assert (code, out) == (1, "")
    assert f"error: trial {swept.front[0].number}: model.qwave, read back, does not predict" in err
    assert list(tmp_path.iterdir()) == []


# --- as people run it ---


def test_the_command_runs_in_a_process_of_its_own(swept: Swept, tmp_path: Path) -> None:
    point = swept.front[0]
    code = "import sys; from qwave.cli import main; sys.exit(main())"
    places = ["--store", str(swept.store), "--sweep", "small", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", code, "export", "-q", str(point.number), "--json", *places],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (model,) = json.loads(done.stdout)["models"]
    assert model["uri"].startswith("models:/small/")
    assert done.stderr == f"trial {point.number}: {point.label}\n"
    data = plan_sweep(load_sweep(swept.store.parent / "small.yaml")).data
    config = point_config(load_study(swept.store, "small"), point)
    assert model["size_bytes"] == packed_size_bytes(config, data)
