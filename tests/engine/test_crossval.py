"""One trial end to end: what it reports is what its files predict."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from qwave.config import (
    SCHEMES,
    ConfigError,
    CuriosityConfig,
    DataConfig,
    DataError,
    DeviceError,
    ModelConfig,
    RouterConfig,
    TrainConfig,
    TrialConfig,
)
from qwave.data import (
    EmbeddingSet,
    embeddings_from_arrays,
    load_embeddings,
    make_folds,
    resolve_config,
)
from qwave.engine import crossval
from qwave.engine import refit as fit
from qwave.engine.crossval import TrialResult, cross_validate
from qwave.engine.refit import fit_model
from qwave.packing import packed_size_bytes
from qwave.runtime import load_packed, save_packed
from qwave.scores.evaluate import clustered_standard_error, score_predictions, score_uncertainty

pytestmark = pytest.mark.usefixtures("small_teacher")

Gaussians = Callable[..., EmbeddingSet]

MODELS = {
    "plain": ModelConfig(schemes=("int8",), hidden=(8,), dropout=0.2),
    "linear": ModelConfig(schemes=("int1",), hidden=()),
    "mixture": ModelConfig(
        schemes=("int8", "ternary", "int1"), hidden=(6,), top_k=2, router=RouterConfig(dropout=0.3)
    ),
    "curious": ModelConfig(
        schemes=("fp32", "int2"),
        hidden=(),
        router=RouterConfig(hidden=4, scheme="int4", dropout=0.3),
        curiosity=CuriosityConfig(alpha=2.0),
    ),
}


def _config(model: ModelConfig, normalization: Any = "layer", **train: Any) -> TrialConfig:
    settings: dict[str, Any] = {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, **train}
    return TrialConfig(
        data=DataConfig(normalization=normalization, n_folds=3),
        model=model,
        train=TrainConfig(**settings),
    )


@pytest.fixture(scope="module")
def data(gaussians: Gaussians) -> EmbeddingSet:
    return gaussians(0, distance=0.6)


@pytest.fixture(scope="module", params=list(MODELS))
def result(request: pytest.FixtureRequest, data: EmbeddingSet, small_teacher: None) -> TrialResult:
    return cross_validate(_config(MODELS[request.param], "standard"), data)


def test_accuracy_is_the_mean_over_folds_and_scikit_learns_on_each(
    result: TrialResult, data: EmbeddingSet
) -> None:
    predicted = result.predictions.predicted
    by_fold = []
    for fold in range(3):
        rows = np.flatnonzero(result.predictions.fold == fold)
        by_fold.append(metrics.accuracy_score(data.y[rows], predicted[rows]))
    assert result.fold_scores["accuracy"] == pytest.approx(by_fold)
    assert result.scores["accuracy"] == pytest.approx(np.mean(by_fold))
    pooled = metrics.accuracy_score(data.y, predicted)
    assert result.pooled_scores["accuracy"] == pytest.approx(pooled)


def test_every_score_is_the_mean_of_its_folds_scores(
    result: TrialResult, data: EmbeddingSet
) -> None:
    probabilities = result.predictions.probabilities
    for fold in range(3):
        rows = result.predictions.fold == fold
        expected = score_predictions(data.y[rows], probabilities[rows])
        got = {name: values[fold] for name, values in result.fold_scores.items()}
        assert got == pytest.approx(expected)
    for name, values in result.fold_scores.items():
        assert len(values) == 3
        assert result.scores[name] == pytest.approx(sum(values) / 3), name
    further = {"accuracy_standard_error", "size_bytes", "active_bytes"}
    assert set(result.scores) == set(result.fold_scores) | further


def test_pooled_scores_hold_predictions_and_all_three_uncertainties(
    result: TrialResult, data: EmbeddingSet
) -> None:
    predictions = result.predictions
    is_correct = predictions.predicted == data.y
    expected = score_predictions(data.y, predictions.probabilities)
    for name, uncertainty in (
        ("curiosity", predictions.mutual_information),
        ("variance", predictions.variance),
        ("max_probability", 1 - predictions.probabilities.max(axis=1)),
    ):
        for score, value in score_uncertainty(is_correct, uncertainty).items():
            expected[f"{name}_{score}"] = value
    assert result.pooled_scores == pytest.approx(expected, abs=1e-6)


def test_out_of_fold_predictions_stand_in_the_order_of_the_rows(
    result: TrialResult, data: EmbeddingSet
) -> None:
    predictions = result.predictions
    n = len(data.y)
    assert predictions.probabilities.shape == (n, 3)
    assert predictions.probabilities.dtype == np.float32
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(predictions.predicted, predictions.probabilities.argmax(axis=1))
    for values in (predictions.mutual_information, predictions.variance):
        assert values.shape == (n,)
        assert (values >= 0).all()
    for fold in make_folds(data, result.config.data):
        assert set(predictions.fold[fold.test].tolist()) == {fold.index}


def test_reloaded_models_predict_exactly_the_recorded_rows(
    result: TrialResult, data: EmbeddingSet, tmp_path: Path
) -> None:
    assert len(result.models) == 3
    for fold, model in enumerate(result.models):
        save_packed(model, tmp_path / "some.qwave")
        reloaded = load_packed(tmp_path / "some.qwave")
        rows = result.predictions.fold == fold
        again = reloaded.examine(data.x[rows])
        for name in ("probabilities", "gates", "mutual_information", "variance"):
            np.testing.assert_array_equal(
                getattr(again, name), getattr(result.predictions, name)[rows], err_msg=name
            )
        names = np.array(data.class_names)[result.predictions.predicted[rows]]
        np.testing.assert_array_equal(reloaded.predict(data.x[rows]), names)


def test_the_size_is_the_length_of_the_file_and_known_before(
    result: TrialResult, data: EmbeddingSet, tmp_path: Path
) -> None:
    for model in result.models:
        written = save_packed(model, tmp_path / "some.qwave")
        assert (tmp_path / "some.qwave").stat().st_size == written == result.size_bytes
    assert result.scores["size_bytes"] == result.size_bytes
    assert sum(result.size_parts.values()) == result.size_bytes
    assert packed_size_bytes(result.config, data) == result.size_bytes


def test_active_bytes_equal_a_plain_sum_over_clips(result: TrialResult) -> None:
    parts = result.size_parts
    shared = parts.get("router", 0) + parts["normalization"]
    read = [
        shared + sum(parts[f"expert_{e}"] for e in range(len(gates)) if gates[e] > 0)
        for gates in result.predictions.gates
    ]
    assert result.scores["active_bytes"] == pytest.approx(np.mean(read))
    assert result.scores["active_bytes"] < result.size_bytes


def test_expert_load_is_the_mean_gate_and_sums_to_1(result: TrialResult) -> None:
    num_experts = result.config.model.num_experts
    assert len(result.expert_load) == num_experts
    assert sum(result.expert_load) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(
        result.expert_load, result.predictions.gates.mean(axis=0), rtol=1e-5
    )
    used = (result.predictions.gates > 0).sum(axis=1)
    assert set(used.tolist()) == {result.config.model.top_k}


def test_the_standard_error_is_that_of_recordings(result: TrialResult, data: EmbeddingSet) -> None:
    assert data.group is not None
    assert len(set(data.group.tolist())) < len(data.y)
    is_correct = result.predictions.predicted == data.y
    expected = clustered_standard_error(is_correct, data.group)
    assert result.scores["accuracy_standard_error"] == pytest.approx(expected)


def test_records_of_training_are_complete(result: TrialResult) -> None:
    assert result.train_loss.shape == (6, 3)
    assert [checkpoint.epoch for checkpoint in result.checkpoints] == [1, 2, 3, 4, 5, 6]
    assert all(len(c.accuracy) == len(c.loss) == 3 for c in result.checkpoints)
    assert result.config == result.config.canonical()
    assert 0 < result.train_seconds <= result.seconds
    assert result.peak_memory_bytes > 1_000_000


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_the_last_checkpoint_is_next_to_what_the_packed_model_scores(
    data: EmbeddingSet, scheme: str
) -> None:
    result = cross_validate(_config(ModelConfig(schemes=(scheme,), hidden=(8,))), data)
    # The torch model keeps its biases in float32, the file in float16.
    last = result.checkpoints[-1]
    np.testing.assert_allclose(result.fold_scores["nll"], last.loss, atol=0.01)
    np.testing.assert_allclose(result.fold_scores["accuracy"], last.accuracy, atol=0.051)


def test_permuted_experts_are_the_same_trial(data: EmbeddingSet) -> None:
    mixture = MODELS["mixture"]
    permuted = dataclasses.replace(mixture, schemes=mixture.schemes[::-1])
    one = cross_validate(_config(mixture), data)
    two = cross_validate(_config(permuted), data)
    np.testing.assert_array_equal(one.predictions.probabilities, two.predictions.probabilities)
    assert one.config == two.config


def test_recordings_left_out_of_training_are_tested_all_the_same(
    make_set: Callable[..., EmbeddingSet],
) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(30) % 2
    x = rng.normal(size=(30, 6)) + 2 * y[:, None]
    group = np.arange(30)
    group[3] = group[0]  # rows 0 and 3 stand in different folds
    data = make_set(x, y, fold=np.arange(30) // 2 % 3, group=group)
    config = _config(MODELS["linear"])
    kept = dataclasses.replace(config, data=DataConfig("esc10", "layer", 3, drop_overlap=True))
    with pytest.warns(UserWarning, match="1 recordings span official folds"):
        leaky = cross_validate(config, data)
    honest = cross_validate(kept, data)
    assert len(honest.predictions.predicted) == len(leaky.predictions.predicted) == 30


def test_folds_that_are_given_are_those_that_are_made(data: EmbeddingSet) -> None:
    config = _config(MODELS["linear"])
    folds = make_folds(data, config.data)
    made, given = cross_validate(config, data), cross_validate(config, data, folds)
    np.testing.assert_array_equal(made.predictions.fold, given.predictions.fold)
    np.testing.assert_array_equal(made.predictions.probabilities, given.predictions.probabilities)
    for wrong in (folds[:2], (*folds, folds[0])):
        with pytest.raises(DataError, match="folds must test every row of the data once"):
            cross_validate(config, data, wrong)


def test_a_result_is_printed_on_one_screen(result: TrialResult, data: EmbeddingSet) -> None:
    folds = make_folds(data, result.config.data)
    for value in (result, result.predictions, data, folds):
        assert len(repr(value)) < 2000
        assert "array" not in repr(value)
    assert "'accuracy': " in repr(result)


@pytest.mark.slow
def test_shuffled_labels_stay_at_chance_on_esc10() -> None:
    esc10 = load_embeddings("esc10")
    y = np.random.default_rng(0).permutation(esc10.y)
    config = TrialConfig(
        model=ModelConfig(schemes=("int1",), hidden=()), train=TrainConfig(epochs=20)
    )
    shuffled = cross_validate(config, dataclasses.replace(esc10, y=y))
    assert shuffled.scores["accuracy"] == pytest.approx(0.1, abs=0.04)
    # The same configuration does learn what there is to learn.
    assert cross_validate(config, esc10).scores["accuracy"] > 0.8


@pytest.mark.parametrize(
    ("scheme", "hidden", "learning_rate"),
    [("fp32", (), 1e6), ("int16", (8,), 1e6), ("int8", (), 1e30), ("popcount", (8,), 1e30)],
)
def test_training_that_diverges_is_refused_with_its_learning_rate(
    data: EmbeddingSet, scheme: str, hidden: tuple[int, ...], learning_rate: float
) -> None:
    config = _config(
        ModelConfig(schemes=(scheme,), hidden=hidden), learning_rate=learning_rate, epochs=3
    )
    with pytest.raises(
        ConfigError, match=r"training diverged: .*lower train\.learning_rate \(it is 1e\+\d\d\)"
    ):
        cross_validate(config, data)


def test_a_device_that_is_not_there_is_refused_before_training(data: EmbeddingSet) -> None:
    with pytest.raises(DeviceError, match="device must be cpu, cuda or mps, but got 'tpu'"):
        cross_validate(_config(MODELS["linear"]), data, device="tpu")


def test_data_that_cannot_be_split_is_refused(data: EmbeddingSet) -> None:
    config = dataclasses.replace(_config(MODELS["linear"]), data=DataConfig(n_folds=5))
    with pytest.raises(DataError, match="the file has 3 official folds"):
        cross_validate(config, data)


@pytest.mark.parametrize("train", [cross_validate, fit_model])
def test_a_model_that_no_file_can_hold_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, data: EmbeddingSet, train: Callable[..., Any]
) -> None:
    def train_folds(*_: object, **__: object) -> None:
        raise AssertionError("trained")

    for module in (crossval, fit):
        monkeypatch.setattr(module, "train_folds", train_folds)
        monkeypatch.setattr(module, "train_teacher", train_folds)
    config = _config(ModelConfig(("int4",), (), curiosity=CuriosityConfig(mc_samples=1001)))
    with pytest.raises(ConfigError, match="1001"):
        train(config, data)


# --- classes that a training part or a test part lacks ---


@pytest.fixture(scope="module")
def lacking(make_set: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    """Three classes of ten, nine and three clips; the third is of one recording."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [10, 9, 3])
    x = np.abs(rng.normal(size=(3, 8))[y] * 2 + rng.normal(size=(22, 8)))
    return make_set(x, y, group=np.concatenate([np.arange(19), [99] * 3]))


