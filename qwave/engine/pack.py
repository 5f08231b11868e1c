"""From trained parameters to packed models: codes, scales, and the range of curiosity."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qwave.config import SCHEMES, ConfigError, TrialConfig
from qwave.data import EmbeddingSet, Fold, Normalizer
from qwave.engine.device import fold_seed
from qwave.engine.train import TrainedFolds
from qwave.nn.mixture import Mixture, mutual_information
from qwave.nn.quantizers import quantize
from qwave.packing import PackedLayer, PackedModel, layer_shapes, make_header, mc_masks

# Training clips that the range of curiosity is fitted on: two quantiles of 128 values are known
# well enough for a scale to show values on, and 512 would take a tenth of a small trial.
_MAX_RANGE_ROWS = 128
_RANGE_QUANTILES = (0.05, 0.95)
_LARGEST_FLOAT16 = 65504.0  # scales and biases beyond it cannot be stored


def pack_fold(
    trained: TrainedFolds, position: int, config: TrialConfig, data: EmbeddingSet, fold: Fold
) -> PackedModel:
    """The packed model of one trained fold.

    Args:
        trained: Result of `train_folds`.
        position: Position of the fold among the trained folds, counted from 0.
        config: Canonical configuration.
        data: Embeddings; the range of curiosity is fitted on the fold's training rows.
        fold: The fold that was trained.

    Raises:
        ConfigError: Training diverged: a parameter cannot be stored, or is not finite.
    """
    _refuse_divergence(trained.mixture, position, config)
    mc_seed = fold_seed(config.digest, fold.index, "mc") % 2**32
    header = make_header(config, data, mc_seed)
    layers = _packed_layers(trained.mixture, position, config, data)
    normalizer = trained.normalizers[position]
    curiosity_range = None
    if trained.mixture.router is not None:
        spread = np.linspace(0, len(fold.train) - 1, min(len(fold.train), _MAX_RANGE_ROWS))
        rows = data.x[fold.train[spread.astype(np.int64)]]
        masks = [torch.from_numpy(mask) for mask in mc_masks(header)]
        curiosity_range = _curiosity_range(trained.mixture, position, normalizer, rows, masks)
    return PackedModel(header, layers, normalizer.offset, normalizer.factor, curiosity_range)


def _refuse_divergence(mixture: Mixture, position: int, config: TrialConfig) -> None:
    largest = float(np.max([p.detach()[position].abs().max() for p in mixture.parameters()]))
    if not largest <= _LARGEST_FLOAT16:
        raise ConfigError(
            f"training diverged: a parameter grew to {largest:g}; lower train.learning_rate "
            f"(it is {config.train.learning_rate:g})"
        )


def _curiosity_range(
    mixture: Mixture,
    position: int,
    normalizer: Normalizer,
    rows: np.ndarray,
    masks: list[Tensor],
) -> tuple[float, float]:
    """Quantiles of the router's mutual information over training rows [n, d]."""
    assert mixture.router is not None, "a single expert has no range"
    x = torch.from_numpy(normalizer(rows)).unsqueeze(0)
    fold_masks = [mask.unsqueeze(0) for mask in masks]
    samples = mixture.router.sample(x, fold_masks, folds=slice(position, position + 1))
    information = mutual_information(samples)[0].numpy()
    low, high = np.quantile(information, _RANGE_QUANTILES)
    return float(np.float32(low)), float(np.float32(high))


@torch.no_grad()
def _packed_layers(
    mixture: Mixture, position: int, config: TrialConfig, data: EmbeddingSet
) -> dict[str, PackedLayer]:
    modules = [
        [(layer, member) for layer in group.layers]
        for group in mixture.groups
        for member in range(group.layers[0].weight.shape[1])
    ]
    if mixture.router is not None:
        modules.append([(layer, 0) for layer in mixture.router.layers])
    flat = [pair for expert in modules for pair in expert]
    shapes = layer_shapes(config.model, data.x.shape[1], data.num_classes)
    return {
        shape.name: packed_layer(
            layer.weight[position, member], layer.bias[position, member], layer.scheme
        )
        for shape, (layer, member) in zip(shapes, flat, strict=True)
    }


@torch.no_grad()
def packed_layer(weight: Tensor, bias: Tensor, scheme: str) -> PackedLayer:
    """A layer of weights [o, i] and biases [o], on the CPU, quantized by a scheme."""
    grid, half = SCHEMES[scheme].weights, bias.half().numpy()
    if grid is None:
        return PackedLayer(scheme, weight.numpy().copy(), None, half)
    codes, scale = quantize(weight, grid)
    return PackedLayer(scheme, codes.numpy(), scale.squeeze(-1).half().numpy(), half)
