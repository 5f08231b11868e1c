"""The study of uncertainty: its arithmetic against plain loops, its command line, a whole run."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from qwave.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet
from qwave.engine.crossval import cross_validate
from qwave.packing import packed_size_parts
from qwave.runtime import save_packed
from qwave.scores import Difference, bootstrap_difference
from qwave.scores.evaluate import score_predictions, score_uncertainty
from qwave.scores.uncertainty import roc_auc
from qwave.store import Store, Tracker
from qwave.sweep import Repeat
from studies.curiosity import conclusion, findings_section, main
from studies.curiosity_cascade import (
    ORACLE,
    RANDOM,
    Cascade,
    cascade_of_mixture,
    cascade_of_networks,
    network_pairs,
)
from studies.curiosity_errors import losses, weighted
from studies.curiosity_escalation import (
    area,
    corrected,
    findings_of_gains,
    gains_of,
    spoken,
)
from studies.curiosity_measures import (
    BASELINE,
    CURIOSITY,
    DISAGREEMENT,
    MEASURES,
    N_RESAMPLES,
    OF_ENSEMBLE,
    VARIANCE,
    Comparison,
    Finding,
    Said,
    Variant,
    compared,
    findings_of,
    verdict,
)
from studies.curiosity_outsiders import (
    gaussian_noise,
    outsider_scores,
    permuted_noise,
    with_strangers,
)
from studies.curiosity_tilt import ALPHAS, expert_bytes, has_choice, tilted, with_alpha

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT = str(REPOSITORY / "sweeps" / "curiosity.yaml")
ONES = {n: np.ones((1, n), dtype=np.int64) for n in (12, 24, 36)}


def _said(seed: int, m: int = 3, n: int = 24, c: int = 4) -> tuple[Said, np.ndarray]:
    """What m models say, and the truth, of which they know something."""
    rng = np.random.default_rng(seed)
    y = rng.integers(c, size=n)
    logits = rng.normal(size=(m, n, c)) + 1.5 * np.eye(c)[y]
    p = np.exp(logits)
    p /= p.sum(axis=2, keepdims=True)
    return Said(p, rng.random((m, n)), np.round(rng.random((m, n)), 1)), y


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Variant]:
    """A variant, trained here with two seeds; its models lie where a store would have them."""

    def train(data: EmbeddingSet, **model: Any) -> Variant:
        config = TrialConfig(
            DataConfig(n_folds=3, normalization="raw"),
            ModelConfig(**model),
            TrainConfig(epochs=4, learning_rate=0.02),
        )
        repeats = []
        for seed in (1, 2):
            result = cross_validate(dataclasses.replace(config, seed=seed), data)
            folder = tmp_path_factory.mktemp("trial")
            for fold, packed in enumerate(result.models):
                (folder / f"fold_{fold}").mkdir()
                save_packed(packed, folder / f"fold_{fold}" / "model.qwave")
            repeats.append(
                Repeat(
                    config=result.config,
                    scores=result.scores,
                    pooled_scores=result.pooled_scores,
                    predictions=result.predictions,
                    expert_load=result.expert_load,
                    seconds=result.seconds,
                    train_seconds=result.train_seconds,
                    peak_memory_bytes=result.peak_memory_bytes,
                    mlflow_run_id="",
                    folder=folder,
                )
            )
        return Variant.of(" + ".join(config.model.schemes), config, repeats)

    return train


@pytest.fixture(scope="module")
def clips(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(0, n_per_class=12, distance=0.7)


@pytest.fixture(scope="module")
def mixture(train: Callable[..., Variant], clips: EmbeddingSet) -> Variant:
    return train(clips, schemes=("int8", "int1"), hidden=(4,), dropout=0.2)


# --- measures ---


@pytest.mark.parametrize("seed", range(3))
def test_uncertainties_and_errors_of_single_models_and_of_their_ensemble(seed: int) -> None:
    said, y = _said(seed)
    found, wrong = said.uncertainties(), said.wrong(y)
    assert tuple(found) == tuple(wrong) == MEASURES
    assert found[CURIOSITY].tolist() == said.information.tolist()
    assert found[VARIANCE].tolist() == said.variance.tolist()
    for clip in range(24):
        together = sum(said.probabilities[m, clip] for m in range(3)) / 3
        assert found[OF_ENSEMBLE][0, clip] == pytest.approx(-max(together)), f"{seed=}"
        assert wrong[OF_ENSEMBLE][0, clip] == wrong[DISAGREEMENT][0, clip]
        assert wrong[OF_ENSEMBLE][0, clip] == (int(np.argmax(together)) != y[clip])
        for m in range(3):
            own = said.probabilities[m, clip]
            assert found[BASELINE][m, clip] == -max(own)
            for measure in (CURIOSITY, VARIANCE, BASELINE):
                assert wrong[measure][m, clip] == (int(np.argmax(own)) != y[clip]), f"{seed=}"
    assert found[DISAGREEMENT].shape == (1, 24)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_means_over_the_seeds_of_each_with_its_own_errors(seed: int) -> None:
    said, y = _said(seed)
    variant = Variant("any", TrialConfig(), [], said)
    of_one = [
        score_uncertainty(said.probabilities[m].argmax(axis=1) == y, said.variance[m])
        for m in range(3)
    ]
    together = said.probabilities.mean(axis=0)
    of_all = score_uncertainty(together.argmax(axis=1) == y, -together.max(axis=1))
    for name, key in (("AUROC", "error_auroc"), ("AURC", "aurc"), ("AUGRC", "augrc")):
        found = weighted(variant, y, name)
        expected = np.mean([scores[key] for scores in of_one])
        assert found[VARIANCE](ONES[24]) == pytest.approx([expected]), f"{seed=} {name}"
        assert found[OF_ENSEMBLE](ONES[24]) == pytest.approx([of_all[key]]), f"{seed=} {name}"


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


def _comparison(estimate: float, p: float, *, is_mixture: bool = False) -> Comparison:
    difference = Difference(estimate, estimate - 0.1, estimate + 0.1, 0.05, p)
    return Comparison(f"{estimate} {p}", CURIOSITY, BASELINE, difference, p, is_mixture)


MADE_UP = [
    _comparison(0.3, 0.05),
    _comparison(0.2, 0.06),
    _comparison(0.0, 1.0),
    _comparison(-0.4, 0.001, is_mixture=True),
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


def test_findings_count_likewise_and_average_over_the_variants() -> None:
    values = {(c.variant, CURIOSITY): 0.1 * n for n, c in enumerate(MADE_UP)}
    values |= {(c.variant, BASELINE): 0.5 for c in MADE_UP}
    networks, mixtures = findings_of("which", MADE_UP, values)
    assert networks == Finding("which", "networks", networks.curiosity, 0.5, None, 3, 2, 1, 0, 0)
    assert mixtures == Finding("which", "mixtures", mixtures.curiosity, 0.5, None, 1, 0, 0, 1, 1)
    assert networks.curiosity == pytest.approx(0.1)
    assert mixtures.curiosity == pytest.approx(0.3)
    values |= {(c.variant, DISAGREEMENT): 0.7 for c in MADE_UP}
    assert findings_of("which", MADE_UP[:2], values)[0].ensemble == pytest.approx(0.7)


def test_the_head_of_the_report_says_what_the_counts_say() -> None:
    section = findings_section(
        [
            Finding("one", "networks", 0.9, 0.8, 0.7, 4, 3, 2, 1, 1),
            Finding("two", "networks", 0.9, 0.8, None, 4, 0, 0, 4, 3),
            Finding("one", "mixtures", 0.5, 0.8, 0.7, 5, 0, 0, 5, 4),
        ]
    )
    first, second, _ = section.text.split("\n\n")
    assert "of 8 comparisons with the largest probability" in first
    assert "better beyond chance in 2 and worse beyond chance in 4." in first
    assert first.endswith("It depends on the question; the count is against curiosity.")
    assert "of 5 comparisons" in second
    assert second.endswith("It does not beat what costs nothing.")
    assert section.table is not None
    assert len(section.table.rows) == 3


@pytest.mark.parametrize(
    ("better", "worse", "said"),
    [
        (0, 0, "Nothing shows that either is better"),
        (0, 3, "It does not beat what costs nothing."),
        (3, 0, "It beats what costs nothing."),
        (3, 2, "the count is for curiosity."),
        (2, 3, "the count is against curiosity."),
        (2, 2, "the count is even."),
    ],
)
def test_conclusions(better: int, worse: int, said: str) -> None:
    assert said in conclusion(better, worse)


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_those_of_scored_predictions(seed: int) -> None:
    said, y = _said(seed)
    found = losses(said.probabilities, y)
    each = [score_predictions(y, part) for part in said.probabilities]
    for name, key in (("hit", "accuracy"), ("nll", "nll"), ("brier", "brier"), ("ece", "ece")):
        expected = np.mean([scores[key] for scores in each])
        assert found[name].mean() == pytest.approx(expected), f"{seed=} {name}"


# --- escalation ---


def _cascade(seed: int, router_bytes: int = 30) -> Cascade:
    rng = np.random.default_rng(seed)
    cheap, costly = rng.random((2, 12)) < 0.5, rng.random((2, 12)) < 0.8
    return Cascade(
        "made up",
        cheap,
        costly,
        {
            CURIOSITY: np.round(rng.random((2, 12)), 1),
            BASELINE: rng.random((2, 12)),
            RANDOM: np.zeros((2, 12)),
            ORACLE: costly.astype(float) - cheap,
        },
        np.arange(12) % 3,
        100,
        900,
        router_bytes,
    )


@pytest.mark.parametrize("seed", range(5))
def test_hits_are_those_of_the_most_uncertain_of_each_fold(seed: int) -> None:
    cascade = _cascade(seed)
    expected = np.zeros(12)
    for m in range(2):
        hits = cascade.cheap_hits[m].astype(float)
        for fold in range(3):
            rows = [row for row in range(12) if row % 3 == fold]
            ranked = sorted(rows, key=lambda row: -cascade.uncertainties[BASELINE][m, row])
            for row in ranked[:2]:  # half of four
                hits[row] = cascade.costly_hits[m, row]
        expected += hits / 2
    assert cascade.hits(BASELINE, np.array([0.5]))[0] == pytest.approx(expected), f"{seed=}"
    none, all_ = cascade.hits(CURIOSITY, np.array([0.0, 1.0]))
    assert none == pytest.approx(cascade.cheap_hits.mean(axis=0))
    assert all_ == pytest.approx(cascade.costly_hits.mean(axis=0))


@pytest.mark.parametrize("seed", range(3))
def test_at_random_is_the_mean_over_many_draws(seed: int) -> None:
    cascade = _cascade(seed)
    rng = np.random.default_rng(seed)
    total, n_draws = 0.0, 4000
    for _ in range(n_draws):
        for m in range(2):
            is_chosen = np.zeros(12, dtype=bool)
            for fold in range(3):
                is_chosen[rng.permutation(np.flatnonzero(cascade.fold == fold))[:1]] = True
            hits = np.where(is_chosen, cascade.costly_hits[m], cascade.cheap_hits[m])
            total += hits.mean() / 2 / n_draws
    exact = cascade.hits(RANDOM, np.array([0.25])).mean()
    assert exact == pytest.approx(total, abs=0.01), f"{seed=}"


@pytest.mark.parametrize("seed", range(5))
def test_nobody_beats_who_knows_the_answers_at_a_share(seed: int) -> None:
    cascade, shares = _cascade(seed), np.linspace(0, 1, 9)
    best = cascade.hits(ORACLE, shares).mean(axis=1)
    for choice in (CURIOSITY, BASELINE, RANDOM):
        assert (cascade.hits(choice, shares).mean(axis=1) <= best + 1e-12).all(), f"{seed=}"


def test_bytes_are_those_of_what_has_to_be_read() -> None:
    share = np.array([0.0, 0.25, 1.0])
    mixture, networks = _cascade(0), _cascade(0, router_bytes=0)
    # A router first, and then one expert.
    assert mixture.read_bytes(CURIOSITY, share).tolist() == [130, 330, 930]
    # The cheap expert always: it says how sure it is.
    assert mixture.read_bytes(BASELINE, share).tolist() == [100, 325, 1000]
    assert networks.read_bytes(CURIOSITY, share).tolist() == [100, 325, 1000]
    # One expert.
    assert mixture.read_bytes(RANDOM, share).tolist() == [100, 300, 900]


@pytest.mark.parametrize("choice", [CURIOSITY, BASELINE, RANDOM])
def test_what_can_be_afforded_reads_as_much_unless_nothing_or_all_is_escalated(
    choice: str,
) -> None:
    cascade = _cascade(0)
    budget = np.array([50.0, 130.0, 400.0, 880.0, 2000.0])
    share = cascade.affordable(choice, budget)
    assert (share[0], share[-1]) == (0.0, 1.0)
    assert cascade.read_bytes(choice, share[1:4]) == pytest.approx(budget[1:4])


@pytest.mark.parametrize("seed", range(3))
def test_gains_are_paired_differences_at_equal_shares_and_at_equal_bytes(
    seed: int, gaussians: Callable[..., EmbeddingSet]
) -> None:
    data = gaussians(seed, n_per_class=4)
    assert data.group is not None
    cascade = _cascade(seed)
    gains = {(gain.share, gain.rival): gain for gain in gains_of(cascade, data)}
    assert set(gains) == {(s, r) for s in (0.1, 0.2, 0.5, None) for r in (BASELINE, RANDOM)}
    gain = gains[0.5, BASELINE]
    own, other = (cascade.hits(name, np.array([0.5]))[0] for name in (CURIOSITY, BASELINE))
    assert gain.accuracy == pytest.approx(own.mean())
    assert gain.read_bytes == 530
    assert gain.at_equal_share == bootstrap_difference(
        own, other, data.group, n_resamples=N_RESAMPLES, seed=0
    )
    # 530 bytes: the cheap expert, and the costly one for 430 of 900.
    affordable = cascade.hits(BASELINE, np.array([430 / 900]))[0]
    assert gain.at_equal_bytes.estimate == pytest.approx((own - affordable).mean())
    # Over all shares: a fine sum.
    shares = np.linspace(0, 1, 2001)
    difference = cascade.hits(CURIOSITY, shares) - cascade.hits(RANDOM, shares)
    whole = gains[None, RANDOM]
    assert whole.at_equal_share.estimate == pytest.approx(difference.mean(), abs=2e-3), f"{seed=}"


def test_an_area_is_a_mean_over_shares() -> None:
    shares = np.linspace(0, 1, 101)[:, None]
    assert area(shares * [1, 2]) == pytest.approx([0.5, 1.0])
    assert area(np.array([[0.3, 0.4]])) == pytest.approx([0.3, 0.4])


def test_a_gain_counts_only_where_the_costly_expert_alone_is_the_better_one(
    gaussians: Callable[..., EmbeddingSet],
) -> None:
    data = gaussians(0, n_per_class=4)
    good = _cascade(1)
    bad = dataclasses.replace(good, cheap_hits=good.costly_hits, costly_hits=good.cheap_hits)
    assert good.is_worthwhile
    assert not bad.is_worthwhile
    gains = [*gains_of(good, data), *gains_of(dataclasses.replace(bad, name="bad"), data)]
    (found,) = findings_of_gains(gains)
    assert (found.kind, found.n) == ("mixtures", 1)
    (whole,) = (g for g in gains[:8] if g.share is None and g.rival == BASELINE)
    assert found.curiosity == pytest.approx(whole.accuracy)
    assert found.curiosity - found.baseline == pytest.approx(whole.at_equal_bytes.estimate)
    assert "of 1 mixtures" in spoken(gains)
    assert "networks" in spoken(gains_of(_cascade(1, router_bytes=0), data))
    assert spoken(gains[8:]).startswith("There is nothing to choose")


def test_gains_are_corrected_together(gaussians: Callable[..., EmbeddingSet]) -> None:
    gains = gains_of(_cascade(1), gaussians(0, n_per_class=4))
    smallest = min(gains, key=lambda gain: gain.at_equal_share.p_value)
    after = corrected(gains)[gains.index(smallest)]
    expected = min(1.0, len(gains) * smallest.at_equal_share.p_value)
    assert after.p_values[0] == pytest.approx(expected)


def test_pairs_of_networks_differ_in_their_scheme_alone() -> None:
    def network(name: str, size_bytes: int, **model: Any) -> Variant:
        repeat: Any = type("Sized", (), {"scores": {"size_bytes": size_bytes}})
        config = TrialConfig(model=ModelConfig(**model))
        return Variant(name, config, [repeat], _said(0)[0])

    small = network("small", 10, schemes=("int1",), hidden=(8,))
    middle = network("middle", 20, schemes=("int4",), hidden=(8,))
    large = network("large", 30, schemes=("int8",), hidden=(8,))
    wide = network("wide", 99, schemes=("int8",), hidden=(16,))
    mixed = network("mixed", 50, schemes=("int1", "int8"), hidden=(8,))
    assert network_pairs([large, wide, middle, mixed, small]) == [(small, large)]
    assert network_pairs([small, wide, mixed]) == []


def test_a_mixtures_experts_are_asked_out_of_fold(mixture: Variant, clips: EmbeddingSet) -> None:
    cascade = cascade_of_mixture(mixture, clips)
    parts = packed_size_parts(mixture.config, clips)
    assert (cascade.cheap_bytes, cascade.costly_bytes) == (parts["expert_0"], parts["expert_1"])
    assert cascade.router_bytes == parts["router"]
    for m, repeat in enumerate(mixture.repeats):
        for row in range(len(clips.y)):
            model = repeat.models()[repeat.predictions.fold[row]]
            cheap, costly = model.expert_probabilities(clips.x[row : row + 1])[:, 0]
            assert cascade.cheap_hits[m, row] == (cheap.argmax() == clips.y[row])
            assert cascade.costly_hits[m, row] == (costly.argmax() == clips.y[row])
            assert cascade.uncertainties[BASELINE][m, row] == -cheap.max()
    assert cascade.uncertainties[CURIOSITY].tolist() == mixture.said.information.tolist()
    gap = cascade.costly_hits.astype(float) - cascade.cheap_hits
    assert cascade.uncertainties[ORACLE].tolist() == gap.tolist()


def test_two_networks_are_a_cascade_without_a_router(
    train: Callable[..., Variant], clips: EmbeddingSet
) -> None:
    cheap, costly = (train(clips, schemes=(scheme,), hidden=()) for scheme in ("int1", "int8"))
    assert network_pairs([costly, cheap]) == [(cheap, costly)]
    cascade = cascade_of_networks(cheap, costly, clips)
    assert cascade.name == "int1, then int8"
    assert cascade.router_bytes == 0
    assert cascade.cheap_bytes < cascade.costly_bytes
    assert cascade.cheap_hits.mean() == pytest.approx(
        np.mean([repeat.pooled_scores["accuracy"] for repeat in cheap.repeats])
    )
    assert cascade.costly_hits.mean() == pytest.approx(
        np.mean([repeat.pooled_scores["accuracy"] for repeat in costly.repeats])
    )
    assert not has_choice(cheap, clips)


# --- the tilt ---


def test_a_tilt_changes_the_routes_and_nothing_else(mixture: Variant, clips: EmbeddingSet) -> None:
    assert has_choice(mixture, clips)
    model = mixture.repeats[0].models()[0]
    same, strong = with_alpha(model, 0.0), with_alpha(model, 50.0)
    assert same.examine(clips.x).probabilities.tolist() == (
        model.examine(clips.x).probabilities.tolist()
    )
    assert strong.expert_probabilities(clips.x).tolist() == (
        model.expert_probabilities(clips.x).tolist()
    )
    plain, tilted_gates = (part.examine(clips.x).gates[:, 1].mean() for part in (same, strong))
    assert tilted_gates > plain  # toward more bits
    assert model.packed.header.model.curiosity.alpha == 0.0


def test_a_tilt_is_scored_out_of_fold_with_the_bytes_that_it_reads(
    mixture: Variant, clips: EmbeddingSet
) -> None:
    found = tilted(mixture, clips)
    assert tuple(tilt.alpha for tilt in found) == ALPHAS
    first = found[0]
    hits = mixture.said.probabilities.argmax(axis=2) == clips.y
    assert first.hits == pytest.approx(hits.mean(axis=0))
    expected = np.mean([repeat.scores["active_bytes"] for repeat in mixture.repeats])
    assert first.read_bytes == pytest.approx(expected)
    assert first.rerouted == 0.0
    # What is rerouted goes from the small expert to the large one.
    small, large = expert_bytes(mixture.config, clips)
    for tilt in found[1:]:
        more = tilt.read_bytes - first.read_bytes
        assert more == pytest.approx(tilt.rerouted * (large - small))


# --- clips from outside ---


def test_permuted_noise_keeps_every_feature_and_nothing_between_them() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1)) + np.array([[0.0, 10.0, 20.0]])
    noise = permuted_noise(x, 200, np.random.default_rng(1))
    assert not np.array_equal(noise, x)
    for feature in range(3):
        assert sorted(noise[:, feature]) == sorted(x[:, feature])
    assert np.corrcoef(x.T)[0, 1] == pytest.approx(1)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.3
    assert len(permuted_noise(x, 5, np.random.default_rng(1))) == 5
    assert permuted_noise(x, 9, rng).shape == (9, 3)


def test_gaussian_noise_has_each_features_mean_and_deviation() -> None:
    x = np.random.default_rng(0).normal(size=(300, 3)) * [1, 5, 0] + [0, 10, -4]
    noise = gaussian_noise(x, 4000, np.random.default_rng(1))
    assert noise.dtype == np.float32
    assert noise.mean(axis=0) == pytest.approx(x.mean(axis=0), abs=0.4)
    assert noise.std(axis=0) == pytest.approx(x.std(axis=0), rel=0.05)
    assert (noise[:, 2] == -4).all()


def test_outsiders_without_recordings_are_one_each() -> None:
    group = with_strangers(np.array(["b", "a", "b"]), 3, 2)
    assert group[0] == group[2]
    assert len(set(group.tolist())) == 4
    assert with_strangers(None, 3, 2).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(3))
def test_outsiders_are_ranked_among_the_clips_by_every_measure(seed: int) -> None:
    (inside, _), (outside, _) = _said(seed), _said(seed + 10, n=12)
    found = outsider_scores(inside, outside)
    assert tuple(found) == MEASURES
    is_outside = [0] * 24 + [1] * 12
    expected = np.mean(
        [
            metrics.roc_auc_score(is_outside, [*inside.information[m], *outside.information[m]])
            for m in range(3)
        ]
    )
    assert found[CURIOSITY](ONES[36]) == pytest.approx([expected]), f"{seed=}"
    sure = [part.probabilities.mean(axis=0).max(axis=1) for part in (inside, outside)]
    expected = metrics.roc_auc_score(is_outside, -np.concatenate(sure))
    assert found[OF_ENSEMBLE](ONES[36]) == pytest.approx([expected]), f"{seed=}"


# --- the command line ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["held_out={a: [Rein]}"], "held_out.a: no class 'Rein' (did you mean 'Rain'?)"),
        (["held_out={a: []}"], "`held_out.a` must name at least one class"),
        (["seeds=[1, 1]"], "`seeds` must be distinct"),
        (["model.depth=3"], "unknown key 'model.depth'"),
        (["nothing.yaml"], "no such"),
    ],
)
def test_bad_arguments_end_with_exit_code_2_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    files = [] if arguments[0].endswith(".yaml") else [DEFAULT]
    store = tmp_path / "store"
    assert main([*files, *arguments, "--store", str(store)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not store.exists()


def test_too_many_classes_held_out_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _study(tmp_path).replace("[class 3]", "[class 0, class 1, class 2]")
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    assert main([str(tmp_path / "study.yaml"), "--store", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err
    assert "held_out.last must leave at least 2 classes, but leaves 1" in error
    assert not (tmp_path / "store").exists()


def _study(folder: Path) -> str:
    """A small study beside its data; returns its text."""
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(4), 15)
    x = rng.normal(size=(4, 6))[y] * 1.5 + rng.normal(size=(60, 6))
    names = np.array([f"class {label}" for label in range(4)])
    fold = np.arange(60) // 4 % 3
    np.savez(folder / "made.npz", x=x, y=y, fold=fold, group=np.arange(60), class_names=names)
    text = f"""
