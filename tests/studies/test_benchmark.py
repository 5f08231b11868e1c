"""The benchmark: what it compares, and what it leaves behind."""

from __future__ import annotations

import csv
import dataclasses
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qwave.config import ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.refit import fit_model
from qwave.runtime import PackedClassifier
from qwave.scores import Interval, bootstrap_difference, equivalence
from qwave.store import Store, Tracker
from studies.benchmark import main
from studies.benchmark.measure import Variant, latency_of
from studies.benchmark.report import (
    MARGIN,
    N_RESAMPLES,
    SCORES,
    differences_table,
    kernels_text,
    pairs_by_mode,
    report_sections,
)
from studies.comparison import load_comparison

REPOSITORY = Path(__file__).resolve().parents[2]
YAML = """
name: tiny
seeds: [1, 2]
data: {path: PATH, normalization: layer, n_folds: 3}
fixed: {model: {hidden: []}, train: {epochs: 2}}
variants:
  float: {model.schemes: [fp32]}
  int2: {model.schemes: [int2]}
  int2 afterwards: {model.schemes: [int2], train.mode: ptq}
  mixture: {model.schemes: [int1, int4], model.curiosity.alpha: 1.0}
"""


def make_variant(name: str, hits: np.ndarray, **train: str) -> Variant:
    config = TrialConfig(
        model=ModelConfig(("int2",)),
        train=dataclasses.replace(TrainConfig(), **train),  # type: ignore[arg-type]
    )
    interval = Interval(0.5, 0.4, 0.6, 0.05)
    scores = dict.fromkeys(SCORES, interval)
    return Variant(name, config, hits, scores, 1000, 900.0, (0.1, 0.2), 1.5, 10**8)


def test_the_published_benchmark_has_every_scheme_twice_and_their_pairs() -> None:
    config = load_comparison(REPOSITORY / "sweeps" / "benchmark.yaml")
    plain = {v.model.schemes[0] for v in config.variants.values() if v.model.num_experts == 1}
    assert plain == {"fp32", "int16", "int8", "int4", "int2", "ternary", "int1", "popcount"}
    variants = [
        dataclasses.replace(make_variant(name, np.ones(4)), config=variant)
        for name, variant in config.variants.items()
    ]
    pairs = pairs_by_mode(variants)
    assert [(one.name, other.name) for one, other in pairs] == [
        (scheme, f"{scheme} afterwards")
        for scheme in ("int16", "int8", "int4", "int2", "ternary", "int1", "popcount")
    ]
    kinds = {variant.data.normalization for variant in config.variants.values()}
    assert kinds == {"sqrt_layer", "standard", "l2", "min_max", "raw", "layer"}
    assert any(v.model.curiosity.alpha > 0 for v in config.variants.values())


@pytest.mark.parametrize("seed", range(5))
def test_differences_are_paired_and_corrected_for_their_number(
    seed: int, gaussians: Callable[..., EmbeddingSet]
) -> None:
    data = gaussians(seed)
    rng = np.random.default_rng(seed)
    n = len(data.y)
    variants = [make_variant(str(i), rng.integers(0, 3, n) / 2) for i in range(4)]
    pairs = [(variant, variants[0]) for variant in variants[1:]]
    table = differences_table(pairs, data)
    raw = []
    for (one, other), row in zip(pairs, table.rows, strict=True):
        found = bootstrap_difference(
            one.hits, other.hits, data.group, n_resamples=N_RESAMPLES, seed=0
        )
        raw.append(found.p_value)
        assert row[:3] == (one.name, other.name, found.interval), seed
        equal = equivalence(one.hits, other.hits, data.group, MARGIN, seed=0)
        assert row[4] is equal.is_equivalent, seed
    # Holm by hand: the smallest of three counts three times, and none less than one before it.
    corrected, before = {}, 0.0
    for place, index in enumerate(sorted(range(3), key=raw.__getitem__)):
        before = max(before, min(1.0, (3 - place) * raw[index]))
        corrected[index] = before
    assert [row[3] for row in table.rows] == pytest.approx([corrected[i] for i in range(3)]), seed


