"""Does an uncertainty notice clips that belong to none of the classes?

A part of `studies.curiosity`. Outsiders are noise that looks like embeddings, or clips of classes
that a classifier was not trained on; each is shown to the models of one fold, beside whose test
clips it is ranked.

Notation: m seeds, n clips, o outsiders, d features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qwave.config import DataConfig
from qwave.data import EmbeddingSet, Fold, make_folds
from qwave.report import Cell, Column, Section, Table, forest_png
from qwave.scores import Interval, bootstrap_score
from qwave.scores.uncertainty import WeightedScore, roc_auc
from qwave.sweep import Repeat
from studies.curiosity_measures import (
    BASELINE,
    CURIOSITY,
    DISAGREEMENT,
    MEASURES,
    OF_ENSEMBLE,
    RESAMPLE_SEED,
    VARIANCE,
    Finding,
    Said,
    Variant,
    compared,
    findings_of,
    of_pair,
    verdict,
)
from studies.presenting import metric_name

NOISE_SEED = 0
PAIRS = tuple((measure, BASELINE) for measure in (CURIOSITY, VARIANCE, DISAGREEMENT, OF_ENSEMBLE))


def permuted_noise(x: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """Clips [n, d] whose every feature is that of some clip of x, each of another one.

    Marginal distributions are kept, and whatever features have to do with each other is lost. At
    most as many clips as x has.
    """
    return generator.permuted(x, axis=0)[:n]


def gaussian_noise(x: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """Clips [n, d] of independent normal features, with mean and deviation of those of x."""
    drawn = generator.normal(x.mean(axis=0), x.std(axis=0), size=(n, x.shape[1]))
    return drawn.astype(np.float32)


NOISES = {"permuted": permuted_noise, "gaussian": gaussian_noise}
HEADINGS = {
    "permuted": "Noise: every feature from another clip",
    "gaussian": "Noise: Gaussian features",
}


def noise_sections(
    variants: Sequence[Variant], data: EmbeddingSet, config: DataConfig
) -> tuple[list[Section], dict[str, float], list[Finding]]:
    """Sections, metrics, and findings for the head of the report."""
    folds = make_folds(data, config)
    sections: list[Section] = []
    metrics: dict[str, float] = {}
    findings: list[Finding] = []
    for name in NOISES:
        outsiders = [noise_of(name, data.x, fold) for fold in folds]
        n_outsiders = sum(map(len, outsiders))
        said = [examined(variant.repeats, outsiders) for variant in variants]
        group = with_strangers(data.group, len(data.y), n_outsiders)
        section, found, finding = outsider_section(
            variants,
            said,
            group,
            name=f"noise_{name}",
            heading=HEADINGS[name],
            text=f"{n_outsiders} clips of noise, made of the training clips of each fold, beside "
            f"its test clips.",
        )
        sections.append(section)
        metrics |= found
        findings += finding
    return sections, metrics, findings


def noise_of(name: str, x: np.ndarray, fold: Fold) -> np.ndarray:
    """As many clips of noise as the fold has test clips, made of its training clips."""
    generator = np.random.default_rng([NOISE_SEED, fold.index])
    return NOISES[name](x[fold.train], min(len(fold.test), len(fold.train)), generator)


def held_out_section(
    split: str,
    classes: Sequence[str],
    variants: Sequence[Variant],
    data: EmbeddingSet,
    config: DataConfig,
) -> tuple[Section, dict[str, float], list[Finding]]:
    """Clips of classes that were held out.

    Args:
        split: Its name.
        classes: Those held out.
        variants: Trained on the other classes.
        data: All classes.
        config: Of the data.
    """
    is_outside = np.isin(data.y, [data.class_names.index(name) for name in classes])
    rows = [fold.test[is_outside[fold.test]] for fold in make_folds(data, config)]
    said = [examined(variant.repeats, [data.x[part] for part in rows]) for variant in variants]
    group = None
    if data.group is not None:
        group = np.concatenate([data.group[~is_outside], data.group[np.concatenate(rows)]])
    return outsider_section(
        variants,
        said,
        group,
        name=f"held_out_{split}",
        heading=f"Classes never seen: {', '.join(classes)}",
        text=f"Trained on the other {data.num_classes - len(classes)} classes; "
        f"{int(is_outside.sum())} clips of the classes never seen, beside the test clips of the "
        "same fold.",
    )


def examined(repeats: Sequence[Repeat], outsiders: Sequence[np.ndarray]) -> Said:
    """What each seed's models say of the outsiders of their folds, [o of the fold, d] each."""
    found = []
    for repeat in repeats:
        parts = [
            model.examine(x) for model, x in zip(repeat.models(), outsiders, strict=True) if len(x)
        ]
        found.append(
            [
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("probabilities", "mutual_information", "variance")
            ]
        )
    return Said(*(np.array(values) for values in zip(*found, strict=True)))