name: sure
seeds: [11, 12, 13]
data: {{path: {folder / "made.npz"}, normalization: raw, n_folds: 3}}
fixed:
  model: {{hidden: [], input_dropout: 0.3}}
variants:
  one: {{model.schemes: [int1]}}
  eight: {{model.schemes: [int8]}}
  both: {{model.schemes: [int1, int8]}}
held_out:
  last: [class 3]
workers: 1
"""
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    return text


@pytest.mark.slow
def test_a_whole_run_writes_its_report_and_a_second_one_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _study(tmp_path)
    store = tmp_path / "store"
    command = [str(tmp_path / "study.yaml"), "--store", str(store), "--smoke"]
    assert main(command) == 0
    said = capsys.readouterr().out
    folder = store / "reports" / "sure_smoke"
    tables = {
        *("findings", "errors", "error_differences", "calibration", "escalation", "tilt"),
        *("escalation_both", "escalation_one_then_eight"),
        *("noise_permuted", "noise_gaussian", "held_out_last"),
    }
    pictures = {
        *("errors", "escalation_both", "escalation_one_then_eight"),
        *("noise_permuted", "noise_gaussian", "held_out_last"),
    }
    assert {file.stem for file in folder.glob("*.csv")} == tables
    assert {file.stem for file in folder.glob("*.png")} == pictures
    page = (folder / "report.html").read_text(encoding="utf-8")
    for text in ("Is it worth anything?", "Classes never seen: class 3", "curiosity.alpha"):
        assert text in page
        assert text in said
    assert "curiosity is better beyond chance in" in page
    with (folder / "errors.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["variant"] for row in rows} == {"one", "eight", "both"}
    assert {row["uncertainty"] for row in rows} == set(MEASURES)
    for row in rows:
        low, value, high = (float(row[f"AUROC{end}"]) for end in ("_low", "", "_high"))
        assert 0 <= low <= value <= high <= 1, row

    tracker = Tracker(Store(store))
    experiments = {name: tracker.experiment(name) for name in ("sure_smoke", "sure_smoke_last")}
    study = tracker.find_run(experiments["sure_smoke"], kind="study")
    assert study is not None
    artifacts = tracker.artifact_folder(study) / "report"
    assert {file.name for file in artifacts.iterdir()} == {file.name for file in folder.iterdir()}
    assert tracker.find_run(experiments["sure_smoke_last"], kind="study") is None

    n_trials = len(list((store / "repeats").glob("*.npz")))
    assert n_trials == 2 * 3 * 2  # seeds, variants, and both data sets
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(
        "qwave.sweep.pool.TrainingPool.submit", lambda *_: pytest.fail("trained again")
    )
    assert main(command) == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert len(list((store / "repeats").glob("*.npz"))) == n_trials
    assert tracker.find_run(experiments["sure_smoke"], kind="study") == study
    assert re.search(r"errors\.csv", capsys.readouterr().out)
