"""What a study ends with, from trials made up in the form in which a sweep writes them."""

from __future__ import annotations

import ast
import csv
import dataclasses
import io
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import pytest
from optuna.study import Study
from optuna.trial import TrialState

from qwave.config import SweepConfig, TrialConfig
from qwave.scores import FrontPoint
from qwave.scores.pareto import hypervolume
from qwave.space import load_sweep, parse_config
from qwave.store import Store
from qwave.sweep import mattered
from qwave.sweep.ask import Asker
from qwave.sweep.progress import Progress, hypervolume_by_trial
from qwave.sweep.report import (
    collect_points,
    export_command,
    front_of,
    importances,
    picture_subtitle,
    write_report,
)
from qwave.sweep.study import open_study

SWEEP = """
name: made_up
budget: {n_trials: 40, max_size_bytes: 100000}
sampler: {name: random, seed: 5}
search:
  model.num_experts: {int: [1, 3]}
  model.schemes: {mix: [int1, ternary, int4, int8]}
  model.top_k: {int: [1, 2]}
  model.hidden: {choice: {linear: [], small: [64], deep: [640, 320]}}
  model.head_scheme: {choice: {own: null, eight: 8}}
  model.curiosity.alpha: {choice: [0.0, 0.5]}
  train.learning_rate: {float: [1.0e-5, 1.0e-2], log: true}
"""
REFERENCE = {"reference_accuracy": 0.1, "reference_bytes": 100_000}
Score = Callable[[int, TrialConfig], tuple[float, int]]


class Told(NamedTuple):
    """The test's own book of a trial that was told."""

    number: int
    config: TrialConfig
    accuracy: float
    size: int
    run_id: str


