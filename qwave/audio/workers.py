"""Processes that decode and embed clips, one thread each."""

from __future__ import annotations

import functools
import hashlib
import io
import warnings
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from qwave.audio.cache import ClipEmbedding
from qwave.audio.decode import fit_length, read_clip, require_decoder
from qwave.audio.encoders import embed_waveforms, make_encoder
from qwave.audio.files import open_file
from qwave.audio.protocol import Encoder
from qwave.config import AudioError, ConfigError
from qwave.processes import WorkerPool, processor_count


def worker_count(wanted: int | None) -> int:
    """Number of processes to embed with: as wanted, else one for each processor.

    Raises:
        ConfigError: Fewer than one is wanted.
    """
    if wanted is None:
        return processor_count()
    if wanted < 1:
        raise ConfigError(f"`workers >= 1` must hold, but got workers={wanted}")
    return wanted


def embed_clips(
    contents: Mapping[Path, str], encoder: str, workers: int, *, n_known: int
) -> Generator[tuple[Path, ClipEmbedding | str, Sequence[str]], None, None]:
    """Decode and embed files, each yielded as soon as it is done, in any order.

    Args:
        contents: Each file with the SHA-256 of the bytes that it must still have.
        encoder: Name of the encoder, see `qwave.audio.make_encoder`.
        workers: Number of processes, at least 1.
        n_known: Number of clips that need not be embedded, for the progress bar.

    Yields:
        A file, its embedding or the fault of the file, and the warnings of decoding it.

    Raises:
        AudioError: A process was ended from outside; all that was done has been yielded.
        ConfigError: As `qwave.processes.require_main_guard`.
    """
    from tqdm import tqdm

    if not contents:
        return
    require_decoder()  # once, and not for every clip
    workers = min(workers, len(contents))
    total = n_known + len(contents)
    with (
        WorkerPool(workers) as pool,
        tqdm(total=total, initial=n_known, unit="clip", desc="embed", dynamic_ncols=True) as bar,
    ):
        futures = {
            pool.submit(_embed_with_notes, encoder, path, content): path
            for path, content in contents.items()
        }
        outcome: ClipEmbedding | str
        notes: Sequence[str]
        n_faults, lost = 0, set()
        for future in as_completed(futures):
            try:
                outcome, notes = future.result()
            except BrokenProcessPool:
                lost.add(future)
                continue
            except AudioError as error:
                n_faults, outcome, notes = n_faults + 1, str(error), ()
                bar.set_postfix(faults=n_faults)
            bar.update()
            yield futures[future], outcome, notes
        if lost:
            raise AudioError(pool.why_none_began() or _lost_message(futures, lost, workers))


def _lost_message(futures: Mapping[Future, Path], lost: set[Future], workers: int) -> str:
    # Clips are handed out in order: those that were being embedded come first.
    suspects = [str(path) for future, path in futures.items() if future in lost][:workers]
    return (
        f"a process that embeds was ended from outside (for want of memory?), {len(lost)} clips "
        f"before the end; it was at {' or '.join(suspects)}. What was done is kept: start again, "
        "and if it ends at the same clip, leave that one out"
    )


@functools.cache
def _encoder_here(spec: str) -> Encoder:
    """The encoder of this process, made once."""
    from threadpoolctl import threadpool_limits

    encoder = make_encoder(spec)
    threadpool_limits(1)  # of all libraries that are loaded by now, torch's among them
    return encoder


def _embed_with_notes(
    spec: str, path: Path, content: str
) -> tuple[ClipEmbedding, tuple[str, ...]]:
    """The result of `_embed_clip`, and its warnings, which would be lost in this process."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        embedding = _embed_clip(spec, path, content)
    notes = [str(w.message) for w in caught if w.category is UserWarning]
    return embedding, tuple(notes)


def _embed_clip(spec: str, path: Path, content: str) -> ClipEmbedding:
    """One clip, as a worker embeds it.

    Raises:
        AudioError: The clip cannot be decoded or embedded, or its file has changed.
    """
    encoder = _encoder_here(spec)
    try:
        with open_file(path) as stream:
            raw = stream.read()
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(raw).hexdigest() != content:
        raise AudioError(f"{path} has changed while it was read; start again")
    waveform = read_clip(io.BytesIO(raw), encoder.sample_rate, name=str(path))
    waveform = fit_length(waveform, round(encoder.clip_seconds * encoder.sample_rate))
    x = embed_waveforms(encoder, waveform[None])[0]
    return ClipEmbedding(x.astype(np.float16), not waveform.any())
