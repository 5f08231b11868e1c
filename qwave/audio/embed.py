"""A folder or table of clips becomes embeddings: cached by content, in several processes.

Shapes: n clips, d features.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qwave.audio.cache import ClipEmbedding, EmbeddingCache, open_cache
from qwave.audio.encoders import DEFAULT_ENCODER, make_encoder
from qwave.audio.files import require_file
from qwave.audio.protocol import encoder_identity
from qwave.audio.sources import Clip, ClipTable, read_source
from qwave.audio.workers import embed_clips, worker_count
from qwave.config import AudioError, DataConfig
from qwave.data import EmbeddingSet, arrays_of, embeddings_from_arrays, folds_and_notes, leave_out
from qwave.data.npz import write_npz
from qwave.text import for_terminal

_SHOWN = 10  # clips that a warning names


@dataclass(frozen=True, eq=False)
class Embedded:
    """Embeddings of clips, and how they were made.

    Attributes:
        data: The embeddings; `data.encoder` is the encoder's identity.
        parameters: Parameters of the encoder.
        weights_digest: Digest of the encoder's weights; empty where it has none.
        layout: Layout of the source, as in `ClipTable.layout`.
        clips_digest: 16 hexadecimal digits over the names of the clips and their contents.
        skipped: One message for each clip that was left out; it names the clip.
        silent: Names of the clips whose samples are all zero; they are not left out.
        noted: Warnings of decoding, for the clips that were decoded now; each names the clip.
        n_made: Number of clips that were decoded and embedded now; the others were in the cache.
        seconds: Wall time of embedding `n_made` clips.
    """

    data: EmbeddingSet
    parameters: Mapping[str, object]
    weights_digest: str
    layout: str
    clips_digest: str
    skipped: tuple[str, ...]
    silent: tuple[str, ...]
    noted: tuple[str, ...]
    n_made: int
    seconds: float


class _Work(NamedTuple):
    """State of the work on the clips of a source; all keys are paths of clips.

    Attributes:
        contents: SHA-256 of the bytes of each clip.
        found: Embedding of each clip that has one.
        faults: Reason why a clip has no embedding.
        notes: Warnings of decoding, for clips that were embedded now.
    """

    contents: dict[Path, str]
    found: dict[Path, ClipEmbedding]
    faults: dict[Path, str]
    notes: dict[Path, Sequence[str]]


def embed_source(
    source: Path,
    *,
    encoder: str = DEFAULT_ENCODER,
    workers: int | None = None,
    is_strict: bool = False,
    split: DataConfig | None = None,
) -> Embedded:
    """Embed all clips of a source; what is in the cache is not made again.

    The result depends on the clips and the encoder alone, not on the number of processes, nor on
    how often the work was stopped and started again. Progress is shown on stderr. Processes are
    spawned: a script that calls this needs ``if __name__ == "__main__":`` around the call.

    Args:
        source: A folder or a table, as `read_source` takes it.
        encoder: Name of the encoder, as `make_encoder` takes it.
        workers: Number of processes; by default one for each processor.
        is_strict: Whether to end at the first clip that cannot be decoded, instead of leaving it
            out with a warning.
        split: How the clips will be split into folds; clips that cannot be split so are refused
            before any is embedded. None: they will not be split.

    Warns of clips that were left out, are silent, have channels that cancel each other, or are
    equal to another clip that may be on the other side of a split.

    Raises:
        AudioError: The source, the encoder or the cache cannot be used; no clip of a class can be
            decoded; a process was killed; or, if strict, one clip cannot be decoded.
        DataError: Labels, folds or recordings in the source are wrong, or clips cannot be split.
    """
    n_workers = worker_count(workers)
    table = read_source(source)
    if split is not None:
        _refuse_unsplittable(table, split)
    made = make_encoder(encoder)
    identity = encoder_identity(made)
    start = time.perf_counter()
    with open_cache() as cache:
        work = _look_up(table.clips, cache, identity, made.num_features)
        todo = {path: work.contents[path] for path in work.contents if path not in work.found}
        _refuse(work.faults, is_strict)
        outcomes = embed_clips(todo, encoder, n_workers, n_known=len(work.found))
        with closing(outcomes):
            for path, outcome, notes in outcomes:
                if isinstance(outcome, ClipEmbedding):
                    cache.keep(work.contents[path], identity, outcome)
                    work.found[path] = outcome
                    work.notes[path] = notes
                else:
                    cache.forget(path)
                    work.faults[path] = outcome
                    _refuse(work.faults, is_strict)
    seconds = time.perf_counter() - start
    _refuse_empty_classes(table, work)
    clips = [clip for clip in table.clips if clip.path in work.found]
    embedded = Embedded(
        data=_embedding_set(clips, table.class_names, work.found, identity),
        parameters=made.parameters,
        weights_digest=made.weights_digest,
        layout=table.layout,
        clips_digest=_clips_digest(clips, work.contents),
        skipped=tuple(work.faults[c.path] for c in table.clips if c.path in work.faults),
        silent=tuple(clip.name for clip in clips if work.found[clip.path].is_silent),
        noted=tuple(note for clip in clips for note in work.notes.get(clip.path, ())),
        n_made=sum(path in work.found for path in todo),
        seconds=seconds,
    )
    _warn(embedded, [work.contents[clip.path] for clip in clips])
    return embedded


def save_embeddings(path: Path, embedded: Embedded) -> None:
    """Write a ``.npz`` file that `qwave.load_embeddings` reads; one that is there is replaced.

    Arrays of the file: ``x`` float16 [n, d], ``y``, ``fold`` and ``group`` where they are known,
    ``names``, ``class_names``, and, each a single text, ``encoder``, ``encoder_parameters``
    (JSON), ``weights_digest``, ``data_digest``, ``clips_digest``, ``layout``. Equal embeddings
    give equal bytes: the archive's entries have no date and are not compressed.

    Raises:
        AudioError: The file cannot be written.
    """
    data = embedded.data
    arrays = {
        **arrays_of(data),
        "x": data.x.astype(np.float16),
        "encoder_parameters": np.array(json.dumps(dict(embedded.parameters), sort_keys=True)),
        "weights_digest": np.array(embedded.weights_digest),
        "data_digest": np.array(data.digest),
        "clips_digest": np.array(embedded.clips_digest),
        "layout": np.array(embedded.layout),
    }
    try:
        write_npz(path, arrays)
    except OSError as error:
        raise AudioError(f"{path} cannot be written: {error.strerror or error}") from error


def _look_up(
    clips: Sequence[Clip], cache: EmbeddingCache, identity: str, num_features: int
) -> _Work:
    """The digest of each clip's content, and the embeddings that are in the cache already."""
    from tqdm import tqdm

    work = _Work({}, {}, {}, {})
    # Shown only where it takes a while: where files must be read.
    for clip in tqdm(clips, desc="read", unit="clip", dynamic_ncols=True, delay=1, leave=False):
        try:
            require_file(clip.path)
            content = cache.content_of(clip.path)
        except AudioError as error:
            work.faults[clip.path] = str(error)
            continue
        except OSError as error:
            work.faults[clip.path] = f"{clip.path} cannot be read: {error.strerror or error}"
            continue
        work.contents[clip.path] = content
        if (embedding := cache.find(content, identity, num_features)) is not None:
            work.found[clip.path] = embedding
    return work


