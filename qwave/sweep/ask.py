"""Which trial comes next: the sampler, what it is shown, and the configuration that it draws."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from qwave.config import SweepConfig, TrialConfig
from qwave.space import baseline_params, suggest

_SEES_HYPERVOLUME = ("tpe", "gp")


@dataclasses.dataclass(frozen=True)
class Draw:
    """A trial that has been asked for.

    Attributes:
        trial: The trial as Optuna has it.
        config: Canonical configuration of the trial.
        digest: Digest of the configuration.
    """

    trial: Trial
    config: TrialConfig
    digest: str


class Asker:
    """Asks for the trials of a study, one after the other."""

    def __init__(self, study: Study, sweep: SweepConfig) -> None:
        self._study, self._sweep = study, sweep
        self._twin = LogSizeTwin(study, sweep)

    def ask(self) -> Draw:
        """Ask for the next trial: a queued one, else one that the sampler draws.

        The sampler's seed follows from the sweep's seed and the trial's number: a study that is
        resumed with the seed it began with would draw its first trials again.
        """
        study, sweep = self._study, self._sweep
        trials = study.get_trials(deepcopy=False)
        study.sampler = make_sampler(sweep, len(trials))
        is_queued = any(trial.state == TrialState.WAITING for trial in trials)
        if not is_queued and sweep.sampler.name in _SEES_HYPERVOLUME:
            study.enqueue_trial(self._twin.draw(trials, study.sampler))
        trial = study.ask()
        config = suggest(sweep, trial)
        draw = Draw(trial, config, config.digest)
        trial.set_user_attr("digest", draw.digest)
        trial.set_user_attr("schemes", " ".join(config.model.schemes))
        trial.set_user_attr("config", dataclasses.asdict(config))
        return draw


class LogSizeTwin:
    """A copy of a study in memory that records sizes as logarithms, for the sampler to see.

    TPE weighs the good trials by the hypervolume that each adds. In bytes, all that lies below
    50 kB is one per cent of the axis, and nearly all weight goes to the front's largest member.
    The study itself records bytes, which is what people want to read.
    """

    def __init__(self, study: Study, sweep: SweepConfig) -> None:
        self._sweep = sweep
        self._is_size = [objective.score.endswith("_bytes") for objective in sweep.objectives]
        self._copy = optuna.create_study(directions=study.directions)
        self._n_copied = 0
        # Numbers of the trials that were running when they were copied, and their copies' numbers.
        self._running: dict[int, int] = {}

    def draw(self, trials: Sequence[FrozenTrial], sampler: BaseSampler) -> dict[str, Any]:
        """The parameters of the next trial.

        Args:
            trials: All trials of the study, by number; none of them waits.
            sampler: Draws the trial.
        """
        self._follow(trials)
        self._copy.sampler = sampler
        drawn = self._copy.ask()
        suggest(self._sweep, drawn)
        # Samplers pass over failed trials. Left running, it would carry what the sampler noted on
        # it, which the study's own trial of these parameters does not.
        self._copy.tell(drawn, state=TrialState.FAIL)
        return drawn.params

    def _follow(self, trials: Sequence[FrozenTrial]) -> None:
        """Take over what has happened in the study since the last draw."""
        ended = [number for number in self._running if trials[number].state.is_finished()]
        for number in ended:
            trial = trials[number]
            self._copy.tell(self._running.pop(number), self._logarithms(trial), trial.state)
        for trial in trials[self._n_copied :]:
            trial = copy.copy(trial)
            # Optuna copies what it is given, deeply, and attributes are nine tenths of a trial.
            trial.user_attrs = {}
            trial.values = self._logarithms(trial)
            self._copy.add_trial(trial)
            if not trial.state.is_finished():
                self._running[trial.number] = len(self._copy.get_trials(deepcopy=False)) - 1
        self._n_copied = len(trials)

    def _logarithms(self, trial: FrozenTrial) -> list[float] | None:
        if trial.values is None:
            return None
        pairs = zip(trial.values, self._is_size, strict=True)
        return [math.log10(value) if is_size else value for value, is_size in pairs]


def startup_trials(sweep: SweepConfig) -> int:
    """Trials that are drawn before the sampler learns from their results; baselines included."""
    if sweep.sampler.name == "random":
        return sweep.budget.n_trials
    n_baselines = len(baseline_params(sweep)) if sweep.sampler.baselines else 0
    # Ten random trials besides the baselines: with two, TPE stayed among linear networks of one
    # and two bits for half of a study.
    return n_baselines + 10


def make_sampler(sweep: SweepConfig, number: int) -> BaseSampler:
    """The sampler that draws the trial of that number."""
    text = f"{sweep.sampler.seed}/{number}".encode()
    seed = int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
    name = sweep.sampler.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "tpe":
            # Multivariate and grouped: parameters that only some trials have are modelled
            # together with the rest. Draws above the size budget fall from 6-9 % to 4 %.
            return optuna.samplers.TPESampler(
                n_startup_trials=startup_trials(sweep), seed=seed, multivariate=True, group=True
            )
        if name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)
