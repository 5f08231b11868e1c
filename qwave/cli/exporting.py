"""What ``qwave export`` does: it takes trials out of a study, and hands them to `qwave.export`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwave.config import ConfigError, StoreError
from qwave.engine import resolve_device
from qwave.export import (
    Candidate,
    ExportedModel,
    Search,
    VerificationError,
    aliases_of,
    best_within,
    export_model,
    parse_size,
    register_export,
    require_onnx,
)
from qwave.report import Column, Table, terminal_width
from qwave.scores import FrontPoint, Interval
from qwave.store import Store, Tracker, opened_store
from qwave.sweep import collect_points, front_of, load_study, point_config
from qwave.text import for_shell, for_terminal

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


def export_and_show(arguments: argparse.Namespace) -> int:
    """Run ``qwave export``; returns the exit code."""
    budget_bytes = None if arguments.budget is None else parse_size(arguments.budget)
    if arguments.onnx:
        require_onnx("--onnx")
    resolve_device(arguments.device)
    store = Store(arguments.store)
    study = load_study(store, arguments.sweep)
    with opened_store(store):
        points = collect_points(study)
        front = front_of(points)
        if not front:
            raise ConfigError(
                f"the sweep {arguments.sweep!r} has no trained trial yet: run it first"
            )
        chosen = front
        if arguments.trial is not None:
            attributes = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
            chosen = [point_of_trial(arguments.trial, attributes, points)]
        if budget_bytes is not None:
            chosen = [_fitting(front, budget_bytes, arguments.budget)]
        folder, copy = _places(arguments, store, len(chosen))
        search = Search(
            name=arguments.sweep,
            sweep_digest=study.user_attrs["sweep_digest"],
            data_digest=study.user_attrs["data_digest"],
            n_trained=len(points),
            notes=tuple(study.user_attrs.get("notes", ())),
        )
        tracker = Tracker(store)
        models = []
        for point in chosen:
            sys.stderr.write(f"trial {point.number}: {point.label}\n")
            candidate = Candidate(search, point, point_config(study, point))
            aliases = aliases_of(point, front, budget_bytes)
            try:
                models.append(_hand_over(candidate, aliases, tracker, folder, copy, arguments))
            except VerificationError as error:
                sys.stderr.write(f"error: {for_terminal(error, keeps_lines=True)}\n")
                return 1
    _show(models, store, arguments)
    return 0


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


def _places(
    arguments: argparse.Namespace, store: Store, n_models: int
) -> tuple[Path, Path | None]:
    """The folder that models are written in, and the file that the only one is copied to."""
    folder, out = store.models_folder(arguments.sweep), arguments.out
    if out is None or out.suffix != _MODEL_SUFFIX:
        return out or folder, None
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


def _hand_over(
    candidate: Candidate,
    aliases: Sequence[str],
    tracker: Tracker,
    folder: Path,
    copy: Path | None,
    arguments: argparse.Namespace,
) -> HandedOver:
    exported = export_model(
        candidate,
        tracker,
        folder,
        is_refitted=arguments.refit,
        with_onnx=arguments.onnx,
        device=arguments.device,
    )
    if copy is not None:
        try:
            shutil.copyfile(exported.file, copy)
        except OSError as error:
            raise StoreError(
                f"--out {copy} cannot be written: {error}; the model is {exported.file}"
            ) from error
    file = copy or exported.file
    if not arguments.register:
        return HandedOver(exported, file, (), None)
    return HandedOver(exported, file, aliases, register_export(exported, tracker, aliases).uri)


def _show(models: Sequence[HandedOver], store: Store, arguments: argparse.Namespace) -> None:
    if arguments.json:
        sys.stdout.write(json.dumps({"models": [_as_json(model) for model in models]}) + "\n")
        return
    sys.stdout.write(f"{_table(models).text(terminal_width(sys.stdout))}\n")
    if arguments.register:
        sys.stdout.write(f"browse the models:  {for_terminal(store.ui_command)}\n")
    last = models[-1]
    if last.file != last.exported.file:
        sys.stdout.write(f"read its card:      {for_terminal(last.exported.card)}\n")
    sys.stdout.write(f"predict clips:      {for_terminal(_predict_command(last))}\n")


def _predict_command(model: HandedOver) -> str:
    """The command for a model; who made embeddings of unknown origin has to name their encoder."""
    encoder = () if model.exported.facts.model.packed.header.encoder else ("--encoder", "NAME")
    return for_shell("qwave", "predict", model.file, *encoder, "CLIP...")


def _table(models: Sequence[HandedOver]) -> Table:
    columns = (
        Column("file"),
        Column("size", "bytes"),
        Column("accuracy", "share"),
        Column("largest difference"),
        Column("registered as"),
    )
    return Table(columns, tuple(_row(model) for model in models))


def _row(model: HandedOver) -> tuple[str | int | Interval, ...]:
    facts = model.exported.facts
    accuracy = facts.accuracy
    return (
        str(model.file),
        facts.point.size_bytes,
        accuracy,
        f"{facts.agreement.largest_difference:.1e}",
        " ".join([model.uri or "-", *model.aliases]),
    )


def _as_json(model: HandedOver) -> dict[str, object]:
    facts = model.exported.facts
    return {
        "file": str(model.file),
        "folder": str(model.exported.folder),
        "trial": facts.point.number,
        "digest": facts.point.digest,
        "size_bytes": facts.point.size_bytes,
        "accuracy": facts.accuracy.estimate,
        "accuracy_interval": [facts.accuracy.low, facts.accuracy.high],
        "largest_difference": facts.agreement.largest_difference,
        "n_other_class": facts.agreement.n_other_class,
        "temperature": facts.calibration.temperature,
        "sure_probability": facts.calibration.sure_probability,
        "latency_us": {str(size): us for size, us in facts.latency_us.items()},
        "uri": model.uri,
        "aliases": list(model.aliases),
    }
