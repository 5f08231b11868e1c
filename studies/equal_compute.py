"""Two searches of equal training compute.

Compute is counted and not timed: seconds vary with what else a machine does, and the same command
would compare other searches every time. Counted is what a trial's training reads: training rows
(of all folds) x epochs x weights that one clip meets, the router's and those of its top-k experts.
Left out is what is no more for a mixture than for one expert: the teacher of distillation, which
all trials share, and the predictions after training. With `train.patience` it is an upper bound.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import warnings
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from optuna.study import Study
from optuna.trial import TrialState

from qwave.config import ConfigError, ModelConfig
from qwave.data import EmbeddingSet, make_folds
from qwave.scores import FrontPoint
from qwave.scores.pareto import non_dominated
from qwave.store import Store
from qwave.sweep import (
    Plan,
    StudyStoppedError,
    TrialFailedError,
    collect_points,
    front_of,
    load_study,
    queued_again,
    run_sweep,
)
from qwave.sweep.report import trial_config
from qwave.text import for_terminal

# Trials of the cheaper search, for each that was asked for: a search that stays among small
# networks would need hundreds to catch up with one that looks at large ones.
MAX_EXTENSION = 4


class Cost(NamedTuple):
    """What one trial took: its number, weights read in training, and seconds as measured."""

    number: int
    compute: int
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """A search, up to where its compute equals the other's.

    Attributes:
        study: With all of its trials.
        points: What was trained up to there, by number; `is_front` is about these alone.
        costs: Cost of each trial that was trained up to there.
        n_left_out: Trials that were trained beyond.
    """

    study: Study
    points: list[FrontPoint]
    costs: list[Cost]
    n_left_out: int

    @property
    def compute(self) -> int:
        """Weights read in training."""
        return total(self.costs)

    @property
    def seconds(self) -> float:
        """Measured time of all trials: training, packing, predictions."""
        return sum(cost.seconds for cost in self.costs)

    @property
    def front(self) -> list[FrontPoint]:
        """Members, smallest first."""
        return front_of(self.points)


def weights_per_clip(model: ModelConfig, in_features: int, num_classes: int) -> int:
    """Weights that one clip meets: the router's and those of top-k experts, without biases."""
    expert = sum(i * o for i, o in pairwise((in_features, *model.hidden, num_classes)))
    router = sum(i * o for i, o in pairwise(model.router_widths(in_features)))
    return router + model.top_k * expert


def training_rows(plan: Plan) -> int:
    """Rows that one epoch of a trial reads, over all folds."""
    with warnings.catch_warnings():
        # `plan_sweep` has said already what there is to say about these folds.
        warnings.simplefilter("ignore", UserWarning)
        return sum(len(fold.train) for fold in make_folds(plan.data, plan.sweep.data))


def trial_costs(study: Study, data: EmbeddingSet, n_rows: int) -> list[Cost]:
    """Costs of all trials that were trained, by number, also of those whose training diverged.

    What was not trained costs nothing: configurations that are known, or too large.
    """
    costs = []
    again = queued_again(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL)):
        attributes = trial.user_attrs
        is_trained = trial.state == TrialState.COMPLETE and "outcome" not in attributes
        has_failed = attributes.get("outcome") == "failed" and trial.number not in again
        if is_trained or has_failed:
            config = trial_config(trial)
            weights = weights_per_clip(config.model, data.x.shape[1], data.num_classes)
            compute = n_rows * config.train.epochs * weights
            costs.append(Cost(trial.number, compute, float(attributes.get("seconds", 0.0))))
    return costs


def nearest_prefix(values: Sequence[int], target: int) -> int:
    """How many of the first values have the sum nearest to a target: 1 or more; the fewest of
    equally near ones."""
    gaps = [abs(reached - target) for reached in accumulate(values)]
    return gaps.index(min(gaps)) + 1


