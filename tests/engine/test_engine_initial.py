"""Linear experts begin at the nearest-centroid classifier, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from qwave.config import DataConfig, ModelConfig, RouterConfig, TrainConfig, TrialConfig
from qwave.config.trial import Normalization
from qwave.data import EmbeddingSet, fit_normalizer, make_folds
from qwave.engine import train_folds
from qwave.engine.build import build_mixture, start_at_centroids
from qwave.engine.task import Rows, rows_on_device
from qwave.nn.mixture import Arithmetic, Mixture

Gaussians = Callable[..., EmbeddingSet]
LINEAR = ModelConfig(schemes=("int1",), hidden=())
FLOATS = Arithmetic(is_quantized=False)


def _mixture(
    model: ModelConfig, num_features: int, num_classes: int, folds: Sequence[int] = (0,)
) -> Mixture:
    """Drawn at random, each fold's parameters from its own seed."""
    generators = [torch.Generator().manual_seed(100 + fold) for fold in folds]
    return build_mixture(model, num_features, num_classes, generators)


def _state(mixture: Mixture) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in mixture.state_dict().items()}


def _weight(mixture: Mixture, fold: int = 0, group: int = 0) -> np.ndarray:
    """Of the first expert of a group, [c, d]."""
    weight: np.ndarray = mixture.groups[group].layers[0].weight[fold, 0].detach().numpy()
    return weight


def _started(
    x: np.ndarray, y: np.ndarray, fit: Sequence[np.ndarray], model: ModelConfig = LINEAR
) -> Mixture:
    """A mixture of three classes or more after its start on rows as they are."""
    mixture = _mixture(model, x.shape[1], max(3, int(y.max()) + 1), range(len(fit)))
    rows = Rows(torch.from_numpy(x.astype(np.float32)), None, None)
    start_at_centroids(mixture, rows, fit, y.astype(np.int64))
    return mixture


def _plain_start(x: np.ndarray, y: np.ndarray, num_classes: int) -> np.ndarray:
    """The rule in float64, row by row; normalised training rows to weights [c, d]."""
    x = x.astype(np.float64)
    middle = sum(x) / len(x)
    weight = np.zeros((num_classes, x.shape[1]))
    for label in range(num_classes):
        own = [row for row, of in zip(x, y, strict=True) if of == label]
        if own:
            weight[label] = sum(own) / len(own) - middle
    return weight * (1 / (2 * np.sqrt(x.shape[1]))) / np.abs(weight).mean()


