"""What is measured of every encoder, and which one is chosen; see `studies.encoders`."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from qwave.audio import (
    Encoder,
    embed_waveforms,
    encoder_identity,
    fit_length,
    read_clip,
    read_source,
)
from qwave.audio.cache import ClipEmbedding, open_cache
from qwave.audio.sources import ClipTable
from qwave.config import AudioError, DataError, StoreError, nearest
from qwave.data import EmbeddingSet, embeddings_from_arrays, normalize_clips
from qwave.engine.crossval import cross_validate
from qwave.report import Column, Table
from qwave.scores import Interval
from qwave.scores.evaluate import score_intervals
from qwave.space import parse_config
from qwave.store import Store
from studies.encoders.linear_probe import ProbeHits, choose, choose_by_fold, probe
from studies.encoders.variants import VARIANTS

NORMALIZATION = "sqrt_layer"
SEED = 0
N_TIMED_CLIPS = 50


class Result(NamedTuple):
    """What was measured of one variant.

    Attributes:
        name: Name of the variant.
        num_features: Number of features of its embedding.
        milliseconds: Median time of a clip, from waveform to embedding.
        hits: Which clips the probe classified rightly.
        size_bytes: Packed size of the 1-bit linear network.
        accuracy: Accuracy of that network with its 95 % interval.
    """

    name: str
    num_features: int
    milliseconds: float
    hits: ProbeHits
    size_bytes: int
    accuracy: Interval

    @property
    def inner_accuracy(self) -> float:
        """Accuracy of the probe on inner folds."""
        return float(np.nanmean(self.hits.inner))


class Choice(NamedTuple):
    """The variants that inner folds choose.

    Attributes:
        chosen: Name of the variant that all clips choose.
        by_fold: For each fold, the name of the variant that the other folds choose.
        nested_accuracy: Share of all clips classified rightly by the probes of `by_fold`.
    """

    chosen: str
    by_fold: list[str]
    nested_accuracy: float


def run(arguments: argparse.Namespace) -> int:
    """Embed, probe, choose, and print; returns 0."""
    wanted = _named_variants(arguments.variants or list(VARIANTS))
    table = read_source(arguments.clips)
    folder = Store(arguments.store).report_folder("encoders")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror}; another --store?") from error
    torch.set_num_threads(1)
    with threadpool_limits(1):
        results, data = [], None
        for name, make in wanted.items():
            try:
                encoder = make()
            except AudioError as error:
                warnings.warn(f"{name}: left out: {error}", UserWarning, stacklevel=1)
                continue
            data = embed_all(table, encoder, name)
            results.append(_measured(name, encoder, data, table))
    if data is None:
        raise AudioError("no variant is left; see the notes above")
    found = choose_variant(results, data)
    shown = results_table(results, found.chosen)
    (folder / "encoders.csv").write_text(shown.csv(), encoding="utf-8")
    print(
        f"{shown.text()}\n\nchosen by inner folds: {found.chosen}\n"
        f"each fold by the variant that the others choose: {found.nested_accuracy:.2%} "
        f"({'; '.join(found.by_fold)})\n  {folder / 'encoders.csv'}",
        file=sys.stderr if arguments.json else sys.stdout,
    )
    if arguments.json:
        print(json.dumps(as_json(results, found)))
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
    """A clip at the rate and length that an encoder takes, float32 [samples]."""
    waveform = read_clip(path, encoder.sample_rate)
    return fit_length(waveform, round(encoder.clip_seconds * encoder.sample_rate))


def _measured(name: str, encoder: Encoder, data: EmbeddingSet, table: ClipTable) -> Result:
    assert data.fold is not None, "embed_all has refused clips without folds"
    config = parse_config(
        {
            "data": {"normalization": NORMALIZATION, "n_folds": len(np.unique(data.fold))},
            "model": {"schemes": ["int1"], "hidden": []},
            "seed": SEED,
        }
    )
    trial = cross_validate(config, data)
    scores = score_intervals(data.y, trial.predictions.predicted[None], data.group, seed=SEED)
    return Result(
        name,
        data.x.shape[1],
        milliseconds_of(encoder, [clip.path for clip in table.clips]),
        probe(normalize_clips(data.x, NORMALIZATION), data.y, data.fold),
        trial.size_bytes,
        scores["accuracy"],
    )


def milliseconds_of(encoder: Encoder, paths: Sequence[Path]) -> float:
    """Median time of a clip on one thread, from waveform to embedding, over a few clips."""
    seconds = []
    for path in paths[:: max(1, len(paths) // N_TIMED_CLIPS)]:
        waveform = waveform_of(path, encoder)[None]
        start = time.perf_counter()
        embed_waveforms(encoder, waveform)
        seconds.append(time.perf_counter() - start)
    # The first calls are slower; they do not change the median.
    return 1000 * float(np.median(seconds))


def choose_variant(results: Sequence[Result], data: EmbeddingSet) -> Choice:
    """Choose a variant by inner folds, and estimate by nested folds how good such a choice is."""
    assert data.fold is not None, "embed_all has refused clips without folds"
    inner = np.stack([result.hits.inner for result in results])
    milliseconds = np.array([result.milliseconds for result in results])
    by_fold = choose_by_fold(inner, milliseconds, data.fold, data.group)
    hits = np.concatenate(
        [
            results[index].hits.outer[data.fold == value]
            for index, value in zip(by_fold, np.unique(data.fold), strict=True)
        ]
    )
    chosen = choose(np.nanmean(inner, axis=1), milliseconds, data.group)
    names = [results[index].name for index in by_fold]
    return Choice(results[chosen].name, names, float(hits.mean()))


def results_table(results: Sequence[Result], chosen: str) -> Table:
    """One row for each variant, the fastest first."""
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
    rows = tuple(
        (
            *(result.name, result.num_features, result.milliseconds, result.inner_accuracy),
            float(result.hits.outer.mean()),
            *(result.size_bytes, result.accuracy, result.name == chosen),
        )
        for result in sorted(results, key=lambda result: result.milliseconds)
    )
    return Table(columns, rows)


def as_json(results: Sequence[Result], found: Choice) -> dict[str, object]:
    """All measured values, for `--json`."""
    return {
        "variants": {
            result.name: {
                "num_features": result.num_features,
                "milliseconds": result.milliseconds,
                "inner_accuracy": result.inner_accuracy,
                "outer_accuracy": float(result.hits.outer.mean()),
                "size_bytes": result.size_bytes,
            }
            for result in results
        },
        "chosen": found.chosen,
        "chosen_by_fold": found.by_fold,
        "nested_accuracy": found.nested_accuracy,
    }
