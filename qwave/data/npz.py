"""``.npz`` files: arrays are checked by their headers before they are unpacked."""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from qwave.config import DataError, nearest
from qwave.data.columns import could_split, plain_name, role_of
from qwave.data.kinds import refuse_other_kinds, require_memory
from qwave.data.labels import LabelColumn, as_text, choose_labels

# The first name is the documented one; the others have the same meaning in other files.
_KEYS = {
    "x": ("x", "X", "embeddings", "features"),
    "y": ("y", "labels", "label", "target", "class_id"),
    "fold": ("fold", "folds"),
    "group": ("group", "groups"),
    "names": ("names", "name", "filename", "filenames"),
    "class_names": ("class_names", "classes"),
    "encoder": ("encoder",),
}
# Plain names with the meaning of class_names, read if there is no array by the names above.
_CLASS_NAMES = ("classnames", "labelnames", "targetnames")
# Numbers compress to a half or a tenth. What unpacks to 100 times its length is no data, and can
# do harm from 256 MiB on.
_LARGEST_RATIO = 100
_SMALL_BYTES = 2**28


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    info: zipfile.ZipInfo

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_npz(file: Path, source: str) -> dict[str, Any]:
    """The arrays of a ``.npz`` file that are needed, for `checked_embeddings`.

    Other arrays are not read. Nothing is unpickled. Two arrays of one meaning must be equal.

    Raises:
        DataError: The file is damaged or of another kind, lacks x or y, or holds an array of
            Python objects, or one that is larger than the file or the memory can hold.
    """
    refuse_other_kinds(file, source, "zip")
    try:
        with zipfile.ZipFile(file) as archive:
            return _read_arrays(archive, source)
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib, bz2, lzma and numpy raise errors of every kind
        is_no_zip = isinstance(error, zipfile.BadZipFile) and "not a zip" in str(error)
        fault = f"{error or type(error).__name__}"
        if is_no_zip and _begins_as_zip(file):
            fault = "it begins as one, but its end is missing"
        raise DataError(
            f"{source} cannot be read as a .npz file: {fault}; write it again with numpy.savez, "
            "or download it again if the download was cut off"
        ) from error