def _clouds(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes of unequal size, away from the origin."""
    rng = np.random.default_rng(seed)
    num_classes, num_features = int(rng.integers(3, 7)), int(rng.integers(4, 40))
    y = np.concatenate([np.arange(num_classes), rng.integers(0, num_classes, 90) // 2])
    centres = rng.normal(size=(num_classes, num_features)) * 0.4 + rng.normal(size=num_features)
    return (centres[y] + rng.normal(size=(len(y), num_features))).astype(np.float32), y


# --- the rule ---


@pytest.mark.parametrize("seed", range(5))
def test_weights_equal_the_plain_rule_in_float64(seed: int) -> None:
    x, y = _clouds(seed)
    fit = np.random.default_rng(seed).permutation(len(y))[:60]
    weight = _weight(_started(x, y, [fit]))
    expected = _plain_start(x[fit], y[fit], len(weight))
    np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-6, err_msg=f"{seed=}")
    size = 1 / (2 * np.sqrt(x.shape[1]))
    assert np.abs(weight).mean() == pytest.approx(size, rel=1e-5), f"{seed=}"


def test_the_size_of_weights_is_that_of_a_random_beginning() -> None:
    random = _weight(_mixture(LINEAR, 4000, 10))
    x = np.random.default_rng(0).normal(size=(30, 4000))
    begun = _weight(_started(x, np.arange(30) % 10, [np.arange(30)]))
    assert np.abs(begun).mean() == pytest.approx(np.abs(random).mean(), rel=0.02)
    assert not np.allclose(begun, random)


@pytest.mark.parametrize("seed", range(5))
def test_with_the_biases_that_belong_to_it_the_network_is_scikit_learns_nearest_centroid(
    seed: int,
) -> None:
    # |x - m_c|^2 is smallest where (m_c - m) x - |m_c|^2 / 2 is largest, for any m; the start has
    # the first part, times a scale, and leaves the biases as they were drawn.
    x, y = _clouds(seed)
    drawn = _state(_mixture(LINEAR, x.shape[1], int(y.max()) + 1))
    mixture = _started(x, y, [np.arange(len(y))])
    layer = mixture.groups[0].layers[0]
    np.testing.assert_array_equal(layer.bias.detach(), drawn["groups.0.layers.0.bias"])
    centroids = NearestCentroid().fit(x, y)
    means = centroids.centroids_.astype(np.float64)
    differences = means - x.mean(axis=0, dtype=np.float64)
    scale = 1 / (2 * np.sqrt(x.shape[1])) / np.abs(differences).mean()
    with torch.no_grad():
        layer.bias[0, 0] = torch.from_numpy(-scale * (means**2).sum(axis=1) / 2)
        fresh = np.random.default_rng(seed).normal(size=(300, x.shape[1])).astype(np.float32)
        logits = mixture(torch.from_numpy(fresh)[None], arithmetic=FLOATS).logits[0].numpy()
    gaps = np.diff(np.sort(logits, axis=1))[:, -1]
    is_clear = gaps > 1e-4  # elsewhere rounding decides
    assert is_clear.mean() > 0.98, f"{seed=}"
    wanted = centroids.predict(fresh)
    assert len(set(wanted.tolist())) > 1, f"{seed=}"
    np.testing.assert_array_equal(
        logits.argmax(axis=1)[is_clear], wanted[is_clear], err_msg=f"{seed=}"
    )


def test_a_class_without_training_rows_begins_at_zero() -> None:
    x, y = _clouds(0)
    fit = np.flatnonzero(y != 1)
    weight = _weight(_started(x, y, [fit]))
    assert (weight[1] == 0).all()
    np.testing.assert_allclose(weight, _plain_start(x[fit], y[fit], len(weight)), rtol=1e-4)


@pytest.mark.parametrize("n_rows", [3, 30, 77, 1000])
@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e3])
def test_rows_that_are_all_equal_change_nothing(n_rows: int, size: float) -> None:
    # Their mean in float32 is not quite each of them: rounding would be taken for a direction.
    x = np.tile(size * np.random.default_rng(n_rows).normal(size=12), (n_rows, 1))
    y = np.arange(n_rows) % 3
    mixture = _started(x, y, [np.arange(n_rows)])
    np.testing.assert_array_equal(_weight(mixture), _weight(_mixture(LINEAR, 12, 3)))


@pytest.mark.parametrize("seed", range(5))
def test_classes_of_equal_means_change_nothing(seed: int) -> None:
    cloud = np.random.default_rng(seed).normal(size=(11, 12))
    x, y = np.tile(cloud, (3, 1)), np.repeat(np.arange(3), 11)
    mixture = _started(x, y, [np.arange(33)])
    np.testing.assert_array_equal(_weight(mixture), _weight(_mixture(LINEAR, 12, 3)))


def test_means_that_hardly_differ_are_a_direction_all_the_same() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    apart = 1e-3 * rng.normal(size=(3, 12))
    weight = _weight(_started(1 + apart[y], y, [np.arange(60)]))
    expected = _plain_start((1 + apart[y]).astype(np.float32), y, 3)
    np.testing.assert_allclose(weight, expected, atol=1e-3 * np.abs(expected).max())


# --- which parameters ---


def test_networks_with_hidden_layers_are_left_as_they_were_drawn() -> None:
    model = ModelConfig(schemes=("int1", "int8"), hidden=(5,), router=RouterConfig(hidden=4))
    x, y = _clouds(0)
    num_classes = int(y.max()) + 1
    found = _state(_started(x, y, [np.arange(60)], model))
    drawn = _state(_mixture(model, x.shape[1], num_classes))
    assert found.keys() == drawn.keys()
    for name, value in drawn.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("router_hidden", [0, 4])
def test_all_linear_experts_begin_equal_and_router_and_biases_at_random(
    router_hidden: int,
) -> None:
    model = ModelConfig(
        schemes=("int1", "int1", "int8", "fp32"),
        hidden=(),
        router=RouterConfig(hidden=router_hidden),
    )
    x, y = _clouds(1)
    mixture = _started(x, y, [np.arange(50), np.arange(30, 80)], model)
    drawn = _state(_mixture(model, x.shape[1], int(y.max()) + 1, (0, 1)))
    for fold, fit in enumerate((np.arange(50), np.arange(30, 80))):
        expected = _plain_start(x[fit], y[fit], int(y.max()) + 1)
        for group in mixture.groups:
            for expert in group.layers[0].weight[fold].detach().numpy():
                np.testing.assert_allclose(expert, expected, rtol=1e-4, atol=1e-6)
                np.testing.assert_array_equal(expert, _weight(mixture, fold))
    others = [name for name in drawn if not name.startswith("groups") or name.endswith("bias")]
    assert len(others) == 3 + 2 * (2 if router_hidden else 1)
    for name in others:
        np.testing.assert_array_equal(_state(mixture)[name], drawn[name], err_msg=name)


# --- which rows ---


def test_rows_that_do_not_train_change_nothing() -> None:
    x, y = _clouds(2)
    fit = [np.arange(50), np.arange(25, 75)]
    before = _started(x, y, fit)
    is_left_out = np.ones(len(y), dtype=bool)
    is_left_out[fit[0]] = False
    other_x, other_y = x.copy(), y.copy()
    other_x[is_left_out] = np.nan
    other_y[is_left_out] = (y[is_left_out] + 1) % 3
    after = _started(other_x, other_y, fit)
    np.testing.assert_array_equal(_weight(after, 0), _weight(before, 0))
    assert not np.array_equal(_weight(after, 1), _weight(before, 1)), "rows that it trains on"


def test_a_fold_alone_begins_as_it_does_among_others() -> None:
    x, y = _clouds(3)
    fit = [np.arange(50), np.arange(20, 90), np.arange(0, 94, 3)]
    together = _started(x, y, fit)
    for fold, part in enumerate(fit):
        mixture = _started(x, y, [part])
        np.testing.assert_array_equal(_weight(mixture), _weight(together, fold))


@pytest.mark.parametrize("normalization", ["standard", "min_max", "layer", "sqrt_layer", "raw"])
def test_a_fold_begins_at_the_centroids_of_its_normalised_rows(
    normalization: Normalization, gaussians: Gaussians
) -> None:
    data = gaussians(0)
    folds = make_folds(data, DataConfig(n_folds=3))
    normalizers = [fit_normalizer(data.x[fold.train], normalization) for fold in folds]
    rows = rows_on_device(data.x, normalizers, torch.device("cpu"))
    mixture = _mixture(LINEAR, 12, 3, range(3))
    start_at_centroids(mixture, rows, [fold.train for fold in folds], data.y)
    for position, (fold, normalizer) in enumerate(zip(folds, normalizers, strict=True)):
        expected = _plain_start(normalizer(data.x[fold.train]), data.y[fold.train], 3)
        np.testing.assert_allclose(_weight(mixture, position), expected, rtol=1e-3, atol=1e-5)
    assert not np.allclose(_weight(mixture, 0), _weight(mixture, 1), atol=1e-3)


def test_training_begins_there_with_its_training_rows(gaussians: Gaussians) -> None:
    data = gaussians(0)
    folds = make_folds(data, DataConfig(n_folds=3))
    # Weights that are hardly moved from their start.
    settings = TrainConfig(epochs=1, learning_rate=1e-12, weight_decay=0.0)
    config = TrialConfig(DataConfig("some.npz", "standard", 3), LINEAR, settings).canonical()
    trained = train_folds(config, data, folds)
    for position, fold in enumerate(folds):
        x = fit_normalizer(data.x[fold.train], "standard")(data.x[fold.train])
        expected = _plain_start(x, data.y[fold.train], 3)
        found = _weight(trained.mixture, position)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
