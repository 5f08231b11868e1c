"""``qwave embed``: recordings become a file of embeddings.

qwave embed SOURCE --out FILE.npz [--encoder NAME] [--workers N] [--strict] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qwave.cli.running import say
from qwave.config import ConfigError
from qwave.text import for_shell, for_terminal, typed_encoder, typed_path

if TYPE_CHECKING:
    from qwave.audio.embed import Embedded

SUMMARY = "turn a folder of clips into embeddings"
DESCRIPTION = (
    "Decode clips, embed them with a pretrained encoder, and write a .npz file that every study "
    "takes as data.path. What has been embedded once is kept in a cache: stopped at any point, "
    "the same command goes on. A study takes a folder of clips as data.path, too."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``qwave embed``."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=typed_path,
        help="a folder with a folder of clips for each class, ESC-50 or UrbanSound8K as "
        "published, or a .csv file with columns path, label, optionally fold, group",
    )
    parser.add_argument(
        "--out", metavar="FILE.npz", type=typed_path, required=True, help="to write"
    )
    # The registry of encoders needs numpy, and help has to be quick.
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        type=typed_encoder,
        help="default: efficientnet-lite0-320",
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, help="processes (default: one for each processor)"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="end at the first clip that cannot be decoded, instead of leaving it out",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Embed the clips, write the file, and print a summary of it; returns 0.

    Raises:
        QwaveError: Wrong input.
    """
    out = arguments.out
    is_other = os.path.lexists(out) and not os.path.isfile(out)  # a folder, a pipe, a device
    if out.suffix.lower() != ".npz" or is_other:
        raise ConfigError(f"--out must be a file that ends in .npz, but got {out}")
    # Found out now, and not after an hour of embedding.
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out {out}: its folder cannot be made: {error.strerror or error}"
        ) from error
    try:
        with contextlib.suppress(FileNotFoundError):
            os.stat(out)
    except OSError as error:  # a name that is too long, for one
        raise ConfigError(f"--out {out} cannot be written: {error.strerror or error}") from error
    if not os.access(out.parent, os.W_OK):
        raise ConfigError(f"--out {out}: its folder cannot be written; choose another place")
    say(arguments, f"{arguments.source}: looking for clips")
    from qwave.audio.embed import embed_source, save_embeddings
    from qwave.audio.encoders import DEFAULT_ENCODER

    embedded = embed_source(
        arguments.source,
        encoder=arguments.encoder or DEFAULT_ENCODER,
        workers=arguments.workers,
        is_strict=arguments.strict,
    )
    save_embeddings(out, embedded)
    if arguments.json:
        sys.stdout.write(json.dumps(_as_json(embedded, out)) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(embedded, out)) + "\n")
    return 0


def _lines(embedded: Embedded, out: Path) -> list[str]:
    data = embedded.data
    folds = _official_folds(embedded)
    n_recordings = _num_recordings(embedded)
    facts = [
        f"{len(data.y)} clips x {data.x.shape[1]} features",
        f"{data.num_classes} classes",
        f"{len(folds)} official folds" if folds else "no official folds",
        f"{n_recordings} recordings" if n_recordings else "recordings not known",
    ]
    made = f"{embedded.n_made} embedded now"
    if embedded.n_made:
        made += f" ({embedded.n_made / embedded.seconds:.1f} clips/s)"
    counts = [
        made,
        f"{len(data.y) - embedded.n_made} from the cache",
        f"{len(embedded.skipped)} left out",
        f"{len(embedded.silent)} silent",
    ]
    return [
        f"{for_terminal(out)}: {', '.join(facts)}",
        f"{data.encoder}, layout {embedded.layout}: {', '.join(counts)}",
        f"search on them:  {_next_command(embedded, out)}",
    ]


def _next_command(embedded: Embedded, out: Path) -> str:
    # A store holds one study of a name, and the default name may be that of `esc10`.
    name = re.sub(r"[^A-Za-z0-9]+", "_", out.stem).strip("_")[:80] or "clips"
    named = [f"name={name}", f"data.path={os.path.abspath(out)}"]
    return for_shell("qwave", "search", *named)


def _official_folds(embedded: Embedded) -> list[int]:
    fold = embedded.data.fold
    return [] if fold is None else sorted(set(fold.tolist()))


def _num_recordings(embedded: Embedded) -> int | None:
    group = embedded.data.group
    return None if group is None else len(set(group.tolist()))


def _as_json(embedded: Embedded, out: Path) -> dict[str, object]:
    data = embedded.data
    counts = [(data.y == label).sum() for label in range(data.num_classes)]
    return {
        "file": str(out),
        "layout": embedded.layout,
        "encoder": data.encoder,
        "num_clips": len(data.y),
        "num_features": data.x.shape[1],
        "classes": {name: int(n) for name, n in zip(data.class_names, counts, strict=True)},
        "folds": _official_folds(embedded),
        "num_recordings": _num_recordings(embedded),
        "skipped": list(embedded.skipped),
        "silent": list(embedded.silent),
        "num_embedded_now": embedded.n_made,
        "seconds": round(embedded.seconds, 3),
        "data_digest": data.digest,
        "clips_digest": embedded.clips_digest,
    }