@pytest.fixture(scope="module", autouse=True)
def _small_forests() -> Iterator[None]:
    """How good importances are is what `test_sweep_mattered.py` asks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mattered, "_N_SPLITS", 5)
        patch.setattr(mattered, "_N_TREES", 5)
        yield


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepConfig:
    path = tmp_path_factory.mktemp("sweep") / "made_up.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    return load_sweep(path)


def _open(sweep: SweepConfig, store: Path) -> Study:
    store.mkdir(exist_ok=True)
    return open_study(sweep, Store(store), dict(REFERENCE), is_fresh=False)


def _tell(
    study: Study, sweep: SweepConfig, score: Score, prefix: str = "run", twin: Told | None = None
) -> Told:
    """Ask for a trial and tell it, as the loop of a sweep does."""
    if twin is not None:
        study.enqueue_trial(study.get_trials(deepcopy=False)[twin.number].params)
    draw = Asker(study, sweep).ask()
    number = draw.trial.number
    accuracy, size = score(number, draw.config)
    run_id = f"{prefix}{number:04d}{draw.digest}"
    if twin is not None:
        assert draw.digest == twin.config.digest
        accuracy, size, run_id = twin.accuracy, twin.size, twin.run_id
        draw.trial.set_user_attr("outcome", "duplicate")
    draw.trial.set_user_attr("size_bytes", size)
    draw.trial.set_user_attr("mlflow_run_id", run_id)
    scores = {
        "accuracy": accuracy,
        "accuracy_standard_error": 0.01 + number / 1e4,
        "size_bytes": float(size),
    }
    draw.trial.set_user_attr("scores", scores)
    draw.trial.set_user_attr("fold_scores", {"accuracy": [accuracy] * 5})
    draw.trial.set_user_attr("seconds", 1.5)
    study.tell(draw.trial, [scores[objective.score] for objective in sweep.objectives])
    return Told(number, draw.config, accuracy, size, run_id)


def _spoil(study: Study, sweep: SweepConfig, outcome: str) -> int:
    """A trial without a result."""
    draw = Asker(study, sweep).ask()
    draw.trial.set_user_attr("mlflow_run_id", f"lost{draw.trial.number}")
    draw.trial.set_user_attr("outcome", outcome)
    state = TrialState.PRUNED if outcome == "over_budget" else TrialState.FAIL
    study.tell(draw.trial, state=state)
    return draw.trial.number


def _plausible(number: int, config: TrialConfig) -> tuple[float, int]:
    """Larger models score better, with noise; scores in steps of a clip, so that some tie."""
    rng = np.random.default_rng([7, number])
    width = sum(config.model.hidden) + 10
    size = int(200 * width * len(config.model.schemes) ** 0.5)
    accuracy = 0.4 + 0.1 * np.log10(width) + 0.05 * rng.normal()
    return float(np.clip(round(40 * accuracy) / 40, 0, 1)), size


@pytest.fixture(scope="module")
def made(sweep: SweepConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, list[Told]]:
    """Thirty trials in a journal: also refused, failed, repeated and running ones."""
    study = _open(sweep, tmp_path_factory.mktemp("study") / "store")
    told: list[Told] = []
    for step in range(30):
        if step in (4, 15):
            _spoil(study, sweep, "over_budget")
        if step == 9:
            _spoil(study, sweep, "failed")
        told.append(_tell(study, sweep, _plausible))
        if step in (12, 20):
            _tell(study, sweep, _plausible, twin=told[step // 2])
    Asker(study, sweep).ask()
    return study, told


Made = tuple[Study, list[Told]]


def test_points_are_the_trained_configurations_in_their_order(made: Made) -> None:
    study, told = made
    points = collect_points(study)
    assert [p.number for p in points] == [t.number for t in told]
    assert len({p.digest for p in points}) == len(points)
    for point, trial in zip(points, told, strict=True):
        assert (point.accuracy, point.size_bytes) == (trial.accuracy, trial.size)
        assert type(point.size_bytes) is int
        assert point.standard_error == 0.01 + trial.number / 1e4
        assert point.digest == trial.config.digest
        assert point.mlflow_run_id == trial.run_id
        assert point.num_experts == len(trial.config.model.schemes)
        assert point.configuration == trial.config.flat()
        for scheme in trial.config.model.schemes:
            assert scheme in point.label


def test_a_point_is_on_the_front_if_no_other_is_better(made: Made) -> None:
    study, told = made
    points = collect_points(study)
    assert 1 < sum(point.is_front for point in points) < len(points)
    for point in points:
        rivals = [
            t
            for t in told
            if (t.accuracy >= point.accuracy and t.size <= point.size_bytes)
            and (t.accuracy, t.size) != (point.accuracy, point.size_bytes)
        ]
        assert point.is_front == (not rivals), point


def test_the_front_climbs(made: Made) -> None:
    front = front_of(collect_points(made[0]))
    assert len(front) > 1
    sizes = [point.size_bytes for point in front]
    accuracies = [point.accuracy for point in front]
    assert sizes == sorted(set(sizes))
    assert accuracies == sorted(set(accuracies))
    assert Progress(made[0]).front == list(zip(accuracies, map(float, sizes), strict=True))


def _point(number: int, accuracy: float, size: int, is_front: bool) -> FrontPoint:
    return FrontPoint(
        number, accuracy, 0.01, size, is_front, 1, "", {}, f"digest{number}", f"run{number}"
    )


def test_of_equal_points_the_front_keeps_the_one_found_first() -> None:
    points = [
        _point(3, 0.9, 500, True),
        _point(4, 0.5, 100, True),
        _point(5, 0.9, 500, True),
        _point(6, 0.4, 100, False),
        _point(7, 0.5, 100, True),
    ]
    assert [point.number for point in front_of(points)] == [4, 3]
    assert front_of([]) == []


def test_equal_scores_of_different_configurations_are_one_member(
    sweep: SweepConfig, tmp_path: Path
) -> None:
    study = _open(sweep, tmp_path / "store")
    scores = {0: (0.8, 900), 1: (0.8, 900), 2: (0.7, 900), 3: (0.5, 80), 4: (0.5, 80)}
    for _ in scores:
        _tell(study, sweep, lambda number, _: scores[number])
    points = collect_points(study)
    assert [point.is_front for point in points] == [True, True, False, True, True]
    assert [point.number for point in front_of(points)] == [3, 0]
    assert Progress(study).front == [(0.5, 80.0), (0.8, 900.0)]


def test_hypervolume_grows_from_trial_to_trial(made: Made) -> None:
    study, told = made
    history = hypervolume_by_trial(study)
    assert [number for number, _ in history] == [t.number for t in told]
    volumes = [volume for _, volume in history]
    assert volumes == sorted(volumes)
    assert len(set(volumes)) > 2
    for n, volume in enumerate(volumes, start=1):
        expected = hypervolume(
            [t.accuracy for t in told[:n]], [t.size for t in told[:n]], **REFERENCE
        )
        assert volume == pytest.approx(expected, abs=1e-12), f"after {n} trials"
    assert Progress(study).hypervolume == volumes[-1]


def test_an_empty_study_has_an_empty_report(sweep: SweepConfig, tmp_path: Path) -> None:
    study = _open(sweep, tmp_path / "store")
    _spoil(study, sweep, "failed")
    assert collect_points(study) == []
    assert Progress(study).front == []
    assert hypervolume_by_trial(study) == []
    assert Progress(study).hypervolume == 0
    assert importances(study, sweep) == {}
    paths = write_report(study, sweep, tmp_path / "report", summary={}, commands={})
    assert all(path.is_file() for path in paths)
    assert len(paths[0].read_text().splitlines()) == 1


def test_importances_of_few_trials_are_not_given(sweep: SweepConfig, tmp_path: Path) -> None:
    study = _open(sweep, tmp_path / "store")
    for _ in range(19):
        _tell(study, sweep, _plausible)
    assert importances(study, sweep) == {}
    write_report(study, sweep, tmp_path / "few", summary={}, commands={})
    html = (tmp_path / "few" / "report.html").read_text(encoding="utf-8")
    assert "19 complete trials are too few to tell what mattered; it takes 20." in html
    _tell(study, sweep, _plausible)
    assert set(importances(study, sweep)) == {"accuracy"}


def test_importances_are_of_all_searched_parameters(made: Made, sweep: SweepConfig) -> None:
    (shares,) = importances(made[0], sweep).values()
    # Those too that a single or a linear expert has not.
    assert set(shares) == set(sweep.search)
    # The accuracy was made up from the widths, and hardly from anything else.
    assert max(shares, key=lambda key: shares[key].estimate) == "model.hidden"


def _in_memory(sweep: SweepConfig, score: Score, n_trials: int = 24) -> Study:
    study = optuna.create_study(directions=["maximize", "minimize"])
    for key, value in REFERENCE.items():
        study.set_user_attr(key, value)
    for _ in range(n_trials):
        _tell(study, sweep, score)
    return study


def test_sizes_are_known_and_have_no_importances(made: Made, sweep: SweepConfig) -> None:
    assert not [score for score in importances(made[0], sweep) if score.endswith("_bytes")]


SUMMARY = {"data": "esc10 (0123)", "trials": "30 complete, <2> over the size budget"}
COMMANDS = {"browse the trials": "mlflow ui --x y", "inspect the study": "optuna-dashboard a&b"}


@pytest.fixture(scope="module")
def report(
    made: Made, sweep: SweepConfig, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("report") / "deep" / "folder"
    paths = write_report(made[0], sweep, folder, summary=SUMMARY, commands=COMMANDS)
    return {path.name: path for path in paths}


def test_a_report_is_three_files(report: dict[str, Path]) -> None:
    assert list(report) == ["front.csv", "front.png", "report.html"]
    folder = report["front.csv"].parent
    assert sorted(path.name for path in folder.iterdir()) == sorted(report)


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def _value(key: str, cell: str) -> Any:
    """A cell as a person would read it: lists stand with blanks between their items."""
    if key in ("model.schemes", "model.hidden"):
        return [int(w) if w.isdigit() else w for w in cell.split()]
    try:
        return ast.literal_eval(cell)
    except (ValueError, SyntaxError):
        return cell or None


def test_the_table_of_the_front_parses_back_to_its_configurations(
    report: dict[str, Path], made: Made
) -> None:
    rows, front = _rows(report["front.csv"]), front_of(collect_points(made[0]))
    first = ["size_bytes", "accuracy", "accuracy_standard_error", "digest", "trial", "label"]
    keys = list(rows[0])[len(first) :]
    assert list(rows[0])[: len(first)] == first
    retired = {"train.patience", "train.validation_share"}
    assert keys == sorted({*TrialConfig().flat(), *retired})
    configs = {trial.number: trial.config for trial in made[1]}
    for row, point in zip(rows, front, strict=True):
        assert int(row["size_bytes"]) == point.size_bytes
        assert float(row["accuracy"]) == pytest.approx(point.accuracy, abs=5e-7)
        error = float(row["accuracy_standard_error"])
        assert error == pytest.approx(point.standard_error, abs=5e-7)
        assert (row["digest"], row["label"]) == (point.digest, point.label)
        config = parse_config({key: _value(key, row[key]) for key in keys})
        assert config == configs[int(row["trial"])]
        assert config.digest == row["digest"]


def test_the_table_of_the_front_says_neither_when_nor_in_which_run(
    report: dict[str, Path], made: Made, sweep: SweepConfig, tmp_path: Path
) -> None:
    text = report["front.csv"].read_text(encoding="utf-8")
    assert "run0" not in text
    assert "seconds" not in text
    assert not re.search(r"\d\d:\d\d|20\d\d-", text)
    again = optuna.create_study(directions=["maximize", "minimize"])
    for key, value in REFERENCE.items():
        again.set_user_attr(key, value)
    for trial in made[0].get_trials(deepcopy=True):
        if trial.state.is_finished():
            run_id = trial.user_attrs["mlflow_run_id"].replace("run", "other")
            trial.user_attrs = {**trial.user_attrs, "mlflow_run_id": run_id, "seconds": 99.0}
            again.add_trial(trial)
    write_report(again, sweep, tmp_path / "report", summary={"x": "y"}, commands={})
    assert (tmp_path / "report" / "front.csv").read_text(encoding="utf-8") == text


def test_the_page_names_every_digest_and_run(report: dict[str, Path], made: Made) -> None:
    html = report["report.html"].read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    for point in collect_points(made[0]):
        assert point.digest in html, point
        assert point.mlflow_run_id in html, point
    assert "30 complete, &lt;2&gt; over the size budget" in html
    assert "optuna-dashboard a&amp;b" in html
    assert not re.search(r"lost\d", html)


def test_a_report_written_again_is_the_same(
    report: dict[str, Path], made: Made, sweep: SweepConfig, tmp_path: Path
) -> None:
    paths = write_report(made[0], sweep, tmp_path, summary=SUMMARY, commands=COMMANDS)
    for path in paths:
        assert path.read_bytes() == report[path.name].read_bytes(), path.name


def test_further_objectives_that_are_measured_have_importances_of_their_own(
    sweep: SweepConfig,
) -> None:
    first, second = sweep.objectives
    further = dataclasses.replace(
        sweep,
        objectives=(
            first,
            second,
            dataclasses.replace(second, score="active_bytes"),
            dataclasses.replace(first, score="roc_auc"),
        ),
    )
    study = optuna.create_study(directions=["maximize", "minimize", "minimize", "maximize"])
    for number in range(20):
        draw = Asker(study, further).ask()
        accuracy, size = _plausible(number, draw.config)
        draw.trial.set_user_attr("scores", {"accuracy": accuracy, "size_bytes": size})
        study.tell(draw.trial, [accuracy, float(size), float(number + 1), number / 20])
    assert set(importances(study, further)) == {"accuracy", "roc_auc"}


def _page(study: Study, sweep: SweepConfig, folder: Path, **options: Any) -> str:
    write_report(study, sweep, folder, summary=SUMMARY, commands=COMMANDS, **options)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_says_how_to_export_each_trial_and_where_its_run_is(
    made: Made, sweep: SweepConfig, tmp_path: Path
) -> None:
    study = _in_memory(sweep, _plausible)
    study.set_user_attr("mlflow_experiment_id", "12")
    store = tmp_path / "a store; it's 'mine'"
    html = _page(study, sweep, tmp_path, store=Store(store))
    facts = html[html.index('id="qwave-points">') + len('id="qwave-points">') :]
    points = json.loads(facts[: facts.index("</script>")])["points"]
    assert len(points) == 24
    for point, trial in zip(points, study.trials, strict=True):
        assert shlex.split(point["export"]) == [
            *("qwave", "export", str(trial.number), "--sweep", "made_up"),
            *("--store", str(store)),
        ]
        run_id = trial.user_attrs["mlflow_run_id"]
        assert point["address"].startswith(
            f"http://127.0.0.1:5000/#/experiments/12/runs/{run_id}?"
        )
    assert export_command(3, "made_up", Store(Path("relative"))).endswith(f"{Path.cwd()}/relative")


def test_notes_of_the_study_are_shown_as_text(sweep: SweepConfig, tmp_path: Path) -> None:
    study = _in_memory(sweep, _plausible, 2)
    assert 'class="notes"' not in _page(study, sweep, tmp_path / "without")
    study.set_user_attr("notes", ["folds: <grouped> by recording", "two & two"])
    html = _page(study, sweep, tmp_path / "with")
    assert "<li>folds: &lt;grouped&gt; by recording</li>\n<li>two &amp; two</li>" in html


def test_the_page_shows_the_choices_of_what_was_searched(report: dict[str, Path]) -> None:
    html = report["report.html"].read_text(encoding="utf-8")
    headings = re.findall(r"<h3><code>([^<]*)</code></h3>", html)
    # Real numbers and mixes have no choices; the others stand in the order of the sweep.
    assert headings == [
        "model.num_experts",
        "model.top_k",
        "model.hidden",
        "model.head_scheme",
        "model.curiosity.alpha",
        "data.normalization",
    ]
    assert "(not in use)" in html


def test_a_long_path_leaves_its_end_below_the_title() -> None:
    assert (
        picture_subtitle({"data": "esc10 (0123)", "sweep": "ab"}) == "data esc10 (0123) · sweep ab"
    )
    path = "recordings/" * 20 + "clips (0123456789abcdef)"
    shown = picture_subtitle({"data": path, "sweep": "ab"})
    assert shown == f"data …{path[-44:]} · sweep ab"
    fitting = "x" * 45
    assert picture_subtitle({"data": fitting}) == f"data {fitting}"
