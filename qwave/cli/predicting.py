"""The work of ``qwave predict``: clips in, rows or JSON out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwave.audio import Encoder, encoder_identity
from qwave.audio.decode import read_blocks
from qwave.audio.sources import AUDIO_SUFFIXES, list_clips
from qwave.audio.stream import raw_blocks, stream_windows, wav_blocks
from qwave.cli.predictions import (
    Column,
    make_columns,
    prediction_values,
    segment_values,
    show_heading,
    show_row,
    window_values,
)
from qwave.config import AudioError, ConfigError
from qwave.inference import (
    SoundPrediction,
    audacity_labels,
    encoder_of,
    find_segments,
    predict_clip,
    predict_windows,
    window_parts,
)
from qwave.runtime import PackedClassifier, load_packed
from qwave.text import for_terminal

# Of a clip longer than this many lengths of the encoder's, a good part is not heard.
_MUCH_LONGER = 1.5
_SECONDS = (0.001, 86_400.0)  # range of windows and hops: no less than a sample, at most a day


class Job(NamedTuple):
    """A model, its encoder, and how recordings are cut.

    Attributes:
        model: The model that predicts.
        encoder: The encoder that the model was trained with.
        window_seconds: Length of the windows; None for clips that are predicted whole.
        hop_seconds: Time from the start of a window to that of the next; None as above.
        arguments: The parsed command line.
    """

    model: PackedClassifier
    encoder: Encoder
    window_seconds: float | None
    hop_seconds: float | None
    arguments: argparse.Namespace

    def columns(self, clips: Sequence[Path]) -> list[Column]:
        """The columns of the table of predictions of these clips; none for live sound."""
        has_windows = self.window_seconds is not None
        return make_columns(self.model, clips, self.arguments.top, has_windows=has_windows)


def predict_and_show(arguments: argparse.Namespace) -> int:
    """Run ``qwave predict``; returns the exit code."""
    is_live = _check(arguments)
    model = load_packed(arguments.model)
    clips = [] if is_live else find_clips(arguments.clips)
    files = [
        _file_for_each(path, clips, option) if path else {}
        for option, path in _files_of(arguments)
    ]
    encoder = encoder_of(model, arguments.encoder)
    window, hop = arguments.window, arguments.hop
    if window is None and (hop is not None or is_live):
        window = encoder.clip_seconds
    job = Job(model, encoder, window, window if hop is None else hop, arguments)
    if not model.packed.header.sure_probability:
        _note(
            "the model has no threshold below which it is unsure: none was fitted (`qwave export` "
            "fits one)"
        )
    if window is not None and window > encoder.clip_seconds:
        _note(
            f"the encoder hears {encoder.clip_seconds:g} s: of each window of {window:g} s the "
            "rest is left out"
        )
    return _predict_stdin(job) if is_live else _predict_clips(job, clips, *files)


def find_clips(arguments: Sequence[str]) -> list[Path]:
    """The recordings that are named, and those in folders (`qwave.audio.sources.list_clips`).

    A file that is named itself is taken whatever its suffix.

    Raises:
        AudioError: A file or folder does not exist or has no name, or a folder has no clips.
    """
    clips: list[Path] = []
    if "" in arguments:  # a shell's unset variable; as a path it would be this folder
        raise AudioError("a CLIP is empty: name a recording, a folder, or - for sound on stdin")
    for path in map(Path, arguments):
        if not os.path.lexists(path):
            raise AudioError(f"{path}: there is no such file or folder")
        if not os.path.isdir(path):
            clips.append(path)
            continue
        found = list_clips(path)
        if not found:
            raise AudioError(
                f"{path}: no clips in this folder or below it; a clip's name ends "
                f"in {' '.join(AUDIO_SUFFIXES)}"
            )
        clips += found
    return clips


def _check(arguments: argparse.Namespace) -> bool:
    """Refuse arguments that do not go together; returns whether the sound comes on stdin."""
    is_live = arguments.clips == ["-"]
    if "-" in arguments.clips and not is_live:
        raise ConfigError("- (sound on stdin) must be the only CLIP")
    if arguments.raw is not None and not is_live:
        raise ConfigError("--raw RATE is about sound on stdin: give - as the only CLIP")
    if arguments.top < 1:
        raise ConfigError(f"--top must be at least 1, but is {arguments.top}")
    for option, seconds in (("--window", arguments.window), ("--hop", arguments.hop)):
        if seconds is not None and not _SECONDS[0] <= seconds <= _SECONDS[1]:  # or NaN
            raise ConfigError(
                f"{option} must be {_SECONDS[0]:g} to {_SECONDS[1]:g} seconds, but is {seconds:g}"
            )
    has_windows = is_live or arguments.window is not None or arguments.hop is not None
    for option, path in _files_of(arguments):
        if path is not None and not has_windows:
            raise ConfigError(f"{option} needs windows: --window 5 --hop 2.5, for example")
        if path is not None and not os.path.isdir(path.parent):
            raise ConfigError(f"{option} {path}: there is no folder {path.parent}")
    if arguments.timeline is not None and arguments.timeline.suffix.lower() != ".png":
        raise ConfigError(f"--timeline {arguments.timeline}: the picture's name must end in .png")
    return is_live


def _files_of(arguments: argparse.Namespace) -> list[tuple[str, Path | None]]:
    """The options that write a file for each recording, with their paths."""
    return [("--timeline", arguments.timeline), ("--audacity", arguments.audacity)]


def _file_for_each(path: Path, clips: Sequence[Path], option: str) -> dict[Path, Path]:
    """The file of each recording: `path` itself for one recording, else ``NAME_STEM.png``."""
    if len(clips) == 1:
        return {clips[0]: path}
    twice = [stem for stem, n in Counter(clip.stem for clip in clips).items() if n > 1]
    if twice:
        raise ConfigError(
            f"{option} writes one file a recording, named after it, but several are called "
            f"{twice[0]!r}: predict them one by one"
        )
    return {clip: path.with_name(f"{path.stem}_{clip.stem}{path.suffix}") for clip in clips}


def _predict_clips(
    job: Job, clips: Sequence[Path], pictures: dict[Path, Path], labels: dict[Path, Path]
) -> int:
    columns, n_rows = job.columns(clips), 0
    values: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    cut: list[Path] = []
    for clip in clips:
        predictions = []
        try:
            for prediction in _predictions(job, clip):
                predictions.append(prediction)
                if not job.arguments.json:
                    _write_row(columns, clip, prediction, n_rows)
                    n_rows += 1
        except AudioError as error:
            sys.stderr.write(f"error: {for_terminal(error)}\n")
            failed.append({"path": str(clip), "fault": str(error)})
            continue
        values.append(_clip_values(job, clip, predictions))
        _write_files(job, predictions, clip.name, pictures.get(clip), labels.get(clip))
        longest = _MUCH_LONGER * job.encoder.clip_seconds
        if job.window_seconds is None and predictions[0].end_seconds > longest:
            cut.append(clip)
    if cut:
        heard, one = f"{job.encoder.clip_seconds:g}", for_terminal(cut[0])
        several = f"{len(cut)} of {len(clips)} clips, {one} for one, were"
        _note(
            f"{several if len(clips) > 1 else f'{one} was'} cut to the {heard} s that the "
            f"encoder hears; --window {heard} hears all of a recording"
        )
    if job.arguments.json:
        header = job.model.packed.header
        _write_json(
            {
                "model": str(job.arguments.model),
                "encoder": encoder_identity(job.encoder),
                "class_names": list(header.class_names),
                "sure_probability": header.sure_probability,
                "clips": values,
                "failed": failed,
            }
        )
    if not failed:
        return 0
    if len(clips) > 1:
        _note(f"{len(failed)} of {len(clips)} clips could not be decoded")
    return 1 if values else 2


def _predictions(job: Job, clip: Path) -> Iterator[SoundPrediction]:
    """The prediction of a whole clip, or those of its windows."""
    if job.window_seconds is None or job.hop_seconds is None:
        yield predict_clip(job.model, job.encoder, clip)
        return
    rate = job.encoder.sample_rate
    windows = stream_windows(read_blocks(clip, rate), rate, job.window_seconds, job.hop_seconds)
    yield from predict_windows(job.model, job.encoder, windows)


def _predict_stdin(job: Job) -> int:
    """Predict sound on stdin, each window as soon as it is complete."""
    assert job.window_seconds is not None, "live sound has windows"
    assert job.hop_seconds is not None, "live sound has windows"
    arguments, rate = job.arguments, job.encoder.sample_rate
    stdin = sys.stdin.buffer
    is_raw = arguments.raw is not None
    blocks = raw_blocks(stdin, arguments.raw, rate) if is_raw else wav_blocks(stdin, rate)
    windows = stream_windows(blocks, rate, job.window_seconds, job.hop_seconds)
    columns = job.columns([])
    # Predictions are kept only for a picture or labels: a microphone may run for months.
    is_kept = arguments.timeline is not None or arguments.audacity is not None
    kept: list[SoundPrediction] = []
    n_windows = 0
    try:
        for prediction in predict_windows(job.model, job.encoder, windows, batch_size=1):
            if is_kept:
                kept.append(prediction)
            if arguments.json:
                _write_json(window_values(job.model, prediction, arguments.top))
            else:
                _write_row(columns, None, prediction, n_windows)
            n_windows += 1
    finally:  # Ctrl-C is how live sound ends
        if kept:
            _write_files(job, kept, "stdin", arguments.timeline, arguments.audacity)
    if not n_windows:
        raise AudioError("stdin: the stream has no samples")
    return 0


def _write_files(
    job: Job,
    predictions: Sequence[SoundPrediction],
    name: str,
    picture: Path | None,
    labels: Path | None,
) -> None:
    """Write the timeline and the label track of one recording, if their paths are given."""
    if labels is not None:
        _write_file(labels, audacity_labels(find_segments(predictions)).encode())
    if picture is not None:
        from qwave.report import timeline_png

        header = job.model.packed.header
        png = timeline_png(
            window_parts(predictions),
            [prediction.probabilities for prediction in predictions],
            header.class_names,
            sure_probability=header.sure_probability,
            title=f"What is heard in {for_terminal(name)}",
            subtitle=f"{for_terminal(job.arguments.model.name)}, windows of "
            f"{job.window_seconds:g} s, one every {job.hop_seconds:g} s",
        )
        _write_file(picture, png)


def _write_file(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _write_row(
    columns: Sequence[Column], clip: Path | None, prediction: SoundPrediction, n_before: int
) -> None:
    """Write a row, with the heading before the first one: an error alone needs no heading."""
    if n_before == 0:
        _write_line(show_heading(columns))
    _write_line(show_row(columns, clip, prediction))


def _clip_values(job: Job, clip: Path, predictions: Sequence[SoundPrediction]) -> dict[str, Any]:
    path, n_top = {"path": str(clip)}, job.arguments.top
    if job.window_seconds is None:
        (only,) = predictions
        values = prediction_values(job.model, only, n_top)
        return {**path, "seconds": only.end_seconds, **values}
    return {
        **path,
        "windows": [window_values(job.model, window, n_top) for window in predictions],
        "segments": [segment_values(segment) for segment in find_segments(predictions)],
    }


def _write_json(value: dict[str, Any]) -> None:
    _write_line(json.dumps(value, allow_nan=False))


def _write_line(line: str) -> None:
    """Write a line and flush it, so that a reader of the pipe gets it at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _note(text: str) -> None:
    sys.stderr.write(f"note: {text}\n")
