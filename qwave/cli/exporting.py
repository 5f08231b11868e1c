"""What ``qwave export`` does: it takes trials out of a study, and hands them to `qwave.export`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qwave.config import ConfigError
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
from qwave.figures import Column, Estimate, FrontPoint, Table
from qwave.sweep import collect_points, front_of, load_study, point_config
from qwave.sweep.store import opened_store
from qwave.tracking import Tracker, ui_command


class HandedOver(NamedTuple):
    """A model, and the names under which it is registered; none where it is not."""

    exported: ExportedModel
    aliases: Sequence[str]
    uri: str | None


def export_and_show(arguments: argparse.Namespace) -> int:
    """Run ``qwave export``; returns the exit code."""
    budget_bytes = None if arguments.budget is None else parse_size(arguments.budget)
    if arguments.onnx:
        require_onnx("--onnx")
    resolve_device(arguments.device)
    study = load_study(arguments.store, arguments.sweep)
    with opened_store(arguments.store) as store:
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
        search = Search(
            name=arguments.sweep,
            sweep_digest=study.user_attrs["sweep_digest"],
            data_digest=study.user_attrs["data_digest"],
            n_trained=len(points),
        )
        tracker = Tracker(store)
        models = []
        for point in chosen:
            sys.stderr.write(f"trial {point.number}: {point.label}\n")
            candidate = Candidate(search, point, point_config(study, point))
            aliases = aliases_of(point, front, budget_bytes)
            try:
                models.append(_hand_over(candidate, aliases, tracker, arguments))
            except VerificationError as error:
                sys.stderr.write(f"error: {error}\n")
                return 1
    _show(models, arguments)
    return 0


def point_of_trial(
    number: int, attributes: Sequence[Mapping[str, Any]], points: Sequence[FrontPoint]
) -> FrontPoint:
    """The point of a trial, or of the one that it repeats.

    Args:
        number: The trial's.
        attributes: User attributes of all trials, by number.
        points: Of those that were trained.

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


def _hand_over(
    candidate: Candidate, aliases: Sequence[str], tracker: Tracker, arguments: argparse.Namespace
) -> HandedOver:
    exported = export_model(
        candidate,
        tracker,
        arguments.out or arguments.store / "models" / candidate.search.name,
        is_refitted=arguments.refit,
        with_onnx=arguments.onnx,
        device=arguments.device,
    )
    if not arguments.register:
        return HandedOver(exported, (), None)
    return HandedOver(exported, aliases, register_export(exported, tracker, aliases).uri)


def _show(models: Sequence[HandedOver], arguments: argparse.Namespace) -> None:
    if arguments.json:
        sys.stdout.write(json.dumps({"models": [_as_json(model) for model in models]}) + "\n")
        return
    sys.stdout.write(f"{_table(models).text()}\n")
    if arguments.register:
        sys.stdout.write(f"browse the models:  {ui_command(arguments.store)}\n")


def _table(models: Sequence[HandedOver]) -> Table:
    columns = (
        Column("folder"),
        Column("size", "bytes"),
        Column("accuracy", "share"),
        Column("largest difference"),
        Column("registered as"),
    )
    return Table(columns, tuple(_row(model) for model in models))


def _row(model: HandedOver) -> tuple[str | int | Estimate, ...]:
    facts = model.exported.facts
    accuracy = facts.accuracy
    return (
        str(model.exported.folder),
        facts.point.size_bytes,
        Estimate(accuracy.estimate, accuracy.low, accuracy.high),
        f"{facts.agreement.largest_difference:.1e}",
        " ".join([model.uri or "-", *model.aliases]),
    )


def _as_json(model: HandedOver) -> dict[str, object]:
    facts = model.exported.facts
    return {
        "folder": str(model.exported.folder),
        "trial": facts.point.number,
        "digest": facts.point.digest,
        "size_bytes": facts.point.size_bytes,
        "accuracy": facts.accuracy.estimate,
        "accuracy_interval": [facts.accuracy.low, facts.accuracy.high],
        "largest_difference": facts.agreement.largest_difference,
        "n_other_class": facts.agreement.n_other_class,
        "latency_us": {str(size): us for size, us in facts.latency_us.items()},
        "uri": model.uri,
        "aliases": list(model.aliases),
    }
