"""The Optuna study of a sweep: opened, repaired, and what its trials carry.

User attributes of a trial: `digest`, `mlflow_run_id`, `schemes`, `config` (nested), and, once
trained, `scores`, `fold_scores`, `seconds`; of one that was not trained, `outcome`
(``over_budget``, ``duplicate``, ``failed``). Fold scores are user attributes because intermediate
values of a pruned trial crash TPE when there are two objectives.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from qwave.config import StoreError, SweepConfig, TrialConfig
from qwave.space import baseline_params
from qwave.store import Store, has_studies
from qwave.text import for_shell

# Study attribute: numbers of trials that were stopped and queued again. A trial of a killed
# process can be told its state, but no longer be given attributes of its own.
_INTERRUPTED = "interrupted_trials"
# Study attribute: data.path as it was given at the last start, and the absolute path; none for
# data that ship with the package.
_DATA_PATHS = "data_place"
# Study attribute: numbers of trials that failed and were queued again because a person asked.
_RETRIED = "retried_trials"
# The reason for an attribute that differs, for messages.
_REASONS = {
    "sweep_digest": ", because the sweep asks for something else: its space, what it fixes, its "
    "objectives or its size budget",
    "data_digest": ", because the rows of data.path have changed: clips were added, removed or "
    "replaced, or another encoder embedded them",
}


def open_study(
    sweep: SweepConfig, store: Store, attributes: dict[str, Any], *, is_fresh: bool
) -> Study:
    """Create a sweep's study, or load it if it is the same sweep on the same data.

    Args:
        sweep: The sweep.
        store: An opened store.
        attributes: Attributes of the study, which a later start must find unchanged: digests and
            the reference point.
        is_fresh: Delete an existing study first.

    Raises:
        StoreError: The store holds a study of that name with other attributes.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = store.optuna_storage()
    names = [summary.study_name for summary in optuna.get_all_study_summaries(storage)]
    if sweep.name in names and is_fresh:
        optuna.delete_study(study_name=sweep.name, storage=storage)
        names.remove(sweep.name)
    if sweep.name in names:
        study = optuna.load_study(study_name=sweep.name, storage=storage)
        for key, value in attributes.items():
            if study.user_attrs.get(key) != value:
                raise StoreError(
                    f"--store {store} holds a study {sweep.name!r} with another {key} "
                    f"(there {study.user_attrs.get(key)!r}, here {value!r})"
                    f"{_REASONS.get(key, '')}: its trials cannot be compared with new ones; "
                    "search under another name (name=OTHER) or in another --store"
                )
        return study
    study = optuna.create_study(
        study_name=sweep.name,
        storage=storage,
        directions=[objective.direction for objective in sweep.objectives],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([objective.score for objective in sweep.objectives])
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    for params in baseline_params(sweep) if sweep.sampler.baselines else ():
        study.enqueue_trial(params)
    return study


def study_names(store: Store | Path | str) -> list[str]:
    """Names of the studies that a store holds, sorted; none where nothing was searched yet.

    Raises:
        StoreError: The folder is no store, or its journal is damaged.
    """
    store = Store.at(store)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not has_studies(store):
        return []
    summaries = optuna.get_all_study_summaries(store.optuna_storage())
    return sorted(summary.study_name for summary in summaries)


def load_study(store: Store | Path | str, name: str) -> Study:
    """A study that a store holds.

    Raises:
        StoreError: The store holds no study of that name, or its journal is damaged.
    """
    store = Store.at(store)
    names = study_names(store)
    if name in names:
        return optuna.load_study(study_name=name, storage=store.optuna_storage())
    found = f"it holds {', '.join(names)}" if names else "it holds no study"
    command = for_shell("qwave", "search", "--store", store.folder)
    raise StoreError(
        f"--store {store} holds no study {name!r} ({found}); search first, for example with "
        f"{command}"
    )


def set_data_path(study: Study, path: str) -> None:
    """Note where the data of a study lie at this start."""
    paths = [] if path == "esc10" else [path, os.path.abspath(os.path.expanduser(path))]
    if study.user_attrs.get(_DATA_PATHS) != paths:
        study.set_user_attr(_DATA_PATHS, paths)


def with_data_path(config: TrialConfig, study: Study) -> TrialConfig:
    """A trial's configuration, with the data where they were found last.

    The same digest: where the rows lie is no part of it. The path stays as the study was last
    given it, if that leads to something from this working directory; else it is the absolute one,
    if that does; else it stays as the trial had it.
    """
    for path in study.user_attrs.get(_DATA_PATHS, []):
        if os.path.exists(os.path.expanduser(path)):
            data = dataclasses.replace(config.data, path=path)
            return dataclasses.replace(config, data=data)
    return config


def trained_trials(study: Study) -> list[FrozenTrial]:
    """Complete trials, one for each configuration, by number."""
    states = (TrialState.COMPLETE,)
    by_digest: dict[str, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False, states=states):
        by_digest.setdefault(trial.user_attrs["digest"], trial)
    return list(by_digest.values())


def queued_again(study: Study) -> set[int]:
    """Numbers of the trials that were queued again: interrupted ones, and failed ones."""
    attributes = study.user_attrs
    return {*attributes.get(_INTERRUPTED, []), *attributes.get(_RETRIED, [])}


def failed_trials(study: Study) -> list[FrozenTrial]:
    """Trials that failed and were not queued again, by number."""
    again = queued_again(study)
    trials = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    return [trial for trial in trials if trial.number not in again]


def first_failure(study: Study) -> str | None:
    """Why the first of the failed trials failed, or None."""
    for trial in failed_trials(study):
        if "reason" in trial.user_attrs:  # a repeat of one that failed has none of its own
            return f"trial {trial.number}: {trial.user_attrs['reason']}"
    return None


def retry_failed(study: Study) -> int:
    """Queue what failed for another try, which takes its part of the budget; returns how many."""
    failed = failed_trials(study)
    numbers = [trial.number for trial in failed]
    # First, so that a process that ends here leaves a budget that is too large, and no trial of
    # which nobody knows.
    study.set_user_attr(_RETRIED, [*study.user_attrs.get(_RETRIED, []), *numbers])
    for trial in failed:
        if trial.params:
            study.enqueue_trial(trial.params)
    return len(failed)


def give_back(study: Study, number: int) -> None:
    """Close a trial that did not run to its end, and queue its parameters for another try."""
    trial = study.get_trials(deepcopy=False)[number]
    study.set_user_attr(_INTERRUPTED, [*study.user_attrs.get(_INTERRUPTED, []), number])
    study.tell(number, state=TrialState.FAIL)
    if trial.params:
        study.enqueue_trial(trial.params)


def repair(
    study: Study, sweep: SweepConfig, is_recorded: Callable[[str], bool]
) -> list[FrozenTrial]:
    """Deal with the trials that a killed process left running.

    A trial whose record is whole lacks nothing but its telling, and is told; the others are given
    back. The caller holds the store's lock, so nobody else can be running them.

    Args:
        study: The study.
        sweep: Sweep of the study.
        is_recorded: Whether an MLflow run, by its id, was closed as finished.

    Returns:
        The trials that were given back.
    """
    given_back = []
    for trial in study.get_trials(deepcopy=True, states=(TrialState.RUNNING,)):
        scores, run_id = trial.user_attrs.get("scores"), trial.user_attrs.get("mlflow_run_id")
        if scores and run_id and is_recorded(run_id):
            study.tell(trial.number, [scores[o.score] for o in sweep.objectives])
        else:
            give_back(study, trial.number)
            given_back.append(trial)
    return given_back
