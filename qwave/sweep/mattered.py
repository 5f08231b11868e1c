"""Which searched parameters mattered for a score, how sure that is, and what each choice gave.

Importance: a forest of extremely randomised trees is fitted to half of the trials and predicts the
other half, as they are and with the values of one parameter shuffled among them. Half of the
growth of the squared error, as a share of the variance, estimates the share of the spread that
goes with the parameter (its total Sobol index in the forest's eyes). What is predicted is a
trial's rank by the score: of 60 trials between 73.8 % and 95.2 %, the lowest alone made a third of
the variance. This is repeated for many random halves; the interval is the mean, 1.96 standard
deviations of the halves to each side: leaving out half of a sample at random moves an estimate by
as much as another sample of its size would (Shao and Wu 1989, the delete-d jackknife at d = n/2).

A parameter that only some trials have is shuffled among those, and its share counted over them.
Optuna's own evaluators take only parameters that all trials have, and give no intervals.

References:
    L. Breiman, "Random Forests", Machine Learning 45, 2001, section 10.
    P. Geurts, D. Ernst, L. Wehenkel, "Extremely randomized trees", Machine Learning 63, 2006.
    J. Shao, C. F. J. Wu, "A general theory for jackknife variance estimation", Annals of
    Statistics 17, 1989.
    H. Ishwaran, M. Lu, "Standard errors and confidence intervals for variable importance in
    random forest regression", Statistics in Medicine 38, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

from qwave.report import Column, Table
from qwave.scores import Interval

MIN_TRIALS = 20
"""Half of them have to show something to a forest."""

MAX_TRIALS = 300
"""More are thinned to this number at random: the intervals are narrow by then."""

_N_SPLITS = 40
_N_TREES = 30
_N_SHUFFLES = 6
_MOST_CHOICES = 8  # of whole numbers that are shown choice by choice


def parameter_importances(
    trials: Sequence[FrozenTrial], scores: Sequence[float], *, seed: int
) -> dict[str, Interval]:
    """The share of the spread of the scores' ranks that goes with each parameter, 0 to about 1.

    Args:
        trials: Complete trials, one for each configuration.
        scores: The score of each trial; finite.
        seed: Equal arguments give equal results.

    Returns:
        By parameter, each with its 95 % interval, whose low end may be below 0. Parameters that
        never changed are left out. Empty with fewer than `MIN_TRIALS` trials, or when all scores
        are equal.
    """
    generator = np.random.default_rng(seed)
    if len(trials) < MIN_TRIALS:
        return {}
    if len(trials) > MAX_TRIALS:
        kept = np.sort(generator.choice(len(trials), MAX_TRIALS, replace=False))
        trials, scores = [trials[i] for i in kept], [scores[i] for i in kept]
    y = _ranks(scores)
    names, values, is_drawn = _matrix(trials)
    if not names or np.ptp(y) == 0:
        return {}
    shares = np.array([_shares_of_half(values, is_drawn, y, generator) for _ in range(_N_SPLITS)])
    means, spreads = shares.mean(axis=0), shares.std(axis=0, ddof=1)
    return {
        name: Interval(float(mean), float(mean - 1.96 * spread), float(mean + 1.96 * spread))
        for name, mean, spread in zip(names, means, spreads, strict=True)
    }


def _ranks(scores: Sequence[float]) -> np.ndarray:
    """The rank of each score, float64 [n]; equal scores have the mean of their ranks."""
    # Equal accuracies may differ in the last bit.
    _, index, counts = np.unique(np.round(scores, 9), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[index])


def choice_tables(trials: Sequence[FrozenTrial], keys: Sequence[str]) -> dict[str, Table]:
    """For each parameter with few choices: the choices, their trials, and the best of each.

    Args:
        trials: Complete trials, one for each configuration, with their scores.
        keys: Searched parameters, in the order to be shown.

    Returns:
        By parameter. A parameter with one choice, real numbers, or many whole numbers has no
        table. Trials that have no such parameter are the last row.
    """
    columns = (
        Column("choice"),
        Column("trials", "number", 0),
        Column("best accuracy", "share", 1),
        Column("its size", "bytes"),
        Column("trial", "number", 0),
    )
    tables = {}
    for key in keys:
        choices = _choices_of(trials, key)
        rows: list[tuple[Any, ...]] = []
        for choice in choices:
            having = [t for t in trials if key in t.params and t.params[key] == choice]
            rows.append((str(choice), *_best_of(having)))
        without = [t for t in trials if key not in t.params]
        if len(rows) < 2:
            continue
        if without:
            rows.append(("(not in use)", *_best_of(without)))
        tables[key] = Table(columns, tuple(rows))
    return tables


def _choices_of(trials: Sequence[FrozenTrial], key: str) -> list[Any]:
    """The choices of a parameter, in the order of the search space; none where there are many."""
    for trial in trials:
        distribution = trial.distributions.get(key)
        if isinstance(distribution, CategoricalDistribution):
            return list(distribution.choices)
        if isinstance(distribution, IntDistribution):
            n_choices = (distribution.high - distribution.low) // distribution.step + 1
            if n_choices <= _MOST_CHOICES:
                return list(range(distribution.low, distribution.high + 1, distribution.step))
        if distribution is not None:
            return []
    return []


def _best_of(trials: Sequence[FrozenTrial]) -> tuple[Any, ...]:
    """How many trials; accuracy, size and number of the best one, of ties the smallest."""
    if not trials:
        return 0, None, None, None

    def order(trial: FrozenTrial) -> tuple[float, float, int]:
        scores = trial.user_attrs["scores"]
        return -scores["accuracy"], scores["size_bytes"], trial.number

    best = min(trials, key=order)
    scores = best.user_attrs["scores"]
    return len(trials), float(scores["accuracy"]), int(scores["size_bytes"]), best.number


def _matrix(trials: Sequence[FrozenTrial]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of the p parameters that changed, their values [n, p], and which were drawn [n, p].

    Values drawn on a logarithmic scale are logarithms, choices their index; a parameter that a
    trial lacks lies below all values drawn.
    """
    names, columns, drawn = [], [], []
    for name in sorted({name for trial in trials for name in trial.params}):
        column = np.array([_number(trial, name) for trial in trials])
        has = np.isfinite(column)
        low, high = column[has].min(), column[has].max()
        if low == high:
            continue
        names.append(name)
        columns.append(np.where(has, column, low - (high - low)))
        drawn.append(has)
    if not names:
        return [], np.empty((len(trials), 0)), np.empty((len(trials), 0), dtype=bool)
    return names, np.stack(columns, axis=1), np.stack(drawn, axis=1)


