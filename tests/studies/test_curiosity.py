"""The study of uncertainty: its arithmetic against plain loops, and a whole run."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from qwave.scores import Difference
from qwave.scores.evaluate import score_predictions, score_uncertainty
from qwave.scores.uncertainty import roc_auc
from qwave.store import Store, Tracker
from studies.curiosity import main
from studies.curiosity.errors import losses, weighted
from studies.curiosity.measures import (
    BASELINE,
    CURIOSITY,
    DISAGREEMENT,
    MEASURES,
    OF_ENSEMBLE,
    VARIANCE,
    Comparison,
    Finding,
    Variant,
    compared,
    findings_of,
    verdict,
)
from studies.curiosity.study import conclusion, findings_section

ONES = np.ones((1, 24), dtype=np.int64)


def made_up_variant(seed: int, m: int = 3, n: int = 24, c: int = 4) -> tuple[Variant, np.ndarray]:
    """Outputs of m models for n clips, and the true classes, which the models partly know."""
    rng = np.random.default_rng(seed)
    y = rng.integers(c, size=n)
    logits = rng.normal(size=(m, n, c)) + 1.5 * np.eye(c)[y]
    p = np.exp(logits)
    p /= p.sum(axis=2, keepdims=True)
    return Variant("any", False, p, rng.random((m, n)), np.round(rng.random((m, n)), 1)), y


@pytest.mark.parametrize("seed", range(3))
def test_uncertainties_and_errors_of_single_models_and_of_their_ensemble(seed: int) -> None:
    variant, y = made_up_variant(seed)
    found, wrong = variant.uncertainties(), variant.wrong(y)
    assert tuple(found) == tuple(wrong) == MEASURES
    assert found[CURIOSITY].tolist() == variant.information.tolist()
    assert found[VARIANCE].tolist() == variant.variance.tolist()
    for clip in range(24):
        together = sum(variant.probabilities[m, clip] for m in range(3)) / 3
        assert found[OF_ENSEMBLE][0, clip] == pytest.approx(-max(together)), f"{seed=}"
        assert wrong[OF_ENSEMBLE][0, clip] == wrong[DISAGREEMENT][0, clip]
        assert wrong[OF_ENSEMBLE][0, clip] == (int(np.argmax(together)) != y[clip])
        for m in range(3):
            own = variant.probabilities[m, clip]
            assert found[BASELINE][m, clip] == -max(own)
            for measure in (CURIOSITY, VARIANCE, BASELINE):
                assert wrong[measure][m, clip] == (int(np.argmax(own)) != y[clip]), f"{seed=}"
    assert found[DISAGREEMENT].shape == (1, 24)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_means_over_the_seeds_of_each_with_its_own_errors(seed: int) -> None:
    variant, y = made_up_variant(seed)
    of_one = [
        score_uncertainty(variant.probabilities[m].argmax(axis=1) == y, variant.variance[m])
        for m in range(3)
    ]
    together = variant.probabilities.mean(axis=0)
    of_all = score_uncertainty(together.argmax(axis=1) == y, -together.max(axis=1))
    for name, key in (("AUROC", "error_auroc"), ("AURC", "aurc"), ("AUGRC", "augrc")):
        found = weighted(variant, y, name)
        expected = np.mean([scores[key] for scores in of_one])
        assert found[VARIANCE](ONES) == pytest.approx([expected]), f"{seed=} {name}"
        assert found[OF_ENSEMBLE](ONES) == pytest.approx([of_all[key]]), f"{seed=} {name}"
    each = [score_predictions(y, part) for part in variant.probabilities]
    found_losses = losses(variant.probabilities, y)
    for name, key in (("hit", "accuracy"), ("nll", "nll"), ("brier", "brier"), ("ece", "ece")):
        expected = np.mean([scores[key] for scores in each])
        assert found_losses[name].mean() == pytest.approx(expected), f"{seed=} {name}"


def test_comparisons_are_paired_and_corrected_together() -> None:
    rng = np.random.default_rng(4)
    is_wrong = rng.random(36) < 0.4
    good, bad = is_wrong + 0.8 * rng.random(36), rng.random(36)
    group = np.arange(36) // 2
    scores = {
        name: {CURIOSITY: roc_auc(is_wrong, one), BASELINE: roc_auc(is_wrong, other)}
        for name, one, other in (("a", good, bad), ("b", bad, good), ("c", bad, bad))
    }
    first, second, equal = compared(
        scores, [(CURIOSITY, BASELINE)], group, 36, mixtures=["b", "c"]
    )
    expected = metrics.roc_auc_score(is_wrong, good) - metrics.roc_auc_score(is_wrong, bad)
    assert first.difference.estimate == pytest.approx(expected)
    assert second.difference.estimate == pytest.approx(-expected)
    assert (equal.difference.estimate, equal.p) == (0.0, 1.0)
    assert first.p == pytest.approx(3 * first.difference.p_value)
    assert (first.is_shown, second.is_shown, equal.is_shown) == (True, True, False)
    assert (first.is_mixture, second.is_mixture, equal.is_mixture) == (False, True, True)


def made_up_comparison(estimate: float, p: float, *, is_mixture: bool = False) -> Comparison:
    difference = Difference(estimate, estimate - 0.1, estimate + 0.1, 0.05, p)
    return Comparison(f"{estimate} {p}", CURIOSITY, BASELINE, difference, p, is_mixture)


MADE_UP = [
    made_up_comparison(0.3, 0.05),
    made_up_comparison(0.2, 0.06),
    made_up_comparison(0.0, 1.0),
    made_up_comparison(-0.4, 0.001, is_mixture=True),
]


def test_a_verdict_tells_leads_beyond_chance_from_others() -> None:
    assert verdict(MADE_UP) == (
        "curiosity against max probability: of 3 networks ahead in 2 (1 beyond chance) and behind "
        "in 0 (0 beyond chance), of 1 mixtures ahead in 0 (0 beyond chance) and behind in 1 (1 "
        "beyond chance)"
    )
    assert "of 3 networks ahead in 0 (0 beyond chance) and behind in 2 (1 beyond chance)" in (
        verdict(MADE_UP, is_larger_better=False)
    )
    assert "mixtures" not in verdict(MADE_UP[:3])


def test_findings_count_leads_and_average_over_the_variants() -> None:
    values = {(c.variant, CURIOSITY): 0.1 * n for n, c in enumerate(MADE_UP)}
    values |= {(c.variant, BASELINE): 0.5 for c in MADE_UP}
    values |= {(c.variant, DISAGREEMENT): 0.75 for c in MADE_UP}
    networks, mixtures = findings_of(MADE_UP, values)
    assert dataclasses.astuple(networks) == (
        *("networks", pytest.approx(0.1), 0.5, 0.75),
        *(3, 2, 1, 0, 0),
    )
    assert dataclasses.astuple(mixtures) == (
        *("mixtures", pytest.approx(0.3), 0.5, 0.75),
        *(1, 0, 0, 1, 1),
    )


def test_the_head_of_the_report_states_counts_and_conclusion() -> None:
    section = findings_section(
        [
            Finding("networks", 0.9, 0.8, 0.7, 8, 3, 2, 5, 4),
            Finding("mixtures", 0.5, 0.8, 0.7, 5, 0, 0, 5, 4),
        ]
    )
    first, second, _ = section.text.split("\n\n")
    assert "of 8 comparisons with the largest probability" in first
    assert "better beyond chance in 2 and worse beyond chance in 4." in first
    assert first.endswith("It depends on the variant; the count is against curiosity.")
    assert "of 5 comparisons" in second
    assert second.endswith("It does not beat what costs nothing.")
    assert section.table is not None
    assert len(section.table.rows) == 2


@pytest.mark.parametrize(
    ("better", "worse", "words"),
    [
        (0, 0, "Nothing shows that either is better"),
        (0, 3, "It does not beat what costs nothing."),
        (3, 0, "It beats what costs nothing."),
        (3, 2, "the count is for curiosity."),
        (2, 3, "the count is against curiosity."),
        (2, 2, "the count is even."),
    ],
)
def test_conclusions(better: int, worse: int, words: str) -> None:
    assert words in conclusion(better, worse)


def test_a_bad_argument_ends_with_exit_code_2_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["held_out={a: [Rain]}", "--store", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: override 'held_out={a: [Rain]}': unknown key 'held_out'")
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_a_whole_run_writes_its_report_and_a_second_one_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(4), 15)
    x = rng.normal(size=(4, 6))[y] * 1.5 + rng.normal(size=(60, 6))
    np.savez(tmp_path / "made.npz", x=x, y=y, fold=np.arange(60) // 4 % 3, group=np.arange(60))
    (tmp_path / "study.yaml").write_text(
        f"""
