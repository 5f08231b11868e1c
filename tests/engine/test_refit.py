"""Models of all rows, and of all but a held-out fold: by hand, and by the rows that count."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from qwave.config import (
    ConfigError,
    DataConfig,
    DataError,
    DeviceError,
    ModelConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.data import EmbeddingSet, Fold, holdout_split
from qwave.engine import TrainedFolds, fold_seed, pack_fold, train_folds, train_teacher
from qwave.engine import refit as fit
from qwave.engine.refit import FittedModel, fit_model, predict_holdout
from qwave.packing import packed_size_bytes, to_bytes
from qwave.runtime import PackedClassifier

pytestmark = pytest.mark.usefixtures("small_teacher")

DATA = DataConfig(normalization="standard", n_folds=2, holdout_fold=1)
PLAIN = TrialConfig(
    data=DATA,
    model=ModelConfig(("int4",), (8,), dropout=0.2, input_dropout=0.1),
    train=TrainConfig(epochs=5, batch_size=16, learning_rate=0.01),
)
MIXTURE = dataclasses.replace(PLAIN, model=ModelConfig(("int8", "int1", "ternary"), (), top_k=2))


def _distilled(config: TrialConfig) -> TrialConfig:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, distillation=0.7))


CONFIGS = {
    "plain": PLAIN,
    "mixture": MIXTURE,
    "distilled": _distilled(PLAIN),
    "distilled mixture": dataclasses.replace(_distilled(MIXTURE), seed=3),
}


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(1, n_per_class=24, distance=0.5)


def _by_hand(config: TrialConfig, data: EmbeddingSet) -> list[int]:
    """Cut the rows out first, so that nothing could look at the others."""
    config = config.canonical()
    assert data.fold is not None
    train, test = np.flatnonzero(data.fold != 1), np.flatnonzero(data.fold == 1)
    cut = dataclasses.replace(data, x=data.x[train], y=data.y[train], fold=None)
    if data.group is not None:
        cut = dataclasses.replace(cut, group=data.group[train])
    everything = np.arange(len(train))
    # The held-out part is only looked at, so that any rows will do.
    fold = Fold(0, everything, everything[:3])
    soft_targets = train_teacher(config, cut, [fold]) if config.train.distillation else None
    trained = train_folds(config, cut, [fold], soft_targets=soft_targets)
    model = PackedClassifier(pack_fold(trained, 0, config, cut, fold))
    predicted: list[int] = model.predict_proba(data.x[test]).argmax(axis=1).tolist()
    return predicted


@pytest.mark.parametrize("name", CONFIGS)
def test_predictions_are_those_of_a_model_trained_by_hand_on_the_other_rows(
    name: str, data: EmbeddingSet
) -> None:
    rows, predicted = predict_holdout([CONFIGS[name]], data)
    assert data.fold is not None
    assert rows.tolist() == [row for row, fold in enumerate(data.fold) if fold == 1]
    assert predicted.shape == (1, len(rows))
    assert predicted[0].tolist() == _by_hand(CONFIGS[name], data)
    assert (predicted[0] == data.y[rows]).mean() > 1 / data.num_classes
    assert (predicted[0] != data.y[rows]).any(), "too easy to see a difference"


@pytest.mark.slow
def test_configurations_together_are_predicted_as_alone(data: EmbeddingSet) -> None:
    configs = [*CONFIGS.values(), dataclasses.replace(CONFIGS["distilled"], seed=9)]
    rows, together = predict_holdout(configs, data)
    assert together.shape == (len(configs), len(rows))
    for config, predicted in zip(configs, together, strict=True):
        (alone,) = predict_holdout([config], data)[1]
        assert predicted.tolist() == alone.tolist(), config
    assert len({tuple(row) for row in together.tolist()}) > 3


def test_a_teacher_is_trained_once_for_configurations_that_share_it(
    data: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_teachers = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal n_teachers
        n_teachers += 1
        return train_teacher(*arguments, **options)

    monkeypatch.setattr(fit, "train_teacher", counted)
    layered = dataclasses.replace(DATA, normalization="layer")
    distilled = CONFIGS["distilled"]
    longer = dataclasses.replace(distilled, train=dataclasses.replace(distilled.train, epochs=3))
    predict_holdout([distilled, PLAIN, _distilled(MIXTURE), longer], data)
    assert n_teachers == 1
    # Other data, and a fresh seed, have teachers of their own.
    others = [dataclasses.replace(distilled, data=layered), dataclasses.replace(distilled, seed=4)]
    predict_holdout([distilled, *others], data)
    assert n_teachers == 4


def test_a_model_is_fitted_with_the_folds_that_its_cross_validation_comes_to(
    data: EmbeddingSet,
) -> None:
    free = dataclasses.replace(PLAIN, data=DataConfig(normalization="standard"))
    settled = dataclasses.replace(PLAIN, data=DataConfig("", "standard", 3))
    fitted = [fit_model(config, data).packed for config in (free, settled)]
    assert to_bytes(fitted[0]) == to_bytes(fitted[1])
    assert fitted[0].header.config_digest == settled.digest
    # What cannot be split can be fitted.
    few = dataclasses.replace(data, x=data.x[:3], y=np.arange(3), fold=None, group=None)
    assert fit_model(free, few).packed.header.config_digest != settled.digest


def _watched(
    configs: Sequence[TrialConfig], data: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[list[torch.Tensor]], np.ndarray]:
    """Parameters of every model that was trained, and what it predicted."""
    parameters: list[list[torch.Tensor]] = []

    def watched(*arguments: Any, **options: Any) -> TrainedFolds:
        trained = train_folds(*arguments, **options)
        parameters.append([p.detach().clone() for p in trained.mixture.parameters()])
        return trained

    monkeypatch.setattr(fit, "train_folds", watched)
    return parameters, predict_holdout(configs, data)[1]


@pytest.mark.parametrize("names", [["plain", "mixture"], ["distilled", "distilled mixture"]])
def test_held_out_clips_have_no_influence_on_any_parameter(
    names: list[str], data: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [CONFIGS[name] for name in names]
    before, predicted = _watched(configs, data, monkeypatch)
    assert data.fold is not None
    held_out = np.flatnonzero(data.fold == 1)
    kept, changed = held_out[::2], held_out[1::2]
    rng = np.random.default_rng(5)
    x, y = data.x.copy(), data.y.copy()
    x[changed] = 100 * rng.normal(size=(len(changed), x.shape[1])).astype(np.float32)
    y[held_out] = (y[held_out] + 1) % 3
    other = dataclasses.replace(data, x=x, y=y, digest="f" * 16)
    after, predicted_after = _watched(configs, other, monkeypatch)
    for name, one, two in zip(names, before, after, strict=True):
        assert len(one) == len(two) > 0
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a, b), name
    assert predicted_after[:, ::2].tolist() == predicted[:, ::2].tolist()
    assert (predicted_after[:, 1::2] != predicted[:, 1::2]).any()
    assert len(kept) == predicted[:, ::2].shape[1]


@pytest.mark.parametrize("name", ["plain", "distilled"])
def test_a_clip_that_trains_has_influence(
    name: str, data: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above looks at does change."""
    config = CONFIGS[name]
    before, _ = _watched([config], data, monkeypatch)
    row = int(holdout_split(data, DATA).train[0])
    x = data.x.copy()
    x[row] += 1
    after, _ = _watched([config], dataclasses.replace(data, x=x), monkeypatch)
    assert not all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))


