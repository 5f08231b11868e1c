"""Two searches of equal training compute.

Compute is counted and not timed: seconds vary with what else a machine does, and the same command
would compare other searches every time. Counted are training rows (of all folds) x epochs x
weights that one clip meets: the router's and those of its top-k experts. Not counted is what costs
a mixture no more than one expert: the teacher of distillation, which all trials share, and the
predictions after training.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from optuna.study import Study
from optuna.trial import TrialState

from qwave.config import ConfigError, ModelConfig, StudyStoppedError, TrialFailedError
from qwave.data import EmbeddingSet
from qwave.scores import FrontPoint
from qwave.scores.pareto import non_dominated
from qwave.store import Store
from qwave.sweep import Plan, collect_points, front_of, load_study, queued_again, run_sweep
from qwave.sweep.report import trial_config
from qwave.text import for_terminal

# The cheaper search runs at most this many times the trials of the sweep: a search that stays
# among small networks would need hundreds to catch up with one that trains large ones.
MAX_EXTENSION = 4


class Cost(NamedTuple):
    """Cost of one trial: its number, the weights read in training, and the measured seconds."""

    number: int
    compute: int
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """A search, up to where its compute equals the other's.

    Attributes:
        study: The Optuna study with all trials.
        points: Complete trials up to the cut, by number; `is_front` is about these alone.
        costs: Cost of each trial trained up to the cut.
        n_left_out: Number of trials that were trained after the cut.
    """

    study: Study
    points: list[FrontPoint]
    costs: list[Cost]
    n_left_out: int

    @property
    def compute(self) -> int:
        """Weights read in training, over all trials up to the cut."""
        return total(self.costs)

    @property
    def seconds(self) -> float:
        """Measured seconds of all trials up to the cut: training, packing, predictions."""
        return sum(cost.seconds for cost in self.costs)

    @property
    def front(self) -> list[FrontPoint]:
        """Members of the front, smallest first."""
        return front_of(self.points)


def weights_per_clip(model: ModelConfig, in_features: int, num_classes: int) -> int:
    """Weights that one clip meets: the router's and those of top-k experts, without biases."""
    expert = sum(i * o for i, o in pairwise((in_features, *model.hidden, num_classes)))
    router = sum(i * o for i, o in pairwise(model.router_widths(in_features)))
    return router + model.top_k * expert


def training_rows(plan: Plan) -> int:
    """Rows that one epoch of a trial reads, over all folds."""
    return sum(len(fold.train) for fold in plan.folds)


def trial_costs(study: Study, data: EmbeddingSet, n_rows: int) -> list[Cost]:
    """Costs of all trained trials, by number, including those whose training diverged.

    Configurations that were known already or too large were not trained and have no cost.
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
    """Length, at least 1, of the beginning of `values` whose sum is nearest to `target`; the
    shortest of equally near ones."""
    gaps = [abs(reached - target) for reached in accumulate(values)]
    return gaps.index(min(gaps)) + 1


def equal_searches(
    plans: Sequence[Plan], store: Store, *, is_fresh: bool = False, is_retry: bool = False
) -> tuple[Search, ...]:
    """Run sweeps on the same data, and cut them to equal compute.

    First each sweep runs its own number of trials. The sweep with the least compute then goes on,
    a third of its trials at a time, until it reaches the one with the most, or `MAX_EXTENSION`
    times its trials. Then each is cut at the trial where its compute is nearest to the common one.

    Raises:
        ConfigError: A search has no result within that compute.
        TrialFailedError: All trials of a search failed.
        StudyStoppedError: A person asked to stop.
    """
    n_rows = training_rows(plans[0])
    n_done = [
        _run_up_to(plan, plan.sweep.budget.n_trials, store, is_fresh=is_fresh, is_retry=is_retry)
        for plan in plans
    ]

    def costs(index: int) -> list[Cost]:
        return trial_costs(load_study(store, plans[index].sweep.name), plans[0].data, n_rows)

    # Trials that an earlier start added are not counted here, so that the same search is extended
    # again, equally far.
    first = [
        total(costs(index), first_told(load_study(store, plan.sweep.name), plan))
        for index, plan in enumerate(plans)
    ]
    cheapest, wanted = first.index(min(first)), max(first)
    n_trials = plans[cheapest].sweep.budget.n_trials
    limit = MAX_EXTENSION * n_trials
    while total(costs(cheapest)) < wanted and n_done[cheapest] < limit:
        before = n_done[cheapest]
        n_wanted = min(limit, before + math.ceil(n_trials / 3))
        n_done[cheapest] = _run_up_to(plans[cheapest], n_wanted, store)
        if n_done[cheapest] == before:
            break  # All that is drawn is over the size budget.
    common = min(wanted, total(costs(cheapest)))
    return tuple(
        cut(load_study(store, plan.sweep.name), costs(index), common)
        for index, plan in enumerate(plans)
    )


def first_told(study: Study, plan: Plan) -> int:
    """Number of the last trial that the sweep's own number of trials includes; -1 without any.

    Counted as the sweep counts: trials with a result and trials that failed.
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
    """Compute of all trials, or of those up to the number `last`."""
    return sum(cost.compute for cost in costs if last is None or cost.number <= last)


def cut(study: Study, costs: Sequence[Cost], target: int) -> Search:
    """The search up to the trial where its compute is nearest to `target`.

    Raises:
        ConfigError: The search has no result up to that trial.
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


def _run_up_to(
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
