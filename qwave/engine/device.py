"""Where a trial runs, and the random numbers it runs on."""

from __future__ import annotations

import hashlib

import torch

from qwave.config import DeviceError


def resolve_device(device: str) -> torch.device:
    """The torch device of a name: ``cpu``, ``cuda`` (or ``cuda:1``) or ``mps``.

    Raises:
        DeviceError: The name is unknown or the device is not there.
    """
    kind = device.split(":")[0]
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if kind not in there:
        raise DeviceError(f"device must be cpu, cuda or mps, but got {device!r}")
    if not there[kind]:
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise DeviceError(f"device {device!r} is not there; found: {found}")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"device {device!r} is not a device: {error}") from error
    if kind == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {device!r} is not there; found {torch.cuda.device_count()} CUDA device(s)"
        )
    return resolved


def fold_seed(digest: str, fold: int, purpose: str) -> int:
    """Seed of a fold's random numbers: the same wherever and whenever the trial runs."""
    text = f"{digest}/{fold}/{purpose}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def fold_generator(digest: str, fold: int, purpose: str) -> torch.Generator:
    """A generator on the CPU, seeded with `fold_seed`."""
    return torch.Generator().manual_seed(fold_seed(digest, fold, purpose))