@pytest.mark.filterwarnings("ignore:3 of 22 clips are bound to be wrong:UserWarning")
@pytest.mark.parametrize("train", [{}, {"distillation": 0.8}, {"mode": "ptq"}])
@pytest.mark.parametrize("model", ["linear", "mixture"])
def test_a_class_that_a_training_part_lacks_leaves_every_score_finite(
    lacking: EmbeddingSet, model: str, train: dict[str, Any]
) -> None:
    settings = {"epochs": 2, "distillation": 0.0, **train}
    result = cross_validate(_config(MODELS[model], "standard", **settings), lacking)
    values = [*result.scores.values(), *result.pooled_scores.values()]
    values += [value for fold in result.fold_scores.values() for value in fold]
    values += [v for point in result.checkpoints for v in (*point.loss, *point.accuracy)]
    assert np.isfinite(values).all()
    assert np.isfinite(result.train_loss).all()
    assert np.isfinite(result.predictions.probabilities).all()
    # The clips are all there, and each fold's model knows all classes by name.
    assert result.predictions.probabilities.shape == (22, 3)
    assert len(set(result.predictions.fold[lacking.y == 2])) == 1


@pytest.mark.parametrize(("official", "expected"), [("1", 5), ("12", 2)])
@pytest.mark.parametrize("n_folds", [None, 2])
def test_names_like_those_of_published_sets_train_under_the_defaults(
    official: str, expected: int, n_folds: int | None
) -> None:
    """Official folds that names say serve where they can; nothing has to be switched off."""
    rng = np.random.default_rng(0)
    y = np.arange(32) % 4
    names = [f"{official[row // 4 % len(official)]}-{row}-A-0.wav" for row in range(32)]
    data = embeddings_from_arrays(rng.normal(size=(32, 6)), y, names=names)
    config = _config(MODELS["linear"], epochs=1, distillation=0.0)
    config = dataclasses.replace(config, data=DataConfig("", "layer", n_folds))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "official folds cannot serve", UserWarning)
        result = cross_validate(config, data)
    assert result.config.data.n_folds == (n_folds or expected)
    assert len(result.models) == (n_folds or expected)
    assert result.config.digest == resolve_config(config, data).digest