def with_strangers(group: np.ndarray | None, n: int, n_outsiders: int) -> np.ndarray:
    """Recordings of n clips, and of outsiders that have none: each is one for itself."""
    known = np.arange(n) if group is None else np.unique(group, return_inverse=True)[1]
    strangers: np.ndarray = np.concatenate([known, known.max() + 1 + np.arange(n_outsiders)])
    return strangers


def outsider_scores(inside: Said, outside: Said) -> dict[str, WeightedScore]:
    """AUROC of outsiders among clips, of each of `MEASURES`; the clips first, then outsiders."""
    n, n_outsiders = inside.information.shape[1], outside.information.shape[1]
    is_outside = np.repeat([False, True], [n, n_outsiders])
    return {
        measure: roc_auc(is_outside, uncertainty)
        for measure, uncertainty in inside.followed_by(outside).uncertainties().items()
    }


def outsider_section(
    variants: Sequence[Variant],
    outside: Sequence[Said],
    group: np.ndarray | None,
    *,
    name: str,
    heading: str,
    text: str,
) -> tuple[Section, dict[str, float], list[Finding]]:
    """AUROC of every measure, and its difference to the largest probability."""
    scores: Mapping[str, Mapping[str, WeightedScore]] = {
        variant.name: outsider_scores(variant.said, said)
        for variant, said in zip(variants, outside, strict=True)
    }
    n = variants[0].said.information.shape[1] + outside[0].information.shape[1]
    mixtures = [variant.name for variant in variants if variant.is_mixture]
    comparisons = compared(scores, PAIRS, group, n, mixtures=mixtures)
    differences = {(c.variant, c.measure): c for c in comparisons}
    areas: dict[str, dict[str, Interval]] = {measure: {} for measure in MEASURES}
    rows: list[tuple[Cell, ...]] = []
    for variant in variants:
        for measure in MEASURES:
            found = bootstrap_score(scores[variant.name][measure], group, n, seed=RESAMPLE_SEED)
            c = differences.get((variant.name, measure))
            against = (None, None) if c is None else (c.difference.interval, c.p)
            rows.append((variant.name, measure, found, *against))
            areas[measure][variant.name] = found
    columns = (
        Column("variant"),
        Column("uncertainty"),
        Column("AUROC", "share", 1),
        Column(f"difference to {BASELINE}", "share", 1),
        Column("p (Holm)", "number", 3),
    )
    verdicts = ". ".join(verdict(of_pair(comparisons, pair)) for pair in PAIRS)
    section = Section(
        name,
        heading,
        f"{text}\n\nBy AUROC. {verdicts}.\n\nAUROC: chance that one from outside is more "
        "uncertain than a clip (50 % knows nothing). Mean over the seeds, 95 % interval over "
        "recordings.",
        Table(columns, tuple(rows)),
        forest_png(
            areas,
            title=heading,
            subtitle="chance that a clip from outside is more uncertain than a test clip; mean "
            "over the seeds, 95 % interval over recordings",
            label="AUROC (%)",
        ),
    )
    values = {
        (variant, measure): found.estimate
        for measure, of in areas.items()
        for variant, found in of.items()
    }
    metrics = {
        metric_name(f"{name}_auroc/{variant}/{measure}"): value
        for (variant, measure), value in values.items()
    }
    findings = findings_of(f"{heading} (AUROC)", of_pair(comparisons, PAIRS[0]), values)
    return section, metrics, findings