def test_only_twins_that_differ_in_the_mode_are_paired() -> None:
    hits = np.ones(3)
    qat, ptq = make_variant("qat", hits), make_variant("ptq", hits, mode="ptq")
    wider = dataclasses.replace(
        ptq, name="wider", config=dataclasses.replace(ptq.config, model=ModelConfig(("int4",)))
    )
    assert [(a.name, b.name) for a, b in pairs_by_mode([ptq, qat, wider])] == [("qat", "ptq")]


@pytest.mark.slow
def test_a_benchmark_from_its_file_to_its_report_and_again_without_training(
    tmp_path: Path,
    gaussians: Callable[..., EmbeddingSet],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = gaussians(0)
    arrays = {"x": data.x, "y": data.y, "fold": data.fold, "group": data.group}
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    study = tmp_path / "tiny.yaml"
    study.write_text(YAML.replace("PATH", str(tmp_path / "data.npz")), encoding="utf-8")
    command = [str(study), "--store", str(tmp_path / "store")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    folder = tmp_path / "store" / "reports" / "tiny"
    for name in ("report.html", "variants.csv", "variants.png", "against_first.csv"):
        assert (folder / name).stat().st_size > 0, name
    with (folder / "variants.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == ["float", "int2", "int2 afterwards", "mixture"]
    for row in rows:
        assert 0 <= float(row["accuracy_low"]) <= float(row["accuracy"]), row
        assert float(row["accuracy"]) <= float(row["accuracy_high"]) <= 1, row
        assert 0 < float(row["latency_(us)"]) <= float(row["95th_percentile_(us)"]), row
        assert float(row["read"]) <= float(row["file"]), row
    assert re.search(r"one thread, computed in (C|numpy)\b", printed)
    tracker = Tracker(Store(tmp_path / "store"))
    experiment = tracker.experiment("tiny")
    run_id = tracker.find_run(experiment, kind="study")
    assert run_id is not None
    assert (tracker.artifact_folder(run_id) / "report" / "variants.csv").exists()
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "store" / "repeats").iterdir()}
    assert len(kept) == 8
    assert main(command) == 0
    assert kept == {
        file: file.stat().st_mtime_ns for file in (tmp_path / "store" / "repeats").iterdir()
    }
    assert tracker.find_run(experiment, kind="study") == run_id


def test_the_report_says_what_computed_the_latencies(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    variant = make_variant("int2", np.ones(4))
    model = PackedClassifier(fit_model(variant.config, gaussians(0)).packed)
    found = {"compiled": "C", "numpy": "numpy"}[model.kernels[0]]
    assert kernels_text([dataclasses.replace(variant, kernels=model.kernels)]) == found
    in_numpy = PackedClassifier(model.packed, kernel="numpy")
    assert in_numpy.kernels == ("numpy",)
    both = (
        dataclasses.replace(variant, kernels=("compiled",)),
        dataclasses.replace(variant, kernels=("numpy",)),
    )
    assert kernels_text(both) == "C and numpy"
    (section,) = report_sections(
        both[:1],
        load_comparison(REPOSITORY / "sweeps" / "benchmark.yaml"),
        gaussians(0),
    )
    assert "by the packed model, one thread, computed in C." in section.text


def test_latency_is_a_median_and_a_percentile_of_single_clips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, ...]] = []

    class Model:
        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            asked.append(x.shape)
            return x

    # The k-th call takes k seconds.
    ticks = iter([t for k in range(1, 6) for t in (0.0, float(k))])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    found = latency_of(Model(), np.zeros((5, 3)))  # type: ignore[arg-type]
    assert found == pytest.approx((3e6, 4.8e6))
    assert asked == [(1, 3)] * 6
