"""How long a sweep will take on this machine: measured, not guessed."""

from __future__ import annotations

import dataclasses
import math
import time

import optuna

from qwave.config import TrialConfig
from qwave.crossval import cross_validate
from qwave.packing import packed_size_bytes
from qwave.space import suggest
from qwave.sweep.pool import worker_count
from qwave.sweep.run import Plan

_N_SAMPLES = 6
_N_EPOCHS = 2


def expected_seconds(plan: Plan) -> float:
    """Expected wall time of a sweep's trials.

    Trains a few random configurations within the size budget for two epochs and scales up. A
    sampler soon leaves the middle of the space, so that half or twice of it is no surprise.
    """
    sweep = plan.sweep
    sampler = optuna.samplers.RandomSampler(seed=sweep.sampler.seed)
    study = optuna.create_study(sampler=sampler)
    configs: list[TrialConfig] = []
    while len(configs) < _N_SAMPLES:
        config = suggest(sweep, study.ask())
        if packed_size_bytes(config, plan.data) <= sweep.budget.max_size_bytes:
            configs.append(config)
    total = 0.0
    for config in configs:
        n_epochs = min(_N_EPOCHS, config.train.epochs)
        short = dataclasses.replace(
            config, train=dataclasses.replace(config.train, epochs=n_epochs)
        )
        begin = time.perf_counter()
        result = cross_validate(short, plan.data, device=plan.device)
        whole = time.perf_counter() - begin
        scale = config.train.epochs / n_epochs
        total += result.train_seconds * scale + (whole - result.train_seconds)
    n_workers = worker_count(sweep.budget.workers, plan.device)
    rounds = math.ceil(sweep.budget.n_trials / n_workers)
    return total / _N_SAMPLES * rounds
