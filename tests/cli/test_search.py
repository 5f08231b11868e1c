"""The command line of `qwave search`: what it refuses, and what it says."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qwave import cli

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT = str(REPOSITORY / "sweeps" / "moe_pareto.yaml")


def write_npz(path: Path, **changes: np.ndarray) -> str:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(2), 10)
    arrays = {"x": rng.normal(size=(20, 4)), "y": y, "group": np.arange(20), **changes}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def nan_file(folder: Path) -> str:
    x = np.zeros((20, 4))
    x[7, 2] = np.nan
    return write_npz(folder / "nan.npz", x=x)


def few_clips(folder: Path) -> str:
    return write_npz(folder / "few.npz", y=np.repeat([0, 1], [19, 1]))


def text_file(name: str, content: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / name).write_text(content)
        return str(folder / name)

    return write


BAD_DATA: list[tuple[Callable[[Path], str], str]] = [
    (lambda folder: str(folder / "none.npz"), "no such file"),
    (text_file("a.csv", "folder,name,f0\nf,n,1\n"), "has no column 'class_id'"),
    (text_file("b.csv", "name,class_id\nn,0\n"), "has no features"),
    (text_file("c.csv", "class_id,f0\n0,1.5\n1,loud\n"), "row 3, column 'f0': 'loud' is not a"),
    (text_file("d.csv", "class_id,f0\n0,1.5\n1,inf\n"), "row 3, column 'f0': inf is not a finite"),
    (nan_file, "row 7, column 2: nan is not a finite"),
    (few_clips, "these 20 clips of 2 classes cannot be split into folds"),
    (
        lambda f: write_npz(f / "neg.npz", y=np.repeat([-1, 1], 10)),
        "whole numbers from 0, but found -1",
    ),
    (text_file("e.csv", ""), "is empty"),
    (text_file("f.npz", "PK not a zip"), "cannot be read as a .npz file"),
]


@pytest.mark.parametrize(("make", "message"), BAD_DATA)
def test_bad_data_ends_with_exit_code_2_one_message_and_nothing_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], str],
    message: str,
) -> None:
    path = make(tmp_path)
    store = tmp_path / "store"
    assert cli.main(["search", DEFAULT, f"data.path={path}", "--store", str(store)]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == f"{DEFAULT}: checking the sweep and its data"
    (error,) = rest
    assert error.startswith("error: ")
    assert message in error
    assert Path(path).name in error or "one clip only: '1'" in error
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.yaml"], "no such sweep file: nothing.yaml"),
        (["budget.trials=3"], "unknown key 'budget.trials' (did you mean 'n_trials'?)"),
        (["search.model.schemes={mix: [int3]}"], "unknown scheme 'int3' (did you mean 'int8'?)"),
        (["search.model.top_k={int: [7, 9]}"], "top_k <= num_experts"),
        (["model.schemes=[1, 2]", "model.num_experts=3"], "num_experts == len(model.schemes)"),
        (["budget.max_size_bytes=1000"], "the smallest configuration of this space takes 1"),
        (["train.epochs=many"], "train.epochs = 'many': input should be a valid integer"),
        (["--device", "cuda:99"], "device 'cuda:99' is not there"),
        (["--device", "tpu"], "device must be cpu, cuda or mps, but got 'tpu'"),
        (["--trials", "0"], "`budget.n_trials >= 1` must hold"),
        ([DEFAULT, DEFAULT], "one YAML file at a time"),
    ],
)
def test_bad_arguments_end_with_exit_code_2_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    store = tmp_path / "store"
    files = [] if any(a.endswith(".yaml") for a in arguments) else [DEFAULT]
    assert cli.main(["search", *files, *arguments, "--store", str(store)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not store.exists()


def test_a_store_of_another_version_ends_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "qwave.json").write_text('{"format": "qwave-store", "version": 7}')
    assert cli.main(["search", DEFAULT, "--store", str(tmp_path)]) == 2
    assert "another format or version" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["qwave.json"]


@pytest.mark.slow
def test_a_dry_run_prints_the_space_its_sizes_and_the_time_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_npz(tmp_path / "ok.npz")
    store = tmp_path / "store"
    narrow = ["model.hidden=[]", "search.model.num_experts={int: [1, 2]}", "train.epochs=2"]
    assert (
        cli.main(
            ["search", DEFAULT, f"data.path={data}", *narrow, "--dry-run", "--store", str(store)]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "20 clips x 4 features, 2 classes, 5 folds" in said
    assert "mix of int1, ternary, popcount" in said
    assert "smallest file" in said
    assert "minutes" in said
    assert not store.exists()


@pytest.mark.slow
def test_json_is_the_last_line_of_stdout_and_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_npz(tmp_path / "ok.npz")
    store = tmp_path / "store"
    few = [f"data.path={data}", "train.epochs=1", "model.hidden=[]", "--trials", "3"]
    assert cli.main(["search", DEFAULT, *few, "--store", str(store), "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out.splitlines()[-1])
    assert set(found) == {
        *("trials", "complete", "pruned", "failed", "front", "hypervolume", "seconds")
    }
    assert found["complete"] == 3
    assert found["trials"] == found["complete"] + found["pruned"] + found["failed"]
    assert all(
        {"accuracy", "size_bytes", "digest", "mlflow_run_id"} < set(p) for p in found["front"]
    )
    for word in ("front.csv", "front.png", "report.html", "mlflow ui", "optuna-dashboard"):
        assert word in captured.err
    (line,) = [line for line in captured.err.splitlines() if line.startswith("hand over a model:")]
    program, *arguments = shlex.split(line.split(":", 1)[1])
    assert program == "qwave"
    assert cli.main(arguments) == 0, "the command that is printed can be pasted"
    assert list(store.glob("models/*/trial_*/model.qwave"))


def test_quiet_says_results_and_errors_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["search", "-q", "nothing.yaml", "--store", str(tmp_path / "s")]) == 2
    assert capsys.readouterr().err.startswith("error: no such sweep file: nothing.yaml")
    with pytest.raises(SystemExit):
        cli.main(["search", "--quiet", "--verbose"])
    assert "not allowed with argument" in capsys.readouterr().err