def _number(trial: FrozenTrial, name: str) -> float:
    if name not in trial.params:
        return math.nan
    value, distribution = trial.params[name], trial.distributions[name]
    if isinstance(distribution, CategoricalDistribution):
        return float(distribution.choices.index(value))
    return math.log(value) if getattr(distribution, "log", False) else float(value)


def _shares_of_half(
    values: np.ndarray, is_drawn: np.ndarray, y: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Each parameter's share of the variance of y [n], from one random half to the other."""
    # Imported here: few commands write a report.
    from sklearn.tree import ExtraTreeRegressor

    n, p = values.shape
    order = generator.permutation(n)
    train, test = order[: n // 2], order[n // 2 :]
    tested = [values[test]]
    for column in range(p):
        having = np.flatnonzero(is_drawn[test, column])
        for _ in range(_N_SHUFFLES):
            shuffled = values[test].copy()
            shuffled[having, column] = shuffled[generator.permutation(having), column]
            tested.append(shuffled)
    # One prediction for all, which is what makes it fast: calls cost more than rows.
    rows = np.concatenate(tested).astype(np.float32)
    predicted = np.zeros(len(rows))
    for seed in generator.integers(2**31, size=_N_TREES).tolist():
        tree = ExtraTreeRegressor(min_samples_leaf=2, random_state=seed)
        predicted += tree.fit(values[train], y[train]).predict(rows) / _N_TREES
    errors = (predicted.reshape(len(tested), len(test)) - y[test]) ** 2
    growth = (errors[1:] - errors[0]).reshape(p, _N_SHUFFLES, len(test)).mean(axis=1)
    counts = np.maximum(is_drawn[test].sum(axis=0), 1)
    # Rows that lack a parameter were not shuffled: their growth is 0.
    return np.asarray(growth.sum(axis=1) / counts / (2 * y.var()))