def test_normalisation_is_fitted_on_the_rows_that_train(data: EmbeddingSet) -> None:
    """Held-out clips a thousand times as large: constants fitted on them would be theirs."""
    split = holdout_split(data, DATA)
    x = data.x.copy()
    x[split.test] *= 1000
    config = PLAIN.canonical()
    found = []
    for one in (data, dataclasses.replace(data, x=x)):
        trained = train_folds(config, one, [split])
        model = PackedClassifier(pack_fold(trained, 0, config, one, split))
        found.append(model.predict_proba(data.x))
    np.testing.assert_array_equal(found[0], found[1])


def test_overlapping_recordings_train_only_where_they_may(data: EmbeddingSet) -> None:
    assert data.group is not None
    split = holdout_split(data, DATA)
    group = data.group.copy()
    group[split.train[:6]] = group[split.test[0]]
    shared = dataclasses.replace(data, group=group)
    dropping = dataclasses.replace(PLAIN, data=dataclasses.replace(DATA, drop_overlap=True))
    rows, predicted = predict_holdout([dropping], shared)
    left = np.setdiff1d(np.arange(len(data.y)), split.train[:6])
    assert data.fold is not None
    rest = dataclasses.replace(
        shared, x=data.x[left], y=data.y[left], fold=data.fold[left], group=group[left]
    )
    _, expected = predict_holdout([dropping], rest)
    assert predicted.tolist() == expected.tolist()
    assert len(rows) == len(split.test)


def test_what_cannot_be_held_out_or_stored_is_refused(data: EmbeddingSet) -> None:
    without = dataclasses.replace(PLAIN, data=DataConfig(n_folds=3))
    with pytest.raises(DataError, match=r"data\.holdout_fold is not set"):
        predict_holdout([without], data)
    with pytest.raises(DataError, match=r"data\.holdout_fold=1 must be .* but it has none"):
        predict_holdout([PLAIN], dataclasses.replace(data, fold=None))
    wild = dataclasses.replace(PLAIN, train=TrainConfig(epochs=3, learning_rate=1e9))
    with pytest.raises(ConfigError, match=r"training diverged: .*lower train\.learning_rate"):
        predict_holdout([wild], data)


