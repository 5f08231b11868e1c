"""What ``qwave export`` shows: the models as a table or JSON, and the commands that come next."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from qwave.exporting.models import HandedOver, export
from qwave.report import Column, Table, terminal_width
from qwave.scores import Interval
from qwave.store import Store
from qwave.text import for_shell, for_terminal


def export_and_show(arguments: argparse.Namespace) -> int:
    """Run ``qwave export``; returns the exit code."""
    store = Store(arguments.store)
    models = export(
        arguments.sweep,
        trial=arguments.trial,
        budget=arguments.budget,
        store=store,
        out=arguments.out,
        is_refitted=arguments.refit,
        with_onnx=arguments.onnx,
        is_registered=arguments.register,
        device=arguments.device,
    )
    _show(models, store, arguments)
    return 0


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
