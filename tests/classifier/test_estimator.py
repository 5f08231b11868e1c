"""The estimator: beside the engine that it calls, its file, its parameters and its errors."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qwave
from qwave import QuantizedMoEClassifier
from qwave.config import DataError
from qwave.data import EmbeddingSet
from qwave.engine.refit import fit_model
from qwave.packing import packed_size_bytes, to_bytes

FAST = {"epochs": 6, "distillation": 0.0, "random_state": 0}
MIXTURE: dict[str, Any] = {
    **FAST,
    "epochs": 40,
    "learning_rate": 0.02,
    "schemes": ("int4", "ternary", "fp32"),
    "hidden": (6,),
    "top_k": 2,
    "router_hidden": 5,
    "curiosity_alpha": 2.0,
    "dropout": 0.2,
}


def _estimator(**parameters: Any) -> QuantizedMoEClassifier:
    return QuantizedMoEClassifier(**{**FAST, **parameters})


def _file(estimator: QuantizedMoEClassifier) -> bytes:
    return to_bytes(estimator.model_.packed)


@pytest.fixture(scope="module")
def data(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    return gaussians(4, n_per_class=12, num_features=7, distance=1.0)


@pytest.fixture(scope="module")
def mixture(data: EmbeddingSet) -> QuantizedMoEClassifier:
    return QuantizedMoEClassifier(**MIXTURE).fit(data.x, data.y)


# --- what is trained ---


@pytest.mark.parametrize("distillation", [0.0, 0.6])
def test_the_model_is_what_the_engine_makes_of_the_sorted_rows(
    data: EmbeddingSet, distillation: float
) -> None:
    parameters = {**MIXTURE, "distillation": distillation, "random_state": 5}
    found = QuantizedMoEClassifier(**parameters).fit(data.x, data.y)
    rows = sorted(range(len(data.y)), key=lambda row: (data.y[row], data.x[row].tobytes()))
    by_hand = dataclasses.replace(data, x=data.x[rows], y=data.y[rows], fold=None, group=None)
    by_hand = dataclasses.replace(by_hand, class_names=("0", "1", "2"))
    config = qwave.parse_config(
        {
            "data": {"normalization": "standard", "n_folds": 5},
            "model": {
                "schemes": ["int4", "ternary", "fp32"],
                "hidden": [6],
                "top_k": 2,
                "dropout": 0.2,
                "router": {"hidden": 5},
                "curiosity": {"alpha": 2.0},
            },
            "train": {
                "epochs": 40,
                "learning_rate": 0.02,
                "distillation": distillation,
                "class_weights": False,
            },
            "seed": 5,
        }
    )
    expected = fit_model(config, by_hand).packed
    header = dataclasses.replace(
        expected.header, data_digest=found.model_.packed.header.data_digest
    )
    assert _file(found) == to_bytes(dataclasses.replace(expected, header=header))
    assert found.config_ == dataclasses.replace(
        config, data=dataclasses.replace(config.data, path="")
    )


def test_probabilities_are_those_of_the_saved_file(
    mixture: QuantizedMoEClassifier, data: EmbeddingSet, tmp_path: Path
) -> None:
    path = tmp_path / "mixture.qwave"
    size = mixture.save(path)
    loaded = qwave.load_packed(path)
    assert size == path.stat().st_size == mixture.size_bytes_
    assert size == packed_size_bytes(
        mixture.config_, dataclasses.replace(data, class_names=("0", "1", "2"))
    )
    probabilities = mixture.predict_proba(data.x)
    assert probabilities.dtype == np.float32
    np.testing.assert_array_equal(probabilities, loaded.predict_proba(data.x))
    np.testing.assert_array_equal(mixture.predict(data.x).astype(str), loaded.predict(data.x))
    np.testing.assert_array_equal(
        mixture.uncertainty(data.x), loaded.examine(data.x).mutual_information
    )
    # Gates and widths were chosen such that the experts matter.
    assert (loaded.examine(data.x).gates > 0).any(axis=0).all()
    assert mixture.score(data.x, data.y) > 0.8


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["", 'quo"ted, and\nbroken', "é"]),
        np.array(["b", "a", "c"], dtype=object),
        np.array([30, -5, 7]),
        np.array([True, False, True]),
    ],
    ids=["odd text", "objects", "whole", "booleans"],
)
def test_labels_of_any_type_come_back(
    data: EmbeddingSet, labels: np.ndarray, tmp_path: Path
) -> None:
    y = labels[data.y]
    estimator = _estimator(epochs=30).fit(data.x, y)
    np.testing.assert_array_equal(estimator.classes_, np.unique(labels))
    predicted = estimator.predict(data.x)
    assert predicted.dtype == labels.dtype
    assert (predicted == y).mean() > 0.8
    best = estimator.predict_proba(data.x).argmax(axis=1)
    np.testing.assert_array_equal(predicted, estimator.classes_[best])
    estimator.save(tmp_path / "file.qwave")
    names = qwave.load_packed(tmp_path / "file.qwave").class_names
    assert names == tuple(str(label) for label in estimator.classes_.tolist())


def test_features_decide_the_automatic_normalization(data: EmbeddingSet) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(20) % 2
    wide = np.abs(rng.normal(size=(20, 64))).astype(np.float32)
    wide[0, 0] = 0
    negative = wide.copy()
    negative[3, 2] = -0.1
    for x, expected in [
        (wide, "sqrt_layer"),
        (wide[:, :63], "standard"),
        (negative, "standard"),
        (data.x[:20], "standard"),
    ]:
        assert _estimator().fit(x, y).config_.data.normalization == expected
    assert _estimator(normalization="layer").fit(wide, y).config_.data.normalization == "layer"
    # Of the rows that train.
    fitted = _estimator().fit(negative, y, np.arange(20) != 3)
    assert fitted.config_.data.normalization == "sqrt_layer"


def test_equal_seeds_give_equal_files_and_others_do_not(data: EmbeddingSet) -> None:
    def trained(random_state: Any) -> tuple[bytes, int]:
        fitted = _estimator(random_state=random_state, hidden=(4,)).fit(data.x, data.y)
        return _file(fitted), fitted.config_.seed

    file, seed = trained(7)
    assert seed == 7
    assert trained(7) == trained(np.int64(7)) == (file, 7)
    assert trained(8)[0] != file
    assert trained(np.random.RandomState(3)) == trained(np.random.RandomState(3))
    generator = np.random.RandomState(3)
    assert trained(generator) != trained(generator)
    assert trained(None) != trained(None)


# --- uncertainty ---


def test_uncertainty_of_a_row_is_the_same_alone(
    mixture: QuantizedMoEClassifier, data: EmbeddingSet
) -> None:
    together = mixture.uncertainty(data.x)
    alone = [mixture.uncertainty(row[None])[0] for row in data.x]
    assert together.shape == (len(data.y),)
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    assert together.min() >= 0
    assert together.max() > 0


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({}, "set input_dropout or dropout above 0"),
        ({"schemes": ("int8", "int1"), "router_dropout": 0.0}, "set router_dropout above 0"),
    ],
)
def test_a_model_without_dropout_warns_that_it_knows_no_uncertainty(
    data: EmbeddingSet, parameters: dict[str, Any], says: str
) -> None:
    without = _estimator(**parameters).fit(data.x, data.y)
    with pytest.warns(UserWarning, match=f"uncertainty is 0 everywhere: .*{says}") as caught:
        assert (without.uncertainty(data.x) == 0).all()
    assert [warning.filename for warning in caught] == [__file__]
    name = "router_dropout" if parameters else "input_dropout"
    fitted = _estimator(**{**parameters, name: 0.4}).fit(data.x, data.y)
    assert fitted.uncertainty(data.x).max() > 0


# --- data ---


def test_labels_that_are_no_classes_are_refused(data: EmbeddingSet) -> None:
    one = np.full(len(data.y), "rain")
    with pytest.raises(DataError, match="at least 2 classes, but got 1 class: rain"):
        _estimator().fit(data.x, one)
    with pytest.raises(DataError, match="Unknown label type: continuous"):
        _estimator().fit(data.x, data.x[:, 0])
    for odd, types in ((None, "NoneType, str"), (7, "int, str"), (1.5, "float, str")):
        labels = np.array([odd, *["rain"] * (len(data.y) - 1)], dtype=object)
        with pytest.raises(DataError, match=f"^y must be labels of one type.* holds {types}: "):
            _estimator().fit(data.x, labels)
    with pytest.raises(DataError, match="^y must be labels of one type.* holds bytes: "):
        _estimator().fit(data.x, one.astype(bytes))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        _estimator().fit(data.x, data.y[1:])


def test_features_that_the_file_cannot_hold_are_refused_in_its_words(data: EmbeddingSet) -> None:
    x = data.x.copy()
    x[:, 2] *= 1e9
    with pytest.raises(DataError, match="^normalization: standard cannot store feature column 2"):
        _estimator().fit(x, data.y)
    assert _estimator(normalization="layer").fit(x, data.y).n_features_in_ == 7


# --- copies ---


def test_a_pickle_holds_the_file_and_predicts_the_same(
    mixture: QuantizedMoEClassifier, data: EmbeddingSet
) -> None:
    state = mixture.__getstate__()
    assert state["model_"] == _file(mixture)
    assert mixture.model_ is not state["model_"]
    for again in (pickle.loads(pickle.dumps(mixture)), copy.deepcopy(mixture)):
        assert _file(again) == _file(mixture)
        assert again.config_ == mixture.config_
        assert again.get_params() == mixture.get_params()
        for method in ("predict", "predict_proba", "uncertainty"):
            expected = getattr(mixture, method)(data.x)
            np.testing.assert_array_equal(getattr(again, method)(data.x), expected)
        assert _file(again.fit(data.x, data.y)) == _file(mixture)
    unfitted = pickle.loads(pickle.dumps(_estimator(hidden=(3,))))
    assert unfitted.hidden == (3,)
    assert not hasattr(unfitted, "model_")


@pytest.mark.slow
def test_a_pickled_model_predicts_without_torch(
    mixture: QuantizedMoEClassifier,
    data: EmbeddingSet,
    tmp_path: Path,
    fresh_python: Callable[..., str],
) -> None:
    (tmp_path / "model.pickle").write_bytes(pickle.dumps((mixture, data.x)))
    code = (
        "import pathlib, pickle, sys\n"
        f"content = pathlib.Path({str(tmp_path)!r}, 'model.pickle').read_bytes()\n"
        "model, x = pickle.loads(content)\n"
        "print(model.predict(x).tolist())\n"
        "print({'torch', 'pydantic', 'optuna'} & set(sys.modules))\n"
    )
    predicted, heavy = fresh_python(code).splitlines()
    assert predicted == str(mixture.predict(data.x).tolist())
    assert heavy == "set()"
