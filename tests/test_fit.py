"""The fold that the search never saw: trained by hand, and without any influence of its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from qwave import fit
from qwave.config import ConfigError, DataConfig, DataError, ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet, Fold, holdout_split
from qwave.engine import TrainedFolds, pack_fold, teach, train_folds
from qwave.fit import predict_holdout
from qwave.runtime import PackedClassifier

DATA = DataConfig(normalization="standard", n_folds=2, holdout_fold=1)
PLAIN = TrialConfig(
    data=DATA,
    model=ModelConfig(("int4",), (8,), dropout=0.2, input_dropout=0.1),
    train=TrainConfig(epochs=5, batch_size=16, learning_rate=0.01),
)
MIXTURE = dataclasses.replace(PLAIN, model=ModelConfig(("int8", "int1", "ternary"), (), top_k=2))


def _taught(config: TrialConfig) -> TrialConfig:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, distillation=0.7))


CONFIGS = {
    "plain": PLAIN,
    "mixture": MIXTURE,
    "taught": _taught(PLAIN),
    "taught mixture": dataclasses.replace(_taught(MIXTURE), seed=3),
    "patient": dataclasses.replace(
        PLAIN, train=dataclasses.replace(PLAIN.train, patience=1, validation_share=0.3)
    ),
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
    lessons = teach(config, cut, [fold]) if config.train.distillation else None
    trained = train_folds(config, cut, [fold], lessons=lessons)
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


def test_configurations_together_are_predicted_as_alone(data: EmbeddingSet) -> None:
    configs = [*CONFIGS.values(), dataclasses.replace(CONFIGS["taught"], seed=9)]
    rows, together = predict_holdout(configs, data)
    assert together.shape == (len(configs), len(rows))
    for config, predicted in zip(configs, together, strict=True):
        (alone,) = predict_holdout([config], data)[1]
        assert predicted.tolist() == alone.tolist(), config
    assert len({tuple(row) for row in together.tolist()}) > 3


def test_a_teacher_is_trained_once_for_configurations_that_share_it(
    data: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_taught = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal n_taught
        n_taught += 1
        return teach(*arguments, **options)

    monkeypatch.setattr(fit, "teach", counted)
    layered = dataclasses.replace(DATA, normalization="layer")
    taught = CONFIGS["taught"]
    longer = dataclasses.replace(taught, train=dataclasses.replace(taught.train, epochs=3))
    predict_holdout([taught, PLAIN, _taught(MIXTURE), longer], data)
    assert n_taught == 1
    # Other data, and a fresh seed, have teachers of their own.
    others = [dataclasses.replace(taught, data=layered), dataclasses.replace(taught, seed=4)]
    predict_holdout([taught, *others], data)
    assert n_taught == 4


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


@pytest.mark.parametrize("names", [["plain", "mixture", "patient"], ["taught", "taught mixture"]])
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
    other = dataclasses.replace(data, x=x, y=y, digest="another")
    after, predicted_after = _watched(configs, other, monkeypatch)
    for name, one, two in zip(names, before, after, strict=True):
        assert len(one) == len(two) > 0
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a, b), name
    assert predicted_after[:, ::2].tolist() == predicted[:, ::2].tolist()
    assert (predicted_after[:, 1::2] != predicted[:, 1::2]).any()
    assert len(kept) == predicted[:, ::2].shape[1]


@pytest.mark.parametrize("name", ["plain", "taught"])
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
