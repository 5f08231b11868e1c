"""Trials of a search become models: what ``qwave export`` does, as a function."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwave.config import ConfigError, StoreError
from qwave.engine import resolve_device
from qwave.exporting.budgets import aliases_of, best_within, parse_size
from qwave.exporting.handover import Candidate, ExportedModel, export_model, register_export
from qwave.exporting.onnx_file import require_onnx
from qwave.exporting.record import Search
from qwave.scores import FrontPoint
from qwave.store import Store, Tracker, opened_store
from qwave.sweep import collect_points, front_of, load_study, point_config

_MODEL_SUFFIX = ".qwave"


class HandedOver(NamedTuple):
    """A model that was exported.

    Attributes:
        exported: The model in its folder.
        file: The packed file that was asked for: the one in the folder, or a copy.
        aliases: Names under which it is registered; none where it is not.
        uri: Address of the registered version, or None.
    """

    exported: ExportedModel
    file: Path
    aliases: Sequence[str]
    uri: str | None


def export(
    sweep: str = "moe_pareto",
    *,
    trial: int | None = None,
    budget: str | int | None = None,
    store: Store | Path | str = "mlruns",
    out: str | Path | None = None,
    is_refitted: bool = True,
    with_onnx: bool = False,
    is_registered: bool = True,
    device: str = "cpu",
) -> list[HandedOver]:
    """Hand over models of a search: refit, pack, prove, calibrate, describe, register.

    Args:
        sweep: Name of the search.
        trial: Number of the trial; default: every member of the front.
        budget: The most accurate member of the front that fits, in bytes or as ``50kB``.
        store: Folder of the store.
        out: Folder for the models (default: ``models/<sweep>`` in the store), or a file that ends
            in ``.qwave``, for a copy of the only model.
        is_refitted: Train on all rows; otherwise the model of the first fold is taken.
        with_onnx: Write ``model.onnx`` as well.
        is_registered: Register the models in MLflow.
        device: ``cpu``, ``cuda`` or ``mps``.

    Returns:
        The models, smallest first.

    Raises:
        ConfigError: There is no such trial, it was not trained, or nothing fits the budget.
        StoreError: There is no such search, or a file cannot be written.
        DataError: The data of the search are gone or have changed.
        VerificationError: A packed file does not predict what was trained.
    """
    if trial is not None and budget is not None:
        raise ConfigError(f"give `trial` or `budget`, but not both: got {trial} and {budget!r}")
    budget_bytes = None if budget is None else parse_size(str(budget))
    if with_onnx:
        require_onnx("--onnx")
    resolve_device(device)
    store = Store.at(store)
    study = load_study(store, sweep)
    with opened_store(store):
        points = collect_points(study)
        front = front_of(points)
        if not front:
            raise ConfigError(f"the sweep {sweep!r} has no trained trial yet: run it first")
        chosen = front
        if trial is not None:
            attributes = [frozen.user_attrs for frozen in study.get_trials(deepcopy=False)]
            chosen = [point_of_trial(trial, attributes, points)]
        if budget_bytes is not None:
            chosen = [_fitting(front, budget_bytes, str(budget))]
        folder, copy = _targets(store.models_folder(sweep), out, len(chosen))
        search = Search(
            name=sweep,
            sweep_digest=study.user_attrs["sweep_digest"],
            data_digest=study.user_attrs["data_digest"],
            n_trained=len(points),
            notes=tuple(study.user_attrs.get("notes", ())),
        )
        tracker = Tracker(store)
        models = []
        for point in chosen:
            sys.stderr.write(f"trial {point.number}: {point.label}\n")
            exported = export_model(
                Candidate(search, point, point_config(study, point)),
                tracker,
                folder,
                is_refitted=is_refitted,
                with_onnx=with_onnx,
                device=device,
            )
            file = exported.file if copy is None else _copied(exported.file, copy)
            aliases = aliases_of(point, front, budget_bytes) if is_registered else ()
            uri = register_export(exported, tracker, aliases).uri if is_registered else None
            models.append(HandedOver(exported, file, aliases, uri))
    return models


def point_of_trial(
    number: int, attributes: Sequence[Mapping[str, Any]], points: Sequence[FrontPoint]
) -> FrontPoint:
    """The point of a trial, or of the one that it repeats.

    Args:
        number: The trial's.
        attributes: User attributes of all trials, by number.
        points: One for each trial that was trained.

    Raises:
        ConfigError: There is no such trial, or it was not trained.
    """
    members = ", ".join(str(point.number) for point in front_of(points))
    if not 0 <= number < len(attributes):
        raise ConfigError(
            f"there is no trial {number}: trials are 0 to {len(attributes) - 1}, and those of the "
            f"front, smallest first, {members}"
        )
    for point in points:
        if point.digest == attributes[number].get("digest"):
            if point.number != number:
                sys.stderr.write(f"note: trial {number} repeats trial {point.number}\n")
            return point
    reason = attributes[number].get("outcome", "interrupted").replace("_", " ")
    raise ConfigError(
        f"trial {number} was not trained ({reason}); those of the front are, smallest first, "
        f"{members}"
    )


def _fitting(front: Sequence[FrontPoint], budget_bytes: int, text: str) -> FrontPoint:
    best = best_within(front, budget_bytes)
    if best is None:
        smallest = min(front, key=lambda point: point.size_bytes)
        raise ConfigError(
            f"--budget {text}: no model of the front has {budget_bytes} bytes or less; the "
            f"smallest, trial {smallest.number}, has {smallest.size_bytes}"
        )
    return best


def _targets(folder: Path, out: str | Path | None, n_models: int) -> tuple[Path, Path | None]:
    """The folder that models are written in, and the file that the only one is copied to."""
    if out is None:
        return folder, None
    out = Path(out)
    if out.suffix != _MODEL_SUFFIX:
        return out, None
    if n_models > 1:
        raise ConfigError(
            f"--out {out} is the file of one model, but the front has {n_models}: name a folder, "
            "or choose one by --budget or a trial's number"
        )
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder: name a file that can be written")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"--out {out} cannot be written: {error}") from error
    return folder, out


def _copied(file: Path, copy: Path) -> Path:
    try:
        shutil.copyfile(file, copy)
    except OSError as error:
        message = f"--out {copy} cannot be written: {error}; the model is {file}"
        raise StoreError(message) from error
    return copy