# --- a model of all rows ---


def _all_rows_by_hand(config: TrialConfig, data: EmbeddingSet) -> bytes:
    """As a fold whose number is beyond those of the cross-validation."""
    config = config.canonical()
    rows = np.arange(len(data.y))
    fold = Fold(2, rows, rows)
    soft_targets = train_teacher(config, data, [fold]) if config.train.distillation else None
    return to_bytes(
        pack_fold(
            train_folds(config, data, [fold], soft_targets=soft_targets), 0, config, data, fold
        )
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_of_all_rows_is_the_one_trained_by_hand(name: str, data: EmbeddingSet) -> None:
    fitted = fit_model(CONFIGS[name], data)
    assert to_bytes(fitted.packed) == _all_rows_by_hand(CONFIGS[name], data)
    assert to_bytes(fit_model(CONFIGS[name], data).packed) == to_bytes(fitted.packed)


@pytest.mark.parametrize("name", CONFIGS)
def test_its_file_has_the_size_known_before_training(name: str, data: EmbeddingSet) -> None:
    config = CONFIGS[name]
    assert len(to_bytes(fit_model(config, data).packed)) == packed_size_bytes(config, data)


def test_its_header_names_configuration_data_and_the_seed_of_a_further_fold(
    data: EmbeddingSet,
) -> None:
    header = fit_model(MIXTURE, data).packed.header
    assert (header.config_digest, header.data_digest) == (MIXTURE.digest, data.digest)
    assert header.mc_seed == fold_seed(MIXTURE.digest, 2, "mc") % 2**32
    assert header.model.schemes == ("int1", "ternary", "int8")


def test_configurations_that_train_the_same_are_one_file(data: EmbeddingSet) -> None:
    turned = dataclasses.replace(
        MIXTURE, model=dataclasses.replace(MIXTURE.model, schemes=("ternary", "int8", "int1"))
    )
    assert to_bytes(fit_model(turned, data).packed) == to_bytes(fit_model(MIXTURE, data).packed)
    seeded = dataclasses.replace(MIXTURE, seed=1)
    assert to_bytes(fit_model(seeded, data).packed) != to_bytes(fit_model(MIXTURE, data).packed)


@pytest.mark.parametrize("name", ["plain", "distilled"])
@pytest.mark.parametrize("is_held_out", [True, False])
def test_every_clip_trains_it_those_of_a_held_out_fold_too(
    name: str, is_held_out: bool, data: EmbeddingSet
) -> None:
    assert data.fold is not None
    row = int(np.flatnonzero((data.fold == 1) == is_held_out)[-1])
    x = data.x.copy()
    x[row] += 1
    other = dataclasses.replace(data, x=x)  # with the same digest: the seeds do not change
    before, after = (fit_model(CONFIGS[name], part).trained.mixture for part in (data, other))
    assert not all(
        torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)
    )


def test_its_normalisation_is_fitted_on_all_rows(data: EmbeddingSet) -> None:
    packed = fit_model(PLAIN, data).packed
    assert packed.offset is not None
    np.testing.assert_array_equal(
        packed.offset, data.x.mean(axis=0, dtype=np.float64).astype(np.float16)
    )


def test_what_was_trained_comes_along_with_what_was_packed(data: EmbeddingSet) -> None:
    fitted = fit_model(PLAIN, data)
    assert isinstance(fitted, FittedModel)
    assert fitted.trained.train_loss.shape == (5, 1)
    bias = fitted.trained.mixture.groups[0].layers[0].bias[0, 0].detach().half().numpy()
    np.testing.assert_array_equal(fitted.packed.layers["e0.0"].bias, bias)
    right = PackedClassifier(fitted.packed).predict_proba(data.x).argmax(axis=1) == data.y
    assert right.mean() == pytest.approx(fitted.trained.checkpoints[-1].accuracy[0], abs=0.02)
    assert right.mean() > 1 / data.num_classes


def test_divergence_and_missing_devices_are_refused(data: EmbeddingSet) -> None:
    wild = dataclasses.replace(PLAIN, train=TrainConfig(epochs=3, learning_rate=1e9))
    with pytest.raises(ConfigError, match=r"training diverged: .*lower train\.learning_rate"):
        fit_model(wild, data)
    with pytest.raises(DeviceError, match="device 'cuda:99' is not there"):
        fit_model(PLAIN, data, device="cuda:99")
