"""Every backend that computes a mixture, as a function from one fitted model to probabilities.

A backend is added as one function in `BACKENDS`; it is then compared on every scheme and every
normalisation. Shapes: n clips, d features, o outputs, c classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, get_args

import numpy as np
import onnxruntime
import torch

from qwave.config import SCHEMES, DataConfig, Grid, ModelConfig, TrainConfig, TrialConfig
from qwave.config.trial import Normalization
from qwave.data import EmbeddingSet
from qwave.engine.build import build_dropout
from qwave.engine.compiled import CompiledTrainer, training_library
from qwave.engine.refit import FittedModel, fit_model
from qwave.engine.stacked import StackedTrainer
from qwave.engine.task import TrainingTask, rows_on_device
from qwave.exporting.graph import onnx_model
from qwave.nn.mixture import StackedLinear
from qwave.packing import from_bytes, to_bytes
from qwave.runtime import Kernel, PackedClassifier
from qwave.runtime.compiled import forward_library

NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)


class Case(NamedTuple):
    """A fitted model, and the clips that it predicts.

    Attributes:
        config: Canonical configuration.
        data: The clips; the model was fitted on the first of them.
        fitted: The model; the biases of its mixture are rounded to float16, as a file holds them.
    """

    config: TrialConfig
    data: EmbeddingSet
    fitted: FittedModel


def make_case(
    model: ModelConfig,
    normalization: Normalization,
    data: EmbeddingSet,
    *,
    epochs: int = 1,
    seed: int = 0,
) -> Case:
    """Fit a model on a data set."""
    config = TrialConfig(
        data=DataConfig(normalization=normalization),
        model=model,
        train=TrainConfig(epochs=epochs, batch_size=16, learning_rate=0.02, distillation=0.0),
        seed=seed,
    ).canonical()
    fitted = fit_model(config, data)
    with torch.no_grad():
        for name, parameter in fitted.trained.mixture.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(parameter.half().float())
    return Case(config, data, fitted)


def _softmax(logits: np.ndarray | torch.Tensor) -> np.ndarray:
    probabilities: np.ndarray = torch.softmax(torch.as_tensor(logits), dim=-1).numpy()
    return probabilities


@torch.no_grad()
def _in_torch(case: Case) -> np.ndarray:
    trained = case.fitted.trained
    x = torch.from_numpy(trained.normalizers[0](case.data.x)).unsqueeze(0)
    return _softmax(trained.mixture(x).logits[0])


def _task(case: Case) -> TrainingTask:
    trained, data = case.fitted.trained, case.data
    return TrainingTask(
        trained.mixture,
        rows_on_device(data.x, trained.normalizers, torch.device("cpu")),
        build_dropout(case.config.model, data.x.shape[1], 16, [0], torch.device("cpu")),
        data.num_classes,
        is_quantized=True,
        weight_decay=0.0,
        load_balance_weight=0.0,
    )


@torch.no_grad()
def _stacked(case: Case) -> np.ndarray:
    trainer = StackedTrainer(_task(case), precision="float32")
    return _softmax(trainer.predict(torch.arange(len(case.data.y)).unsqueeze(0))[0])


def _compiled(case: Case) -> np.ndarray:
    library = training_library()
    assert library is not None, "left out where there is no C compiler"
    trainer = CompiledTrainer(library, _task(case), precision="float32")
    return _softmax(trainer.predict(torch.arange(len(case.data.y)).unsqueeze(0))[0])


def _runtime(kernel: Kernel) -> Callable[[Case], np.ndarray]:
    def predict(case: Case) -> np.ndarray:
        packed = from_bytes(to_bytes(case.fitted.packed), "a file")
        return PackedClassifier(packed, kernel).predict_proba(case.data.x)

    return predict


def _onnx(case: Case) -> np.ndarray:
    model = onnx_model(case.fitted.packed).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"embeddings": case.data.x})[0])


BACKENDS: dict[str, Callable[[Case], np.ndarray]] = {
    "torch fake-quantization": _in_torch,
    "the stacked engine": _stacked,
    "the compiled engine": _compiled,
    "the numpy runtime": _runtime("numpy"),
    "the compiled runtime": _runtime("compiled"),
    "the ONNX graph": _onnx,
}
if training_library() is None or forward_library() is None:  # no C compiler here
    del BACKENDS["the compiled engine"], BACKENDS["the compiled runtime"]
# Those that make codes of weights; the others read them from a packed file.
QUANTIZE_WEIGHTS = ("torch fake-quantization", "the stacked engine", "the compiled engine")


# --- the oracle: definitions of the grids, in float64, clip by clip ---


def by_definition(case: Case) -> np.ndarray:
    """Probabilities [n, c] of the mixture, its curiosity apart: plain loops and float64."""
    trained, model = case.fitted.trained, case.config.model
    mixture = trained.mixture
    x = trained.normalizers[0](case.data.x).astype(np.float64)
    experts = [
        _network(x, [(layer, member) for layer in group.layers])
        for group in mixture.groups
        for member in range(group.layers[0].weight.shape[1])
    ]
    if mixture.router is None:
        return _softmax(experts[0])
    likelihood = _softmax(_network(x, [(layer, 0) for layer in mixture.router.layers]))
    logits = np.zeros_like(experts[0])
    for clip, row in enumerate(likelihood):
        chosen = sorted(range(len(row)), key=lambda expert: (-row[expert], expert))
        for expert in chosen[: model.top_k]:
            gate = row[expert] / row[chosen[: model.top_k]].sum()
            logits[clip] += gate * experts[expert][clip]
    return _softmax(logits)


def _network(x: np.ndarray, layers: list[tuple[StackedLinear, int]]) -> np.ndarray:
    for depth, (layer, member) in enumerate(layers):
        weight = layer.weight[0, member].detach().double().numpy()
        bias = layer.bias[0, member].detach().double().numpy()
        scheme = SCHEMES[layer.scheme]
        if depth > 0:
            x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
            x = np.maximum(x, 0)
        if scheme.weights is not None:
            weight = _quantized(weight, scheme.weights, is_stored=True)
        if scheme.activations is not None:
            x = _quantized(x, scheme.activations, is_stored=False)
        x = x @ weight.T + bias
    return x


def _quantized(values: np.ndarray, grid: Grid, *, is_stored: bool) -> np.ndarray:
    """Rows of values on the nearest level of a grid; stored scales are rounded to float16."""
    sizes = np.abs(values)
    measured = {"absmax": sizes.max(1, keepdims=True), "absmean": sizes.mean(1, keepdims=True)}
    scale = measured[grid.scale] * grid.scale_factor
    if is_stored:
        half = np.clip(scale, 2.0**-14, 65504).astype(np.float16)
        if grid.scale == "absmax":  # a largest weight must not lose half a level
            above = np.nextafter(half, np.float16(np.inf))
            half = np.where(scale > half * (1 + 0.5 / grid.highest), above, half)
        scale = half.astype(np.float64)
    units = values * grid.denominator / np.maximum(scale, 2.0**-100)
    levels = np.arange(-grid.highest, grid.highest + 1, grid.spacing)
    above = np.clip(np.searchsorted(levels, units), 1, len(levels) - 1)
    nearest = np.where(units - levels[above - 1] < levels[above] - units, above - 1, above)
    return np.asarray(levels[nearest] * scale / grid.denominator)