def _begins_as_zip(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _read_arrays(archive: zipfile.ZipFile, source: str) -> dict[str, Any]:
    held: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if info.filename in held or name in held:
            raise DataError(f"{source} holds {name!r} twice; write it again with numpy.savez")
        held[name] = info
    present = {
        ours: [name for name in accepted if name in held] or [n for n in held if _also(n) == ours]
        for ours, accepted in _KEYS.items()
    }
    for ours in ("x", "y"):
        if not present[ours]:
            accepted = _KEYS[ours]
            hints = [hint for name in held if (hint := nearest(name, accepted))]
            if remedy := _foreign(held):
                raise DataError(f"{source} cannot be read as a .npz file: {remedy}")
            raise DataError(
                f"{source} has no array {ours!r} (also accepted: {', '.join(accepted[1:])}); it "
                f"holds {', '.join(list(held)[:20]) or 'nothing'}{''.join(hints[:1])}; write "
                "numpy.savez(FILE, x=FEATURES, y=LABELS)"
            )
    notes = [
        f"the {ours} is array {present[ours][0]!r}"
        for ours in ("fold", "group")
        if present[ours] and present[ours][0] not in _KEYS[ours]
    ]
    unused = [
        name for name in list(held)[:1000] if (may := could_split(name)) and not present[may]
    ]
    if unused:
        notes.append(
            f"not used: {', '.join(map(repr, unused[:12]))}; name an array of official folds "
            "'fold', and one of recordings 'group', if these are that"
        )
    if notes:
        warnings.warn(f"{source}: {'; '.join(notes)}", UserWarning, stacklevel=4)
    headers = {
        name: _header(archive, held[name], name, source)
        for names in present.values()
        for name in names
    }
    total = sum(header.n_bytes for header in headers.values())
    # As x is read it is also there as float32.
    require_memory(2 * total, source, f"reading {', '.join(headers)}")
    arrays = {name: _array(archive, header) for name, header in headers.items()}
    found = {
        ours: _same(names, arrays, source)
        for ours, names in present.items()
        if names and ours != "y"
    }
    return {**found, **_labels(present["y"], arrays, len(np.atleast_1d(found["x"])), source)}


def _also(name: str) -> str | None:
    """The array of `_KEYS` that an array of another name certainly is; None if it is none."""
    if plain_name(name) in _CLASS_NAMES:
        return "class_names"
    return {"fold": "fold", "group": "group", "name": "names"}.get(role_of(name) or "")


def _foreign(held: Collection[str]) -> str | None:
    """Advice for an archive of another library, known by its arrays; None for other archives."""
    if {"indptr", "indices", "format"} <= set(held):
        return (
            "it is a sparse matrix of scipy, without labels; write "
            "numpy.savez(FILE, x=scipy.sparse.load_npz(THIS).toarray(), y=LABELS)"
        )
    if any(name.rsplit("/", 1)[-1] == "data.pkl" for name in held):
        return (
            "it is a file of torch.save; load it with torch, and write numpy.savez(FILE, "
            "x=FEATURES.numpy(), y=LABELS)"
        )
    return None


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, source: str) -> _Header:
    """Type and shape of an array; they must agree with its length in the archive."""
    where = f"{source}: array {name!r}"
    with archive.open(info) as stream:
        try:
            shape, dtype = _read_header(stream)
        except Exception as error:  # numpy evaluates a header's text, which may hold anything
            raise DataError(
                f"{where} is no array as numpy writes it ({error}); write it again with "
                "numpy.savez"
            ) from error
        length = stream.tell()
    if dtype.hasobject:
        raise DataError(
            f"{where} holds pickled values (arrays of Python objects are refused); write "
            f"{name}={name}.astype({'float' if name in _KEYS['x'] else 'str'})"
        )
    header = _Header(dtype, shape, info)
    n_bytes = info.file_size - length
    if dtype.itemsize == 0 or min(shape, default=0) < 0 or header.n_bytes != n_bytes:
        raise DataError(
            f"{where} says that it is {dtype} of shape {shape}, {header.n_bytes} bytes, but the "
            f"file holds {n_bytes} bytes for it; write it again with numpy.savez"
        )
    ratio = info.file_size / max(info.compress_size, 1)
    if ratio > _LARGEST_RATIO and info.file_size > _SMALL_BYTES:
        raise DataError(
            f"{where} would unpack from {info.compress_size} bytes to {info.file_size} "
            f"({dtype} of shape {shape}), which embeddings never do; write the file again with "
            "numpy.savez (which does not compress) if it is right"
        )
    return header


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"version {version} of the .npy format")
    return shape, dtype


def _array(archive: zipfile.ZipFile, header: _Header) -> np.ndarray:
    with archive.open(header.info) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read(1)  # at its end the archive compares the check sum
    return array


def _same(names: Sequence[str], arrays: dict[str, np.ndarray], source: str) -> np.ndarray:
    """The first of several arrays of one meaning, which must be equal."""
    first, *others = names
    for other in others:
        if not np.array_equal(arrays[first], arrays[other]):
            raise DataError(
                f"{source}: arrays {first!r} and {other!r} mean the same, but differ; keep the "
                "one that is right"
            )
    return arrays[first]


def _labels(
    names: Sequence[str], arrays: dict[str, np.ndarray], n_rows: int, source: str
) -> dict[str, Any]:
    """The label of each row, and names by class id, from one array or several that agree."""
    if len(names) == 1:
        return {"y": arrays[names[0]]}
    columns = []
    for name in names:
        if arrays[name].shape != (n_rows,):
            raise DataError(
                f"{source}: arrays {names[0]!r} and {names[1]!r} could both be the labels, but "
                f"{name!r} has shape {arrays[name].shape} for {n_rows} rows of x; keep the one "
                "that is right (names of classes are 'class_names')"
            )
        columns.append(LabelColumn(name, as_text(arrays[name], f"{source}: {name!r}")))
    chosen = choose_labels(columns, source, range(n_rows))
    return {"y": chosen.values, "label_of": chosen.label_of}


def write_npz(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a ``.npz`` file; one that is there is replaced, whole or not at all.

    Equal arrays give equal bytes: the archive's entries have no date and are not compressed.

    Raises:
        OSError: The file cannot be written.
    """
    # The file's own name may be as long as a name can be.
    unfinished = file.with_name(f".{os.getpid()}.npz.tmp")
    try:
        with unfinished.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