def _refuse(faults: Mapping[Path, str], is_strict: bool) -> None:
    if faults and is_strict:
        raise AudioError(next(iter(faults.values())))


def _refuse_unsplittable(table: ClipTable, split: DataConfig) -> None:
    """Try the split without embeddings: it depends on labels, folds and recordings only."""
    stand_in = np.zeros(1, dtype=np.float32)
    found = {clip.path: ClipEmbedding(stand_in, False) for clip in table.clips}
    # Notes are about the clips that can be decoded: they come when these are known.
    labels = _embedding_set(table.clips, table.class_names, found, "")
    folds_and_notes(leave_out(labels, split.holdout_fold), split)


def _refuse_empty_classes(table: ClipTable, work: _Work) -> None:
    filled = {clip.label for clip in table.clips if clip.path in work.found}
    for label in table.class_names:
        if label not in filled:
            faults = [work.faults[clip.path] for clip in table.clips if clip.label == label]
            raise AudioError(
                f"class {label!r} is left without clips: none of its {len(faults)} can be used; "
                f"the first: {faults[0]}"
            )


def _embedding_set(
    clips: Sequence[Clip],
    class_names: Sequence[str],
    found: Mapping[Path, ClipEmbedding],
    identity: str,
) -> EmbeddingSet:
    fold = [clip.fold for clip in clips]
    group = [clip.group for clip in clips]
    return embeddings_from_arrays(
        np.stack([found[clip.path].x for clip in clips]),
        [class_names.index(clip.label) for clip in clips],
        fold=None if None in fold else fold,
        group=None if None in group else group,
        names=[clip.name for clip in clips],
        class_names=class_names,
        encoder=identity,
    )


