"""How far a study is: counts, the front and its hypervolume, kept up to date trial by trial."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from qwave.scores.pareto import hypervolume, non_dominated
from qwave.sweep.study import queued_again, trained_trials

# Trials drawn, repeats and refused ones included, for each trial of the budget.
_MAX_DRAWS_PER_TRIAL = 20
_NAMES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
# Accuracy and size in bytes.
Point = tuple[float, float]


class Progress:
    """The trials told so far. Reads the study once; then each trial is added as it is told.

    Attributes:
        counts: Number of trials that are ``complete``, ``pruned`` (over the size budget) and
            ``failed``; what was queued again counts nowhere, see `queued_again`.
        trained: The first complete trial of each configuration, by digest.
    """

    def __init__(self, study: Study) -> None:
        self.counts = dict.fromkeys(_NAMES.values(), 0)
        self.trained: dict[str, FrozenTrial] = {}
        self._study = study
        self._front: list[Point] = []
        again = queued_again(study)
        for trial in study.get_trials(deepcopy=False):
            self.add(trial, is_counted=trial.number not in again)

    def add(self, trial: FrozenTrial, *, is_counted: bool = True) -> None:
        """Take in a trial that has ended; any other changes nothing."""
        if trial.state in _NAMES and is_counted:
            self.counts[_NAMES[trial.state]] += 1
        if trial.state == TrialState.COMPLETE and trial.user_attrs["digest"] not in self.trained:
            self.trained[trial.user_attrs["digest"]] = trial
            self._front = _front_with(self._front, _point(trial))

    @property
    def n_told(self) -> int:
        """Number of trials that count."""
        return sum(self.counts.values())

    def n_left(self, n_trials: int) -> int:
        """Trials that are left of a budget of `n_trials`; those over the size budget are free."""
        if self.n_told >= n_trials * _MAX_DRAWS_PER_TRIAL:
            return 0
        return max(0, n_trials - self.counts["complete"] - self.counts["failed"])

    @property
    def front(self) -> list[Point]:
        """Accuracy and size of the front's members, smallest first, without repeats."""
        return sorted(set(self._front), key=lambda point: point[1])

    @property
    def hypervolume(self) -> float:
        """Hypervolume of the trained trials, see `qwave.scores.pareto.hypervolume`."""
        return _volume(self._study, self._front)


def hypervolume_by_trial(study: Study) -> list[tuple[int, float]]:
    """(trial number, hypervolume of the trained trials up to it)."""
    front: list[Point] = []
    volumes = []
    for trial in trained_trials(study):
        front = _front_with(front, _point(trial))
        volumes.append((trial.number, _volume(study, front)))
    return volumes


def _point(trial: FrozenTrial) -> Point:
    scores = trial.user_attrs["scores"]
    return float(scores["accuracy"]), float(scores["size_bytes"])


def _front_with(front: Sequence[Point], point: Point) -> list[Point]:
    """The front of these points and another one."""
    points = [*front, point]
    kept = non_dominated(*zip(*points, strict=True))
    return [member for member, is_kept in zip(points, kept, strict=True) if is_kept]


def _volume(study: Study, front: Sequence[Point]) -> float:
    return hypervolume(
        [accuracy for accuracy, _ in front],
        [size for _, size in front],
        reference_accuracy=study.user_attrs["reference_accuracy"],
        reference_bytes=study.user_attrs["reference_bytes"],
    )
