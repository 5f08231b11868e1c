"""A search from Python: what ``qwave search`` does, as a function."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwave.config import ConfigError, SweepConfig
from qwave.data import EmbeddingSet, arrays_of, require_embeddings
from qwave.data.npz import write_npz
from qwave.space.parse import load_sweep, sweep_from
from qwave.space.sweep_file import study_file
from qwave.store import Store, check_store, opened_store
from qwave.sweep.plan import Plan, plan_sweep
from qwave.sweep.run import Outcome, run_sweep


def search(
    sweep: str | Path | Mapping[str, Any] = "moe_pareto",
    *,
    store: Store | Path | str = "mlruns",
    data: EmbeddingSet | None = None,
    device: str = "cpu",
    is_smoke: bool = False,
    is_fresh: bool = False,
    is_retry: bool = False,
    **overrides: Any,
) -> Outcome:
    """Search the accuracy-vs-size Pareto front of a sweep, or continue a search.

    Trials train in worker processes, which import the program that started them: a script calls
    this below ``if __name__ == "__main__":``. Notebooks and threads need nothing of the kind; from
    a thread, a search cannot be stopped by signals.

    Args:
        sweep: A YAML file; the name of a sweep that comes with qwave; or the content of such a
            file as a mapping.
        store: Folder of the store; it is made if there is none.
        data: Embeddings in place of ``data.path``. They are written into the store, from where
            `qwave.confirm` and `qwave.export` read them.
        device: ``cpu``, ``cuda`` or ``mps``.
        is_smoke: A few short trials, under the name ``<name>_smoke``.
        is_fresh: Drop the sweep's earlier trials.
        is_retry: Train again what failed in earlier starts.
        overrides: Values by key of the sweep, with two underscores for a dot:
            ``train__epochs=20``, ``budget__n_trials=10``, ``name="mine"``. A dictionary gives
            dotted keys: ``**{"train.epochs": 20}``.

    Raises:
        QwaveError: Wrong input; a store that cannot be used; or a worker that was ended from
            outside.
    """
    store = Store.at(store)
    check_store(store)
    texts = [f"{key.replace('__', '.')}={_text(value)}" for key, value in overrides.items()]
    if data is not None:
        require_embeddings(data, "search")
        if any(text.startswith("data.path=") for text in texts):
            raise ConfigError("`data` and `data__path` are two data sets: give one of them")
        with opened_store(store):
            texts.append(f"data.path={_kept(data, store)}")
    return run_sweep(
        planned(sweep, texts, device=device, is_smoke=is_smoke),
        store,
        is_fresh=is_fresh,
        is_retry=is_retry,
    )


def planned(
    sweep: str | Path | Mapping[str, Any],
    overrides: list[str],
    *,
    device: str = "cpu",
    is_smoke: bool = False,
) -> Plan:
    """A sweep with overrides ``dotted.key=value``, checked against its data and the machine.

    Raises:
        QwaveError: As `plan_sweep`; or the sweep cannot be read.
    """
    if isinstance(sweep, SweepConfig):
        raise ConfigError("`sweep` must be a file, a name or a mapping; `run_sweep` takes plans")
    if isinstance(sweep, Mapping):
        config = sweep_from(dict(sweep), "the sweep", overrides, is_smoke=is_smoke)
    else:
        config = load_sweep(study_file(str(sweep)), overrides, is_smoke=is_smoke)
    return plan_sweep(config, device)


def _text(value: Any) -> str:
    """A value as a person would type it after ``key=``."""
    if isinstance(value, str | Path):
        return str(value)
    try:
        return json.dumps(value)
    except TypeError as error:
        raise ConfigError(f"an override must be a plain value, but got {value!r}") from error


def _kept(data: EmbeddingSet, store: Store) -> Path:
    """The file of these embeddings in the store; written where it is not there yet."""
    file = store.folder.resolve() / "data" / f"{data.digest}.npz"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        write_npz(file, arrays_of(data))
    return file
