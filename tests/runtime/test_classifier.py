"""Predictions, routes and curiosity of packed models against the torch mixture they came from.

That every scheme and normalisation predicts the same is tested in `tests.conformance`.

Models are trained for one epoch on Gaussian clouds. Their biases are rounded to float16 before
they are packed, as the file does: both sides then hold the same numbers, and may differ by the
rounding of sums only.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from qwave.config import (
    SCHEMES,
    CuriosityConfig,
    DataConfig,
    ModelConfig,
    QwaveError,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.data import EmbeddingSet, Fold, make_folds
from qwave.engine import TrainedFolds, pack_fold, train_folds
from qwave.nn import quantizers as quant
from qwave.nn.mixture import QUANTIZED, mutual_information, standardize, top_k_gates
from qwave.packing import PackedLayer, PackedModel, make_header, mc_masks, to_bytes
from qwave.runtime import (
    PackedClassifier,
    Prediction,
    expert_cost,
    load_packed,
    normalized_curiosity,
    save_packed,
)

ALL = tuple(SCHEMES)
EXACT = [name for name, scheme in SCHEMES.items() if scheme.activations is not None]
N_FEATURES = 12


def plain(scheme: str, hidden: tuple[int, ...] = (8,)) -> ModelConfig:
    return ModelConfig((scheme,), hidden, dropout=0.3, input_dropout=0.2)


def mixture(*schemes: str, alpha: float = 2.0, router: RouterConfig | None = None) -> ModelConfig:
    return ModelConfig(
        schemes,
        (8,),
        top_k=2,
        router=router or RouterConfig(0, schemes[0], 0.3),
        curiosity=CuriosityConfig(alpha),
    )


MODELS = {f"plain {name}": plain(name) for name in ALL}
MODELS |= {
    "all": mixture(*ALL, router=RouterConfig(5, "int8", 0.3)),
    "all, other head": dataclasses.replace(mixture(*ALL), head_scheme="int8", hidden=(8, 6)),
    "linear experts": dataclasses.replace(mixture("int1", "int1", "int8", "fp32"), hidden=()),
    "top 1": dataclasses.replace(mixture("ternary", "int4", "fp32"), top_k=1),
    "float router": mixture("int2", "int4", router=RouterConfig(4, "fp32", 0.2)),
    "not curious": mixture("int2", "int4", "int8", alpha=0.0),
}
MIXTURES = {name: model for name, model in MODELS.items() if model.num_experts > 1}
MIXED = {name: model for name, model in MIXTURES.items() if len(set(model.schemes)) > 1}

every_model = pytest.mark.parametrize("name", MODELS)
every_mixture = pytest.mark.parametrize("name", MIXTURES)


class Trained(NamedTuple):
    config: TrialConfig
    data: EmbeddingSet
    folds: tuple[Fold, ...]
    result: TrainedFolds
    packed: tuple[PackedModel, ...]


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(3, num_features=N_FEATURES)


@pytest.fixture(scope="module")
def train(data: EmbeddingSet) -> Callable[..., Trained]:
    done: dict[ModelConfig, Trained] = {}

    def train(model: ModelConfig) -> Trained:
        if model not in done:
            config = TrialConfig(
                data=DataConfig(normalization="standard", n_folds=3),
                model=model,
                train=TrainConfig(epochs=1, batch_size=8, learning_rate=0.02),
            ).canonical()
            folds = make_folds(data, config.data)[1:]
            result = train_folds(config, data, folds)
            with torch.no_grad():
                for name, parameter in result.mixture.named_parameters():
                    if name.endswith("bias"):
                        parameter.copy_(parameter.half().float())
            packed = tuple(
                pack_fold(result, position, config, data, fold)
                for position, fold in enumerate(folds)
            )
            done[model] = Trained(config, data, folds, result, packed)
        return done[model]

    return train


def clips(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (3 * rng.normal(size=(n, N_FEATURES))).astype(np.float32)


@torch.no_grad()
def plain_samples(trained: Trained, position: int, x: Tensor, masks: list[Tensor]) -> Tensor:
    """Class probabilities of a plain network under each mask, [1, s, n, c]."""
    (group,) = trained.result.mixture.groups
    samples = []
    for sample in range(len(masks[0])):
        h = x
        for depth, (layer, mask) in enumerate(zip(group.layers, masks, strict=True)):
            if depth > 0:
                h = torch.relu(standardize(h))
            weight, bias = layer.weight[position, 0], layer.bias[position, 0]
            h = quant.linear(h * mask[sample], weight, bias, layer.scheme)
        samples.append(torch.softmax(h, dim=-1))
    return torch.stack(samples).unsqueeze(0)


@torch.no_grad()
def examine_in_torch(trained: Trained, position: int, x: np.ndarray) -> Prediction:
    """What the packed model should say, by the modules that were trained."""
    net, packed = trained.result.mixture, trained.packed[position]
    rows = torch.from_numpy(trained.result.normalizers[position](x))
    stacked = rows.expand(len(trained.folds), *rows.shape)
    masks = [torch.from_numpy(mask) for mask in mc_masks(packed.header)]
    if net.router is None:
        samples = plain_samples(trained, position, rows, masks)
        gates = torch.ones(len(x), 1)
        logits = net(stacked).logits[position]
    else:
        samples = net.router.sample(
            rows.unsqueeze(0), [mask.unsqueeze(0) for mask in masks], slice(position, position + 1)
        )
        assert packed.curiosity_range is not None
        low, high = packed.curiosity_range
        share = ((mutual_information(samples)[0] - low) / (high - low)).clamp(0, 1)
        bits = [math.log2(SCHEMES[scheme].bits) for scheme in trained.config.model.schemes]
        span = max(bits) - min(bits)
        cost = torch.tensor([(b - min(bits)) / span if span else 0.0 for b in bits])
        p = net.router(stacked, masks=(), arithmetic=QUANTIZED)[position]
        p = p * torch.exp(trained.config.model.curiosity.alpha * share[:, None] * cost)
        gates = top_k_gates(p.unsqueeze(0), trained.config.model.top_k)[0]
        said = [group(stacked, masks=(), arithmetic=QUANTIZED) for group in net.groups]
        logits = torch.einsum("enc,ne->nc", torch.cat(said, dim=1)[position], gates)
    return Prediction(
        torch.softmax(logits, dim=-1).numpy(),
        gates.numpy(),
        mutual_information(samples)[0].numpy(),
        samples[0].var(dim=0, unbiased=False).mean(dim=-1).numpy(),
    )


def with_alpha(packed: PackedModel, alpha: float, top_k: int | None = None) -> PackedClassifier:
    model = packed.header.model
    curiosity = dataclasses.replace(model.curiosity, alpha=alpha)
    model = dataclasses.replace(model, curiosity=curiosity, top_k=top_k or model.top_k)
    header = dataclasses.replace(packed.header, model=model)
    return PackedClassifier(dataclasses.replace(packed, header=header))


# --- agreement with torch -----------------------------------------------------------------------


@every_model
def test_packed_model_says_what_the_trained_one_says(
    name: str, train: Callable[..., Trained], data: EmbeddingSet
) -> None:
    trained = train(MODELS[name])
    for position in range(len(trained.folds)):
        found = PackedClassifier(trained.packed[position]).examine(data.x)
        wanted = examine_in_torch(trained, position, data.x)
        for field in Prediction._fields:
            ours, twins = getattr(found, field), getattr(wanted, field)
            assert ours.dtype == np.float32, field
            assert ours.shape == twins.shape, field
            worst = float(np.abs(ours - twins).max())
            assert worst < 1e-3, f"{name}, fold {position}: {field} differ by {worst}"
        assert np.array_equal(found.probabilities.argmax(1), wanted.probabilities.argmax(1))
        assert np.array_equal(found.gates > 0, wanted.gates > 0)


@every_mixture
def test_range_of_curiosity_is_that_of_the_training_rows(
    name: str, train: Callable[..., Trained]
) -> None:
    trained = train(MODELS[name])
    for position, fold in enumerate(trained.folds):
        x = trained.data.x[fold.train]
        information = examine_in_torch(trained, position, x).mutual_information
        wanted = np.quantile(information, (0.05, 0.95))
        assert trained.packed[position].curiosity_range == pytest.approx(wanted, abs=1e-6)
        assert wanted[0] < wanted[1], "this router is never unsure: nothing is tested"


@every_model
def test_predict_and_predict_proba_are_parts_of_examine(
    name: str, train: Callable[..., Trained], data: EmbeddingSet
) -> None:
    classifier = PackedClassifier(train(MODELS[name]).packed[1])
    found = classifier.examine(data.x)
    assert np.array_equal(classifier.predict_proba(data.x), found.probabilities)
    names = [data.class_names[label] for label in found.probabilities.argmax(1)]
    assert classifier.predict(data.x).tolist() == names


@every_model
def test_saved_and_loaded_model_says_the_same(
    name: str, train: Callable[..., Trained], data: EmbeddingSet, tmp_path: Path
) -> None:
    classifier = PackedClassifier(train(MODELS[name]).packed[0])
    file = tmp_path / "model.qwave"
    n_bytes = save_packed(classifier, file)
    assert n_bytes == file.stat().st_size
    assert file.read_bytes() == to_bytes(classifier.packed)
    before, after = classifier.examine(data.x), load_packed(str(file)).examine(data.x)
    for field in Prediction._fields:
        assert np.array_equal(getattr(before, field), getattr(after, field)), field


# --- alone or among others ----------------------------------------------------------------------


def assert_same(found: Prediction, wanted: Prediction, is_exact: bool, what: str) -> None:
    for field in Prediction._fields:
        ours, theirs = getattr(found, field), getattr(wanted, field)
        worst = float(np.abs(ours - theirs).max())
        # Sums of floats may differ in their last bits, sums of whole numbers may not.
        assert worst == 0 if is_exact else worst < 1e-5, f"{what}: {field} differ by {worst}"


def rows_of(prediction: Prediction, rows: np.ndarray | slice) -> Prediction:
    return Prediction(*(values[rows] for values in prediction))


@every_model
def test_clip_is_told_the_same_alone_and_in_any_batch(
    name: str, train: Callable[..., Trained]
) -> None:
    model = MODELS[name]
    is_exact = all(scheme in EXACT for scheme in (*model.schemes, model.router.scheme))
    classifier = PackedClassifier(train(model).packed[0])
    x = clips(2, 40)
    together = classifier.examine(x)
    for row in range(0, 40, 3):
        alone = classifier.examine(x[row : row + 1])
        assert_same(alone, rows_of(together, slice(row, row + 1)), is_exact, f"row {row}")
    order = np.random.default_rng(3).permutation(40)
    assert_same(classifier.examine(x[order]), rows_of(together, order), is_exact, "shuffled")
    # Beside extreme mates, and so many that MC-dropout takes them in several parts.
    crowd = np.concatenate([1e4 * clips(4, 600), np.zeros((1, N_FEATURES), np.float32), x])
    found = rows_of(classifier.examine(crowd), slice(601, None))
    assert_same(found, together, is_exact, "in a crowd")


@every_model
def test_no_clips_give_no_predictions(name: str, train: Callable[..., Trained]) -> None:
    model = MODELS[name]
    classifier = PackedClassifier(train(model).packed[0])
    found = classifier.examine(np.empty((0, N_FEATURES), dtype=np.float32))
    assert [values.shape for values in found] == [(0, 3), (0, model.num_experts), (0,), (0,)]
    assert classifier.predict(np.empty((0, N_FEATURES))).tolist() == []


# --- curiosity ----------------------------------------------------------------------------------


def test_expert_cost_is_the_place_on_a_logarithm_of_bits() -> None:
    found = expert_cost(("int1", "ternary", "popcount", "int2", "int4", "int8", "int16", "fp32"))
    wanted = [0, math.log2(1.6) / 5, math.log2(1.6) / 5, 0.2, 0.4, 0.6, 0.8, 1]
    assert found.tolist() == pytest.approx(wanted)
    assert expert_cost(("int4", "int8", "int16")).tolist() == pytest.approx([0, 0.5, 1])
    assert expert_cost(("int4", "int4")).tolist() == [0, 0]
    assert expert_cost(("ternary", "popcount")).tolist() == [0, 0]


def test_normalized_curiosity_is_a_clipped_share_of_its_range() -> None:
    information = np.array([0, 0.1, 0.2, 0.25, 0.3, 0.9], dtype=np.float32)
    found = normalized_curiosity(information, (0.1, 0.3))
    assert found.tolist() == pytest.approx([0, 0, 0.5, 0.75, 1, 1], abs=1e-6)
    for empty in ((0.2, 0.2), (0.3, 0.1)):
        assert normalized_curiosity(information, empty).tolist() == [0] * 6


def gates_by_hand(
    p: list[float], share: float, schemes: tuple[str, ...], alpha: float, top_k: int
) -> list[float]:
    bits = [math.log2(SCHEMES[scheme].bits) for scheme in schemes]
    tilted = [
        value * math.exp(alpha * share * (b - min(bits)) / (max(bits) - min(bits)))
        for value, b in zip(p, bits, strict=True)
    ]
    chosen = sorted(range(len(p)), key=lambda e: (-tilted[e], e))[:top_k]
    total = sum(tilted[e] for e in chosen)
    return [tilted[e] / total if e in chosen else 0.0 for e in range(len(p))]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 3.0, 20.0])
@pytest.mark.parametrize("name", MIXED)
def test_gates_are_the_tilted_probabilities_of_the_chosen(
    name: str, alpha: float, train: Callable[..., Trained]
) -> None:
    packed = train(MODELS[name]).packed[0]
    model = packed.header.model
    x = clips(7, 60)
    p = with_alpha(packed, 0.0, top_k=model.num_experts).examine(x).gates
    found = with_alpha(packed, alpha).examine(x)
    assert packed.curiosity_range is not None
    low, high = packed.curiosity_range
    for row in range(60):
        share = min(1.0, max(0.0, (float(found.mutual_information[row]) - low) / (high - low)))
        wanted = gates_by_hand(p[row].tolist(), share, model.schemes, alpha, model.top_k)
        assert found.gates[row].tolist() == pytest.approx(wanted, abs=1e-5), f"row {row}"


@pytest.mark.parametrize("name", MIXED)
def test_alpha_moves_unsure_clips_toward_more_bits_and_no_other(
    name: str, train: Callable[..., Trained]
) -> None:
    trained = train(MODELS[name])
    packed = trained.packed[0]
    x = trained.data.x[trained.folds[0].train]  # a twentieth of them lies below the range
    cost = expert_cost(packed.header.model.schemes)
    assert packed.curiosity_range is not None
    said = {
        alpha: with_alpha(packed, alpha, top_k=len(cost)).examine(x)
        for alpha in (0.0, 0.5, 1.0, 4.0)
    }
    information = said[0.0].mutual_information
    share = normalized_curiosity(information, packed.curiosity_range)
    assert 0 < (share == 0).sum() < len(x) // 2, "needs clips of both kinds"
    for lower, higher in itertools.pairwise(said):
        before, after = said[lower].gates @ cost, said[higher].gates @ cost
        assert np.array_equal(said[lower].mutual_information, said[higher].mutual_information)
        kept = np.abs(said[lower].gates[share == 0] - said[higher].gates[share == 0])
        assert kept.max() < 1e-6, f"alpha {lower} to {higher} moved clips that are not unsure"
        assert (after[share > 0.01] > before[share > 0.01]).all(), f"alpha {lower} to {higher}"


@pytest.mark.parametrize("alpha", [80.0, 100.0, 1e3, 1e6])
def test_any_alpha_that_a_configuration_accepts_gives_finite_predictions(
    alpha: float, train: Callable[..., Trained]
) -> None:
    found = with_alpha(train(MODELS["all"]).packed[0], alpha).examine(clips(10, 60))
    for field in Prediction._fields:
        assert np.isfinite(getattr(found, field)).all(), f"alpha {alpha}: {field}"
    np.testing.assert_allclose(found.gates.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("scheme", ALL)
@pytest.mark.parametrize("hidden", [(), (8,)])
def test_network_without_dropout_is_never_curious(
    scheme: str, hidden: tuple[int, ...], train: Callable[..., Trained], data: EmbeddingSet
) -> None:
    classifier = PackedClassifier(train(ModelConfig((scheme,), hidden)).packed[0])
    found = classifier.examine(data.x)
    assert (found.mutual_information == 0).all()
    assert (found.variance == 0).all()
    assert (found.gates == 1).all()


def test_router_without_dropout_is_never_curious_and_never_tilted(
    train: Callable[..., Trained], data: EmbeddingSet
) -> None:
    model = mixture("int1", "int8", "fp32", router=RouterConfig(0, "int8", 0.0))
    packed = train(model).packed[0]
    found = PackedClassifier(packed).examine(data.x)
    assert (found.mutual_information == 0).all()
    assert_same(found, with_alpha(packed, 0.0).examine(data.x), False, "alpha 2")


# --- errors, ties, imports ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 11), (5, 13), (12,), (0,), (1, 5, 12), ()])
def test_wrong_shape_is_refused_with_both_shapes(
    shape: tuple[int, ...], train: Callable[..., Trained]
) -> None:
    classifier = PackedClassifier(train(MODELS["plain int8"]).packed[0])
    for method in (classifier.predict, classifier.predict_proba, classifier.examine):
        with pytest.raises(QwaveError, match=r"shape \[clips, 12\], but has shape \(") as raised:
            method(np.zeros(shape))
        assert str(raised.value).endswith(str(shape))


def test_among_equal_experts_the_first_are_asked(data: EmbeddingSet) -> None:
    # Forty experts, every other one likelier: sorting that is not stable only shows on such rows.
    config = TrialConfig(
        model=ModelConfig(("fp32",) * 40, (), top_k=25, router=RouterConfig(0, "fp32"))
    )
    shapes = {f"e{expert}.0": 3 for expert in range(40)} | {"r.0": 40}
    layers = {
        name: PackedLayer(
            "fp32", np.zeros((width, N_FEATURES), np.float32), None, np.zeros(width, np.float16)
        )
        for name, width in shapes.items()
    }
    layers["r.0"].bias[1::2] = 1
    model = PackedModel(make_header(config, data), layers, None, None, (0.0, 1.0))
    wanted = sorted([*range(1, 40, 2), 0, 2, 4, 6, 8])
    for row in PackedClassifier(model).examine(clips(15, 4)).gates:
        assert np.flatnonzero(row).tolist() == wanted


def test_file_is_loaded_and_predicts_without_torch(
    train: Callable[..., Trained], tmp_path: Path, fresh_python: Callable[..., str]
) -> None:
    packed = train(MODELS["all"]).packed[0]
    file = tmp_path / "model.qwave"
    save_packed(packed, file)
    heavy = ("torch", "optuna", "mlflow", "matplotlib", "plotly", "pydantic")
    code = f"""
import sys
import qwave
print([name for name in (*{heavy}, "numpy", "sklearn") if name in sys.modules])
import numpy as np
found = qwave.load_packed({str(file)!r}).predict(np.ones((2, {N_FEATURES})))
print([name for name in {heavy} if name in sys.modules])
print(found.tolist())
"""
    wanted = PackedClassifier(packed).predict(np.ones((2, N_FEATURES))).tolist()
    assert fresh_python(code).splitlines() == ["[]", "[]", str(wanted)]
