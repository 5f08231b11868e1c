"""How long a sweep will take on this machine: measured, not guessed."""

from __future__ import annotations

import dataclasses

import optuna
from optuna.trial import FixedTrial

from qwave.config import TrialConfig
from qwave.packing import packed_size_bytes
from qwave.space import baseline_params, suggest
from qwave.sweep.plan import Plan
from qwave.sweep.pool import training_pool, worker_count

_N_SAMPLES = 10
_N_EPOCHS = 2


def expected_seconds(plan: Plan) -> float:
    """Wall time of a sweep's trials if, after its baselines, every draw were random.

    Trains the middle baseline and a few random configurations within the size budget for two
    epochs, in a worker like those of the study, and scales up. A sampler that learns leaves the
    large models behind and needs less.
    """
    sweep = plan.sweep
    baselines = baseline_params(sweep) if sweep.sampler.baselines else []
    n_baselines = min(len(baselines), sweep.budget.n_trials)
    n_random = sweep.budget.n_trials - n_baselines
    with training_pool(1, plan.data, plan.device) as pool:

        def seconds(config: TrialConfig) -> float:
            n_epochs = min(_N_EPOCHS, config.train.epochs)
            train = dataclasses.replace(config.train, epochs=n_epochs)
            short = dataclasses.replace(config, train=train)
            result = pool.submit(short).result().result
            rest = result.seconds - result.train_seconds
            return result.train_seconds * config.train.epochs / n_epochs + rest

        total = 0.0
        if n_baselines:
            middle = FixedTrial(baselines[len(baselines) // 2])
            total += n_baselines * seconds(suggest(sweep, middle))
        if n_random:
            drawn = [seconds(config) for config in _random_configs(plan)]
            total += n_random * sum(drawn) / len(drawn)
    return total / min(worker_count(sweep.budget.workers, plan.device), sweep.budget.n_trials)


def _random_configs(plan: Plan) -> list[TrialConfig]:
    """Random configurations that the size budget allows."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=plan.sweep.sampler.seed)
    study = optuna.create_study(sampler=sampler)
    configs: list[TrialConfig] = []
    while len(configs) < _N_SAMPLES:
        config = suggest(plan.sweep, study.ask())
        if packed_size_bytes(config, plan.data) <= plan.sweep.budget.max_size_bytes:
            configs.append(config)
    return configs