name: sure
seeds: [11, 12, 13]
data: {{path: {tmp_path / "made.npz"}, normalization: raw, n_folds: 3}}
fixed:
  model: {{hidden: [], input_dropout: 0.3}}
variants:
  one: {{model.schemes: [int1]}}
  eight: {{model.schemes: [int8]}}
  both: {{model.schemes: [int1, int8]}}
workers: 1
""",
        encoding="utf-8",
    )
    store = tmp_path / "store"
    command = [str(tmp_path / "study.yaml"), "--store", str(store), "--smoke"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    folder = store / "reports" / "sure_smoke"
    assert {file.name for file in folder.iterdir()} == {
        *("findings.csv", "errors.csv", "error_differences.csv", "calibration.csv"),
        *("errors.png", "report.html"),
    }
    page = (folder / "report.html").read_text(encoding="utf-8")
    for text in ("Is it worth anything?", "Against the largest probability"):
        assert text in page
        assert text in printed
    assert "curiosity is better beyond chance in" in page
    with (folder / "errors.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["variant"] for row in rows} == {"one", "eight", "both"}
    assert {row["uncertainty"] for row in rows} == set(MEASURES)
    for row in rows:
        low, value, high = (float(row[f"AUROC{end}"]) for end in ("_low", "", "_high"))
        assert 0 <= low <= value <= high <= 1, row

    tracker = Tracker(Store(store))
    run_id = tracker.find_run(tracker.experiment("sure_smoke"), kind="study")
    assert run_id is not None
    artifacts = tracker.artifact_folder(run_id) / "report"
    assert {file.name for file in artifacts.iterdir()} == {file.name for file in folder.iterdir()}

    assert len(list((store / "repeats").glob("*.npz"))) == 2 * 3  # seeds, variants
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(
        "qwave.sweep.pool.TrainingPool.submit", lambda *_: pytest.fail("trained again")
    )
    assert main(command) == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert tracker.find_run(tracker.experiment("sure_smoke"), kind="study") == run_id
