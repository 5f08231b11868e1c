"""Does an uncertainty find wrong predictions, and are the probabilities calibrated?

Scores of single models are means over the seeds, each about the errors of that seed's models. The
ensemble predicts the mean probabilities of all seeds, and makes fewer errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qwave.data import EmbeddingSet
from qwave.report import Cell, Column, Section, Table, forest_png
from qwave.scores import Interval, bootstrap_difference, bootstrap_mean, bootstrap_score, holm
from qwave.scores.evaluate import expected_calibration_error
from qwave.scores.uncertainty import WeightedScore, augrc, aurc, roc_auc
from qwave.sweep.confirm import LEVEL, RESAMPLE_SEED
from studies.curiosity.measures import (
    BASELINE,
    CURIOSITY,
    DISAGREEMENT,
    MEASURES,
    N_RESAMPLES,
    OF_ENSEMBLE,
    VARIANCE,
    Comparison,
    Finding,
    Variant,
    compared,
    findings_of,
    mean_score,
    of_pair,
    verdict,
)
from studies.presenting import metric_name

SCORES = {"AUROC": roc_auc, "AURC": aurc, "AUGRC": augrc}
PAIRS = ((CURIOSITY, BASELINE), (VARIANCE, BASELINE), (DISAGREEMENT, OF_ENSEMBLE))
# AUROC only tells how well a classifier ranks its own errors; AUGRC also counts them, and so can
# compare an ensemble with single models.
RISK_PAIRS = (*PAIRS, (OF_ENSEMBLE, BASELINE))
_SMALLEST = np.finfo(np.float32).tiny


def error_sections(
    variants: Sequence[Variant], data: EmbeddingSet
) -> tuple[list[Section], dict[str, float], list[Finding]]:
    """Sections, MLflow metrics, and findings for the head of the report."""
    scores = {
        variant.name: {name: weighted(variant, data.y, name) for name in SCORES}
        for variant in variants
    }
    mixtures = [variant.name for variant in variants if variant.is_mixture]
    ranking, risk = (
        compared(
            {name: of[score] for name, of in scores.items()},
            pairs,
            data.group,
            len(data.y),
            mixtures=mixtures,
        )
        for score, pairs in (("AUROC", PAIRS), ("AUGRC", RISK_PAIRS))
    )
    table, areas = scores_table(variants, scores, data)
    sections = [
        Section(
            "errors",
            "Does it find the errors?",
            "AUROC: chance that a wrong prediction is more uncertain than a right one (50 % "
            "knows nothing). AURC, AUGRC: mean error rate, and mean share of clips kept and "
            "wrong, when the least uncertain are kept (smaller is better). The ensemble's AUROC "
            "is about the ensemble's errors: compare it with single models by AUGRC.\n\n"
            "Mean over the seeds, 95 % interval over recordings.",
            table,
            forest_png(
                areas,
                title="Finding errors",
                subtitle="chance that a wrong prediction is more uncertain than a right one; "
                "mean over the seeds, 95 % interval over recordings",
                label="AUROC (%)",
            ),
        ),
        Section(
            "error_differences",
            "Against the largest probability",
            f"By AUROC. {verdicts(ranking, PAIRS)}.\n\nBy AUGRC. "
            f"{verdicts(risk, RISK_PAIRS, is_larger_better=False)}.\n\n"
            "Differences on the same resampled recordings; p-values of no difference, corrected "
            "by Holm over each column.",
            differences_table({"AUROC": ranking, "AUGRC": risk}),
        ),
        calibration_section(variants, data),
    ]
    values = {
        (variant, measure): found.estimate
        for measure, of in areas.items()
        for variant, found in of.items()
    }
    metrics = {
        metric_name(f"error_auroc/{variant}/{measure}"): value
        for (variant, measure), value in values.items()
    }
    first = of_pair(ranking, (CURIOSITY, BASELINE))
    return sections, metrics, findings_of(first, values)


def weighted(variant: Variant, y: np.ndarray, score: str) -> dict[str, WeightedScore]:
    """One of `SCORES` for each of `MEASURES`, mean over the seeds."""
    wrong, uncertainties = variant.wrong(y), variant.uncertainties()
    return {
        measure: mean_score(SCORES[score], wrong[measure], uncertainties[measure])
        for measure in MEASURES
    }


def verdicts(
    comparisons: Sequence[Comparison],
    pairs: Sequence[tuple[str, str]],
    *,
    is_larger_better: bool = True,
) -> str:
    """Verdicts on all pairs, as sentences without the last full stop."""
    return ". ".join(
        verdict(of_pair(comparisons, pair), is_larger_better=is_larger_better) for pair in pairs
    )


def scores_table(
    variants: Sequence[Variant],
    scores: Mapping[str, Mapping[str, Mapping[str, WeightedScore]]],
    data: EmbeddingSet,
) -> tuple[Table, dict[str, dict[str, Interval]]]:
    """Table of all scores with intervals; and the AUROC by measure and variant."""
    rows: list[tuple[Cell, ...]] = []
    areas: dict[str, dict[str, Interval]] = {measure: {} for measure in MEASURES}
    for variant in variants:
        for measure in MEASURES:
            found = {
                name: bootstrap_score(of[measure], data.group, len(data.y), seed=RESAMPLE_SEED)
                for name, of in scores[variant.name].items()
            }
            rows.append((variant.name, measure, *found.values()))
            areas[measure][variant.name] = found["AUROC"]
    columns = (
        Column("variant"),
        Column("uncertainty"),
        Column("AUROC", "share", 1),
        Column("AURC", "share"),
        Column("AUGRC", "share"),
    )
    return Table(columns, tuple(rows)), areas


def differences_table(comparisons: Mapping[str, Sequence[Comparison]]) -> Table:
    """One row for each pair, two columns for each score; some pairs lack a score."""
    found = {
        (c.variant, c.measure, c.against, score): c
        for score, parts in comparisons.items()
        for c in parts
    }
    order = {variant: index for index, variant in enumerate(dict.fromkeys(k[0] for k in found))}
    rows: list[tuple[Cell, ...]] = []
    for key in sorted(dict.fromkeys(key[:3] for key in found), key=lambda key: order[key[0]]):
        cells: list[Cell] = []
        for score in comparisons:
            c = found.get((*key, score))
            cells += [None, None] if c is None else [c.difference.interval, c.p]
        rows.append((*key, *cells))
    columns = [Column("variant"), Column("uncertainty"), Column("against")]
    for score in comparisons:
        columns += [Column(f"{score} difference", "share"), Column(f"p ({score})", "number", 3)]
    return Table(tuple(columns), tuple(rows))


def calibration_section(variants: Sequence[Variant], data: EmbeddingSet) -> Section:
    """NLL, Brier score and ECE of single models and of the ensemble."""
    rows: list[tuple[Cell, ...]] = []
    by_variant = []
    for variant in variants:
        single = losses(variant.probabilities, data.y)
        ensemble = losses(variant.probabilities.mean(axis=0, keepdims=True), data.y)
        by_variant.append(
            bootstrap_difference(
                ensemble["nll"],
                single["nll"],
                data.group,
                n_resamples=N_RESAMPLES,
                seed=RESAMPLE_SEED,
            )
        )
        for kind, found in (("single", single), ("ensemble", ensemble)):
            hits, nll, brier = (
                bootstrap_mean(found[name], data.group, seed=RESAMPLE_SEED)
                for name in ("hit", "nll", "brier")
            )
            rows.append((variant.name, kind, hits, nll, brier, float(found["ece"])))
    adjusted = holm([difference.p_value for difference in by_variant])
    gains = [difference.estimate for difference in by_variant]
    n_shown = sum(p <= LEVEL and gain < 0 for p, gain in zip(adjusted, gains, strict=True))
    text = (
        f"The ensemble changes the NLL by {np.mean(gains):+.3f} nats on average (from "
        f"{min(gains):+.3f} to {max(gains):+.3f}); it is lower beyond chance in {n_shown} of "
        f"{len(gains)} (Holm). It is {len(variants[0].probabilities)} files to ship and to run."
        "\n\nSingle: mean over the seeds, 95 % interval over recordings. ECE has no interval: a "
        "resample holds clips twice, and bins of fewer different clips look less calibrated."
    )
    columns = (
        Column("variant"),
        Column("models"),
        Column("accuracy", "share"),
        Column("NLL (nats)", "number", 3),
        Column("Brier", "number", 3),
        Column("ECE", "share"),
    )
    return Section(
        "calibration", "Are the probabilities right?", text, Table(columns, tuple(rows))
    )


def losses(probabilities: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Hits, NLL (nats) and Brier score (0 to 2) of each clip [n], and the ECE, means over seeds.

    Defined as in `qwave.scores.evaluate.score_predictions`; `probabilities` are [m, n, c].
    """
    p = probabilities.astype(np.float64)
    likelihood = np.take_along_axis(p, y[None, :, None], axis=2)[..., 0]
    one_hot = np.eye(p.shape[2])[y]
    return {
        "hit": (p.argmax(axis=2) == y).mean(axis=0),
        "nll": -np.log(np.maximum(likelihood, _SMALLEST)).mean(axis=0),
        "brier": ((p - one_hot) ** 2).sum(axis=2).mean(axis=0),
        "ece": np.mean([expected_calibration_error(y, part) for part in p]),
    }
