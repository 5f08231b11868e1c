"""How long a sweep will take on this machine: measured, not guessed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor

import optuna
from optuna.trial import FixedTrial

from qwave.config import QwaveError, TrainConfig, TrialConfig, WorkerLostError
from qwave.engine import teacher_key
from qwave.engine.train import N_CHECKPOINTS
from qwave.packing import packed_size_bytes
from qwave.space import baseline_params, suggest
from qwave.sweep.ask import startup_trials
from qwave.sweep.plan import Plan
from qwave.sweep.pool import TrainingPool, worker_count

_N_SAMPLES = 12
_N_EPOCHS = 5
# Draws of a long sweep: enough to know the share of each kind among them.
_MAX_DRAWS = 500


def expected_seconds(plan: Plan) -> float:
    """Wall time of a sweep whose trials all are like those drawn before the sampler learns.

    Trains a few of these configurations for a few epochs, in as many workers as the study will
    have: they take more time side by side than one alone. What is done once is measured once:
    starting the workers, and a teacher for all trials that share it. A sampler that learns leaves
    the large models behind: in three searches on ESC-10 its trials took 0.4 to 0.9 times what
    baselines took, and random ones 1.2 to 1.9 times.

    Raises:
        WorkerLostError: A worker was ended from outside.
        QwaveError: None of the configurations can be trained.
        ConfigError: As `qwave.processes.require_main_guard`.
    """
    sweep = plan.sweep
    drawn = expected_configs(plan)
    distinct = list({config.digest: config for config in drawn}.values())
    n_workers = worker_count(sweep.budget.workers, plan.device)
    start = time.perf_counter()
    with TrainingPool(n_workers, plan.data, plan.device, plan.folds) as pool:

        def seconds_of(configs: Sequence[TrialConfig]) -> list[float]:
            shorts = [shortened(config, _N_EPOCHS) for config in configs]
            futures = [pool.submit(short) for short in shorts]
            found, faults = [], []
            for future, short, config in zip(futures, shorts, configs, strict=True):
                try:
                    phases = future.result().result.phase_seconds
                except QwaveError as error:  # it diverges, as some of the study's trials may
                    faults.append(error)
                else:
                    found.append(scaled_seconds(phases, short.train, config.train))
            if faults and not found:
                raise faults[0]
            return found

        try:
            # The first trial of a worker imports and, once on a machine, compiles.
            plain = dataclasses.replace(
                distinct[0], train=dataclasses.replace(distinct[0].train, distillation=0.0)
            )
            seconds_of([plain] * n_workers)
            startup = time.perf_counter() - start
            distilled = [config for config in distinct if config.train.distillation]
            start = time.perf_counter()
            seconds_of(distilled[:1] * n_workers)
            teacher = time.perf_counter() - start
            trial_seconds = seconds_of(evenly(distinct, _N_SAMPLES))
        except BrokenExecutor as error:
            raise WorkerLostError(pool.why_lost("budget.workers")) from error
    return total_seconds(
        trial_seconds=sum(trial_seconds) / len(trial_seconds),
        n_trials=sweep.budget.n_trials * len(distinct) / len(drawn),
        n_parallel=min(n_workers, sweep.sampler.in_flight),
        startup_seconds=startup,
        teacher_seconds=teacher,
        n_teachers=len({teacher_key(config) for config in distilled}),
    )


def total_seconds(
    *,
    trial_seconds: float,
    n_trials: float,
    n_parallel: int,
    startup_seconds: float,
    teacher_seconds: float,
    n_teachers: int,
) -> float:
    """Wall time of a study of trials that run `n_parallel` at a time.

    Args:
        trial_seconds: Mean seconds of a trial, without its teacher.
        n_trials: Number of trials that are trained: each configuration once.
        n_parallel: Number of trials that run at a time, at least 1.
        startup_seconds: Seconds until the workers are ready.
        teacher_seconds: Seconds to train one teacher. All workers wait for the first.
        n_teachers: Number of different teachers.
    """
    rounds = max(n_trials / n_parallel, min(1.0, n_trials))
    return (
        startup_seconds
        + teacher_seconds * max(n_teachers / n_parallel, min(1, n_teachers))
        + trial_seconds * rounds
    )


def scaled_seconds(phases: Mapping[str, float], short: TrainConfig, full: TrainConfig) -> float:
    """Seconds of a whole trial, from the phases of a trial of fewer epochs.

    Args:
        phases: `TrialResult.phase_seconds` of the short trial: ``steps`` grow with the epochs,
            ``evaluate`` with the checkpoints, ten at most; the rest is done once.
        short: Training settings of the short trial.
        full: Training settings of the whole trial.
    """
    checkpoints = [min(train.epochs, N_CHECKPOINTS) for train in (short, full)]
    factors = {
        "steps": full.epochs / short.epochs,
        "evaluate": checkpoints[1] / checkpoints[0],
    }
    return sum(seconds * factors.get(name, 1.0) for name, seconds in phases.items())


def shortened(config: TrialConfig, n_epochs: int) -> TrialConfig:
    """A copy of a configuration that trains for `n_epochs` at most."""
    epochs = min(n_epochs, config.train.epochs)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=epochs))


def evenly(configs: Sequence[TrialConfig], number: int) -> list[TrialConfig]:
    """`number` of the configurations, at equal distances; all, if there are no more."""
    if len(configs) <= number:
        return list(configs)
    return [configs[index * len(configs) // number] for index in range(number)]


def expected_configs(plan: Plan) -> list[TrialConfig]:
    """The configurations that a sweep trains before its sampler learns, baselines first.

    All are within the size budget, and some may be equal. There are `startup_trials` of them, but
    no more than the sweep has trials, nor than 500.
    """
    sweep = plan.sweep
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=sweep.sampler.seed))
    n_wanted = min(sweep.budget.n_trials, startup_trials(sweep), _MAX_DRAWS)
    queued = iter(baseline_params(sweep) if sweep.sampler.baselines else ())
    configs: list[TrialConfig] = []
    while len(configs) < n_wanted:
        params = next(queued, None)
        config = suggest(sweep, study.ask() if params is None else FixedTrial(params))
        if packed_size_bytes(config, plan.data) <= sweep.budget.max_size_bytes:
            configs.append(config)
    return configs


def remaining_seconds(
    trial_seconds: Sequence[float], n_left: int, n_parallel: int, record_seconds: float
) -> float | None:
    """Wall time that the rest of a study will take, from the trials trained since its start.

    Args:
        trial_seconds: Seconds of each trial that was trained since this start. Trials of earlier
            starts and repeats of a configuration, which take no time, are not among them.
        n_left: Number of trials that the budget has room for.
        n_parallel: Number of trials that run at a time.
        record_seconds: Seconds of recording those trials, one after the other.

    Returns:
        Seconds, or None before the first trial has ended.
    """
    if not trial_seconds:
        return None
    n_trained = len(trial_seconds)
    a_trial = max(sum(trial_seconds) / n_trained / n_parallel, record_seconds / n_trained)
    return a_trial * n_left
