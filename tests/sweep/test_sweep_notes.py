"""What a plan settles and says about its data, and where the notes are kept."""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from qwave.cli import main
from qwave.config import DataError
from qwave.engine.crossval import cross_validate
from qwave.space import load_sweep
from qwave.sweep import load_study, plan_sweep, run_sweep
from qwave.sweep.plan import Plan
from qwave.sweep.report import trial_config

REPOSITORY = Path(__file__).resolve().parents[2]
MAIN = REPOSITORY / "sweeps" / "moe_pareto.yaml"
SWEEP = """
name: small
data: {path: PATH, normalization: layer}
budget: {n_trials: 3, max_size_bytes: 100000, workers: 1}
sampler: {name: random, seed: 3}
fixed: {train: {epochs: 2, batch_size: 16}, model: {hidden: [], curiosity: {mc_samples: 3}}}
search:
  model.num_experts: {int: [1, 2]}
  model.schemes: {mix: [int1, int4]}
"""
WRONG = (
    "3 of 21 clips are bound to be wrong, because where they are tested no clip of their class "
    "trains: 'cat | <b>' (3 of its 3)."
)
LEAK = (
    "feature column 4 (counted from 0) has one value for all clips of a class, as a label has: "
    "if that was not measured on the clips, scores are worth nothing; leave it out of the features"
)


def write(folder: Path, **changes: Any) -> Path:
    """Three classes of which one has a single recording, and a label among the features."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [9, 9, 3])
    x = rng.normal(size=(3, 5))[y] * 2 + rng.normal(size=(21, 5))
    x[:, 4] = 10 * y
    group = np.concatenate([np.arange(18) // 2, [9] * 3])
    names = np.array(["dog", "rain", "cat | <b>"])
    arrays = {"x": x, "y": y, "group": group, "class_names": names, **changes}
    np.savez(folder / "small.npz", **{k: v for k, v in arrays.items() if v is not None})
    file = folder / "small.yaml"
    file.write_text(SWEEP.replace("PATH", str(folder / "small.npz")))
    return file


def planned(file: Path, *overrides: str) -> tuple[Plan, list[str]]:
    """The plan, and what the terminal showed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        plan = plan_sweep(load_sweep(file, overrides))
    return plan, [str(entry.message) for entry in caught]


def test_a_plan_says_once_what_a_person_should_know(tmp_path: Path) -> None:
    plan, shown = planned(write(tmp_path))
    assert list(plan.notes) == shown
    lost, leak = shown
    assert lost.startswith(WRONG)
    assert leak == LEAK


def test_notes_are_kept_where_a_filter_hides_warnings(tmp_path: Path) -> None:
    file = write(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        assert len(plan_sweep(load_sweep(file)).notes) == 2
    assert not caught


def test_what_was_said_before_an_error_is_shown_too(tmp_path: Path) -> None:
    file = write(tmp_path, y=np.arange(21) + 5, class_names=None, group=None)
    with (
        pytest.warns(UserWarning, match="class labels 5, 6, 7"),
        pytest.raises(DataError, match="cannot be split into folds: fewer than two classes"),
    ):
        plan_sweep(load_sweep(file))


@pytest.mark.slow
def test_the_bundled_data_have_no_notes_and_digests_that_stores_hold() -> None:
    digests = set()
    for override in ("data.n_folds=5", "data.folds=auto"):
        plan, shown = planned(MAIN, NORMALIZATION, override)
        assert shown == []
        assert plan.notes == ()
        assert plan.sweep.data.n_folds == 5
        assert plan.sweep.data.folds == "auto"
        digests.add(plan.sweep.digest)
    assert digests == {load_sweep(MAIN, [NORMALIZATION]).digest, STORED}
    plan, _ = planned(MAIN, *NARROW, "data.holdout_fold=5")
    assert plan.sweep.data.n_folds == 4


# The main job's sweep as older stores hold it: they searched with this normalisation alone.
NORMALIZATION = "data.normalization=sqrt_layer"
# One configuration: how large each of thousands would be takes seconds.
NARROW = ("search={}", "data.normalization=layer", "model.schemes=[int1]", "model.hidden=[]")
STORED = "aac7f4473ed02b95"


@pytest.mark.parametrize(("n_official", "n_folds"), [(10, 10), (1, 5)])
def test_the_main_job_takes_as_many_folds_as_are_official(
    tmp_path: Path, n_official: int, n_folds: int
) -> None:
    y = np.repeat([0, 1], 20)
    rng = np.random.default_rng(0)
    write(
        tmp_path,
        x=rng.normal(size=(40, 6)),
        y=y,
        fold=np.arange(40) % n_official,
        group=np.arange(40),
        class_names=None,
    )
    plan, _ = planned(MAIN, *NARROW, f"data.path={tmp_path / 'small.npz'}")
    assert plan.sweep.data.n_folds == n_folds


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:3 of 21 clips:UserWarning")
@pytest.mark.filterwarnings("ignore:feature column 4:UserWarning")
def test_a_class_of_one_recording_goes_all_the_way_and_the_notes_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_sweep(load_sweep(write(tmp_path)))
    store = tmp_path / "store"
    outcome = run_sweep(plan, store)
    assert outcome.counts["complete"] == 3
    assert outcome.counts["failed"] == 0
    study = load_study(store, "small")
    assert study.user_attrs["notes"] == list(plan.notes)
    assert study.user_attrs["sweep_digest"] == plan.sweep.digest
    config = trial_config(study.trials[0])
    assert config.data.n_folds == 5
    result = cross_validate(config, plan.data)
    assert result.config.digest == study.trials[0].user_attrs["digest"]
    assert result.scores == pytest.approx(study.trials[0].user_attrs["scores"], abs=1e-5)
    client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    run = client.get_run(study.user_attrs["mlflow_run_id"])
    assert run.data.params["data.n_folds"] == "5"
    kept = client.download_artifacts(run.info.run_id, "notes.txt", str(tmp_path))
    assert Path(kept).read_text(encoding="utf-8").splitlines() == list(plan.notes)
    # Another start has its own notes.
    run_sweep(dataclasses.replace(plan, notes=("one\nnote",)), store)
    assert load_study(store, "small").user_attrs["notes"] == ["one\nnote"]
    run_sweep(plan, store)
    out = tmp_path / "out"
    arguments = ["--budget", "50kB", "--sweep", "small", "--store", str(store), "--out", str(out)]
    assert main(["export", *arguments]) == 0
    (card,) = out.glob("*/model_card.md")
    caveats = card.read_text(encoding="utf-8").split("## Caveats")[1].split("\n## ")[0]
    for note in plan.notes:
        start = re.escape(note[:40])
        assert re.search(rf"^- Note from the start of the search: {start}", caveats, re.MULTILINE)
