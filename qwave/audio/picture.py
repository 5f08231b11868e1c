"""Encoders by an image network, which is given the clip's log-mel spectrogram as a picture.

Shapes: n clips, s samples, f frames, m mel bands, h and w pixels, d features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from qwave.audio.logmel import LogMel, log_mel, mel_filterbank
from qwave.config import AudioError

# Mean and standard deviation of ImageNet's pixels: red, green and blue, between 0 and 1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Picture:
    """The size and normalisation of pictures that a network expects.

    Attributes:
        height: Height in pixels, the axis of frequency.
        width: Width in pixels, the axis of time.
        mean: Subtracted from pixels between 0 and 1; one number for each of the three channels.
        std: Divides the difference; one number for each of the three channels.
    """

    height: int = 224
    width: int = 512
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise AudioError(
                f"a picture must have pixels, but got height={self.height}, width={self.width}"
            )


def draw_picture(spectrogram: torch.Tensor, picture: Picture) -> torch.Tensor:
    """A spectrogram as a picture: float32 [m, f] to float32 [1, 3, h, w], channels last in memory.

    Low frequencies are at the bottom; the three channels are equal before they are normalised.
    The picture is resized bilinearly, with antialiasing where it shrinks.
    """
    grey = torch.nn.functional.interpolate(
        spectrogram.flip(0)[None, None],
        size=(picture.height, picture.width),
        mode="bilinear",
        antialias=True,
    )
    mean, std = torch.tensor(picture.mean), torch.tensor(picture.std)
    return ((grey[..., None] - mean) / std)[0].permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class PictureEncoder:
    """An encoder that makes a log-mel spectrogram, draws it, and gives the picture to a network.

    Attributes:
        name: Name of the encoder, as ``--encoder`` takes it.
        network: Function from a picture, float32 [1, 3, h, w], to features, float32 [1, d].
        network_parameters: Everything besides the network's weights that decides the features;
            JSON-able.
        num_features: Number of features, d.
        weights_digest: `digest_weights` of the network's weights.
        picture: Size and normalisation of the picture.
        settings: Settings of the spectrogram.
        clip_seconds: Length of the waveforms that the encoder takes.
    """

    name: str
    network: Callable[[torch.Tensor], torch.Tensor]
    network_parameters: Mapping[str, object]
    num_features: int
    weights_digest: str
    picture: Picture = Picture()
    settings: LogMel = LogMel()
    clip_seconds: float = 5.0
    _filterbank: torch.Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # A copy: where numpy's memory begins, and with it the last bits of products, varies.
        filterbank = torch.tensor(mel_filterbank(self.settings))
        object.__setattr__(self, "_filterbank", filterbank)

    @property
    def sample_rate(self) -> int:
        return self.settings.sample_rate

    @property
    def parameters(self) -> Mapping[str, object]:
        return {
            "clip_seconds": self.clip_seconds,
            "log_mel": dataclasses.asdict(self.settings),
            "picture": dataclasses.asdict(self.picture),
            "network": dict(self.network_parameters),
        }

    def encode(self, waveforms: np.ndarray) -> np.ndarray:
        """Embeddings of waveforms: float32 [n, s] to float32 [n, d].

        Clips are embedded one by one: in a batch the last bits of a sum could depend on the other
        clips, and pictures of this size gain nothing from one. One thread is used: with more,
        some processors sum in another order, and the same clip would have two embeddings.
        """
        embeddings = np.empty((len(waveforms), self.num_features), np.float32)
        with torch.inference_mode(), _one_thread():
            for waveform, embedding in zip(waveforms, embeddings, strict=True):
                levels = log_mel(torch.tensor(waveform), self.settings, self._filterbank)
                embedding[:] = self.network(draw_picture(levels, self.picture))[0]
        return embeddings


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute on one thread within the block; afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
