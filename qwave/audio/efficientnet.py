"""EfficientNet-Lite, lite0 to lite4: from published weights to feature maps, inference only.

The blocks of EfficientNet without squeeze-and-excitation, with ReLU6. The package that published
these weights for PyTorch (efficientnet-lite-pytorch) has had no release since 2020, prints while
it runs and pads for one picture size only; the tests prove that both compute the same.

Shapes: b pictures, c channels, h and w pixels.

References:
    Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks,
    arXiv 1905.11946, table 1.
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.nn import functional as F

from qwave.config import AudioError, nearest

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
# What PyTorch calls small: a single picture of no more values is not convolved by oneDNN.
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
    """Convolutions one after the other; with a skip, their input is added to what they give."""

    convolutions: tuple[Convolution, ...]
    has_skip: bool = False


def read_efficientnet_lite(name: str, state: Mapping[str, torch.Tensor]) -> tuple[Block, ...]:
    """A network from its published state dict.

    Args:
        name: A key of `SCALES`.
        state: Tensors under the names of the package efficientnet-lite-pytorch. The classifier
            may be there; it is not used.

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

    c is 1280 behind the head. Sizes are rounded up. Fastest on pictures that are channels-last in
    memory.
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
        # Dilation means nothing to a kernel of one pixel, but sends it to oneDNN. Else PyTorch
        # takes the path of its own that it holds to be faster on one thread and for few
        # pictures: a clip then takes 24 ms instead of 16, and its last bits depend on both.
        y = F.conv2d(x, weight, bias, dilation=2)
    else:
        # A convolution pads both ends alike. Where SAME does not, zeros before the kernel make
        # up for it; to copy the picture into a padded one takes longer.
        kernel = F.pad(weight, (right - left, 0, bottom - top, 0))
        y = F.conv2d(x, kernel, bias, stride, (bottom, right), groups=groups)
    return y.clamp_(0, 6) if has_relu6 else y


def _same_padding(pixels: int, size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, as TensorFlow's SAME has them: an odd one comes after."""
    total = max((math.ceil(pixels / stride) - 1) * stride + size - pixels, 0)
    return total // 2, total - total // 2


def _block_sizes(width: float, depth: float) -> list[tuple[int, int, int, int]]:
    """Kernel size, stride, expansion and output channels of each block."""
    sizes = []
    for stage in _STAGES:
        is_fixed = stage in (_STAGES[0], _STAGES[-1])
        n_blocks = stage.n_blocks if is_fixed else math.ceil(stage.n_blocks * depth)
        channels = _round_channels(stage.num_channels * width)
        for place in range(n_blocks):
            stride = stage.stride if place == 0 else 1
            sizes.append((stage.kernel_size, stride, stage.expansion, channels))
    return sizes


def _round_channels(channels: float) -> int:
    """The nearest multiple of 8, or the next one where that is less than nine tenths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