def equal_searches(
    plans: Sequence[Plan], store: Store, *, is_fresh: bool = False, is_retry: bool = False
) -> tuple[Search, ...]:
    """Run sweeps on the same data, and cut them to equal compute.

    Each has its own number of trials first. The one that then has the least compute goes on, a
    third of its trials at a time, until it reaches the one that has the most, or `MAX_EXTENSION`
    times its trials. Then each ends at the trial where its compute is nearest to what both have.

    Raises:
        ConfigError: A search has no result within that compute.
        TrialFailedError: All trials of a search failed.
        StudyStoppedError: A person asked to stop.
    """
    n_rows = training_rows(plans[0])
    n_done = [
        _ran(plan, plan.sweep.budget.n_trials, store, is_fresh=is_fresh, is_retry=is_retry)
        for plan in plans
    ]

    def costs(place: int) -> list[Cost]:
        return trial_costs(load_study(store, plans[place].sweep.name), plans[0].data, n_rows)

    # Without what an earlier start went on with: the same search goes on again, and as far.
    first = [
        total(costs(place), first_told(load_study(store, plan.sweep.name), plan))
        for place, plan in enumerate(plans)
    ]
    cheapest, wanted = first.index(min(first)), max(first)
    n_trials = plans[cheapest].sweep.budget.n_trials
    limit = MAX_EXTENSION * n_trials
    while total(costs(cheapest)) < wanted and n_done[cheapest] < limit:
        before = n_done[cheapest]
        n_wanted = min(limit, before + math.ceil(n_trials / 3))
        n_done[cheapest] = _ran(plans[cheapest], n_wanted, store)
        if n_done[cheapest] == before:
            break  # All that is drawn is over the size budget.
    common = min(wanted, total(costs(cheapest)))
    return tuple(
        cut(load_study(store, plan.sweep.name), costs(place), common)
        for place, plan in enumerate(plans)
    )


def first_told(study: Study, plan: Plan) -> int:
    """Number of the trial that was the last of those that the sweep asks for.

    Of those with a result and those that failed, as the sweep counts them; all, where there are
    fewer.
    """
    again = queued_again(study)
    told = [
        trial.number
        for trial in study.get_trials(deepcopy=False)
        if trial.state == TrialState.COMPLETE
        or (
            trial.state == TrialState.FAIL
            and "outcome" in trial.user_attrs
            and trial.number not in again
        )
    ]
    return max(told[: plan.sweep.budget.n_trials], default=-1)


def total(costs: Sequence[Cost], last: int | None = None) -> int:
    """Compute of trials, up to the number `last`."""
    return sum(cost.compute for cost in costs if last is None or cost.number <= last)


def cut(study: Study, costs: Sequence[Cost], target: int) -> Search:
    """A search up to the trial where its compute is nearest to a target.

    Raises:
        ConfigError: The search has no result up to there.
    """
    n_kept = nearest_prefix([cost.compute for cost in costs], target) if costs else 0
    kept = list(costs[:n_kept])
    numbers = {cost.number for cost in kept}
    points = [point for point in collect_points(study) if point.number in numbers]
    if not points:
        raise ConfigError(
            f"the search {study.study_name!r} has no result within the compute of the other; "
            "raise budget.n_trials"
        )
    is_front = non_dominated(
        [point.accuracy for point in points], [point.size_bytes for point in points]
    )
    points = [
        dataclasses.replace(point, is_front=bool(is_member))
        for point, is_member in zip(points, is_front, strict=True)
    ]
    return Search(study, points, kept, len(costs) - n_kept)


def _ran(
    plan: Plan, n_trials: int, store: Store, *, is_fresh: bool = False, is_retry: bool = False
) -> int:
    """Run a sweep up to a number of trials; returns how many have a result or failed."""
    budget = dataclasses.replace(plan.sweep.budget, n_trials=n_trials)
    plan = dataclasses.replace(plan, sweep=dataclasses.replace(plan.sweep, budget=budget))
    outcome = run_sweep(plan, store, is_fresh=is_fresh, is_retry=is_retry)
    if outcome.is_interrupted:
        raise StudyStoppedError("stopped: the same command goes on from here")
    if not outcome.counts["complete"] and outcome.first_failure:
        raise TrialFailedError(
            f"all {outcome.counts['failed']} trials of the search {plan.sweep.name!r} failed; "
            f"{outcome.first_failure}. The same command with --retry-failed trains them again"
        )
    if outcome.first_failure:
        print(
            f"note: {plan.sweep.name}: {outcome.counts['failed']} trials failed; --retry-failed "
            "trains them again; the first: "
            f"{for_terminal(outcome.first_failure, keeps_lines=True)}",
            file=sys.stderr,
        )
    return outcome.counts["complete"] + outcome.counts["failed"]