def _clips_digest(clips: Sequence[Clip], contents: Mapping[Path, str]) -> str:
    text = json.dumps([[clip.name, contents[clip.path]] for clip in clips])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _warn(embedded: Embedded, contents: Sequence[str]) -> None:
    """Warn of clips that were left out, are silent, were noted, or are equal to others."""
    if embedded.skipped:
        n_clips = len(contents) + len(embedded.skipped)
        _note(f"of {n_clips} clips cannot be used and are left out", embedded.skipped)
    if embedded.silent:
        _note("clips are silent: all of their samples are zero", embedded.silent)
    if embedded.noted:
        _note("notes on clips that were decoded", embedded.noted)
    if twins := parted_twins(embedded.data, contents):
        _note(
            "recordings stand under several names, byte for byte the same, in several classes or "
            "where a split may part them",
            twins,
        )


def _note(what: str, items: Sequence[str]) -> None:
    shown = [*map(for_terminal, items[:_SHOWN]), *(["..."] if len(items) > _SHOWN else [])]
    lines = "\n  ".join([f"{len(items)} {what}:", *shown])
    warnings.warn(lines, UserWarning, stacklevel=4)


def parted_twins(data: EmbeddingSet, contents: Sequence[str]) -> list[str]:
    """Clips with equal contents whose class differs, or that may be on both sides of a split.

    Without folds, a split keeps clips of one recording together, and may part all others.
    """
    twins: dict[str, list[int]] = {}
    for row, content in enumerate(contents):
        twins.setdefault(content, []).append(row)
    found = []
    for rows in twins.values():
        sides = data.fold if data.fold is not None else data.group
        if len({(data.y[row], row if sides is None else sides[row]) for row in rows}) > 1:
            found.append(" = ".join(_described(data, row) for row in rows))
    return found


def _described(data: EmbeddingSet, row: int) -> str:
    """Name, class and official fold of a clip, for a warning."""
    fold = "" if data.fold is None else f", fold {data.fold[row]}"
    return f"{data.names[row]} ({data.class_names[data.y[row]]}{fold})"


def embed(
    source: str | Path,
    *,
    encoder: str = DEFAULT_ENCODER,
    out: str | Path | None = None,
    workers: int | None = None,
    is_strict: bool = False,
) -> EmbeddingSet:
    """Embed recordings: what ``qwave embed`` does, as a function.

    Processes are spawned: a script calls this below ``if __name__ == "__main__":``.

    Args:
        source: A folder with one folder of clips for each class, a data set as published, or a
            CSV file of ``path,label[,fold,group]``.
        encoder: Name of the encoder, see `make_encoder`.
        out: A ``.npz`` file to write as well, for ``data.path``.
        workers: Number of processes; default: one for each processor.
        is_strict: Refuse clips that cannot be decoded instead of leaving them out with a warning.

    Raises:
        AudioError: As `embed_source`; or `out` cannot be written.
        DataError: As `embed_source`.
    """
    embedded = embed_source(Path(source), encoder=encoder, workers=workers, is_strict=is_strict)
    if out is not None:
        save_embeddings(Path(out), embedded)
    return embedded.data
