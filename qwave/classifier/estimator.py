"""`QuantizedMoEClassifier`: the engine behind scikit-learn's interface.

Predictions are those of the packed file. Only `fit` imports the engine, so that a fitted estimator
is unpickled and used without torch.

Shapes: n rows, d features, c classes.
"""

from __future__ import annotations

import numbers
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from qwave.classifier.parameters import in_parameters, trial_config
from qwave.classifier.weights import training_rows
from qwave.config import (
    CuriosityConfig,
    DataError,
    ModelConfig,
    QwaveError,
    RouterConfig,
    TrainConfig,
)
from qwave.data import EmbeddingSet, take_rows
from qwave.packing import from_bytes, to_bytes
from qwave.runtime import PackedClassifier, as_float32, save_packed

_PICKLED = "a pickled QuantizedMoEClassifier"


class QuantizedMoEClassifier(ClassifierMixin, BaseEstimator):
    """A mixture of quantized experts, trained and packed as one trial of a study is.

    The defaults are those of `qwave.config`, except `hidden`: experts are linear, which is as
    accurate as any on few rows of pretrained embeddings.

    Training rows are sorted, so that the same rows in another order, and rows with a whole
    `sample_weight` in place of repeated rows, give the same file, bit by bit.

    Args:
        schemes: Scheme of each expert, or one scheme for a plain network; any name that a sweep
            takes.
        hidden: Widths of every expert's hidden layers; empty for linear experts.
        head_scheme: Scheme of the last layer of experts with hidden layers; None: the expert's.
        top_k: Number of experts that a row is sent to.
        dropout: Dropout rate of hidden units, 0 to 1.
        input_dropout: Dropout rate of features, 0 to 1.
        router_hidden: Width of the router's hidden layer; 0 for a linear router.
        router_scheme: Scheme of the router's layers.
        router_dropout: Dropout rate of the router's inputs and hidden units, 0 to 1.
        load_balance_weight: Weight of the load-balancing loss.
        curiosity_alpha: Tilt of uncertain rows toward experts with more bits; 0 is off.
        mc_samples: Number of MC-dropout passes of `uncertainty`.
        normalization: A name of `qwave.data.Normalizer`, or ``auto``: ``sqrt_layer`` where there
            are at least 64 features and none is negative, as in embeddings after a ReLU, else
            ``standard``.
        mode: ``qat`` trains through the quantizer, ``ptq`` quantizes after training.
        epochs: Passes over the training rows.
        batch_size: Largest number of rows in a step.
        learning_rate: Learning rate of AdamW at the start of a cosine schedule.
        weight_decay: Weight decay of AdamW.
        label_smoothing: Share of the target that is spread evenly over the classes.
        distillation: Share of the target that comes from a teacher, an ensemble trained on the
            same rows; 0 trains in about a tenth of the time.
        class_weight: Weights by label, ``balanced``, or None, as in scikit-learn's classifiers.
        random_state: Seed (`TrialConfig.seed`), a `RandomState` to draw it from, or None for a
            fresh one at each fit.
        device: ``cpu``, ``cuda`` or ``mps``, for training.

    Attributes:
        classes_: Labels, sorted, [c].
        n_features_in_: Number of features, d.
        feature_names_in_: Names of the features, if X had names.
        config_: Configuration that was trained, a `qwave.config.TrialConfig`.
        model_: The packed model, a `qwave.runtime.PackedClassifier`.
        size_bytes_: Length of the file that `save` writes.
    """

    def __init__(
        self,
        schemes: str | Sequence[str | int] = ModelConfig.schemes,
        *,
        hidden: Sequence[int] = (),
        head_scheme: str | int | None = ModelConfig.head_scheme,
        top_k: int = ModelConfig.top_k,
        dropout: float = ModelConfig.dropout,
        input_dropout: float = ModelConfig.input_dropout,
        router_hidden: int = RouterConfig.hidden,
        router_scheme: str | int = RouterConfig.scheme,
        router_dropout: float = RouterConfig.dropout,
        load_balance_weight: float = ModelConfig.load_balance_weight,
        curiosity_alpha: float = CuriosityConfig.alpha,
        mc_samples: int = CuriosityConfig.mc_samples,
        normalization: str = "auto",
        mode: str = TrainConfig.mode,
        epochs: int = TrainConfig.epochs,
        batch_size: int = TrainConfig.batch_size,
        learning_rate: float = TrainConfig.learning_rate,
        weight_decay: float = TrainConfig.weight_decay,
        label_smoothing: float = TrainConfig.label_smoothing,
        distillation: float = TrainConfig.distillation,
        class_weight: Mapping[Any, float] | str | None = None,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
    ) -> None:
        self.schemes = schemes
        self.hidden = hidden
        self.head_scheme = head_scheme
        self.top_k = top_k
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.router_hidden = router_hidden
        self.router_scheme = router_scheme
        self.router_dropout = router_dropout
        self.load_balance_weight = load_balance_weight
        self.curiosity_alpha = curiosity_alpha
        self.mc_samples = mc_samples
        self.normalization = normalization
        self.mode = mode
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.distillation = distillation
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on all rows, and pack the model.

        Args:
            X: Numbers of shape [n, d], or a data frame.
            y: Labels [n], all of one type.
            sample_weight: Weights [n], 0 or above. Whole weights are repetitions of rows, 0 leaves
                a row out, others count by their ratios (`qwave.classifier.weights.repetitions`).
                Training takes longer in proportion to the repeated rows.

        Raises:
            ConfigError: A parameter is impossible, or training diverged.
            DataError: scikit-learn's validation refuses X, y or the weights, X is not numbers,
                labels have several types, or fewer than two classes have rows with weight.
            DeviceError: The device does not exist.
        """
        x, y = self._validated(X, y=y)
        # -0.0 becomes 0: rows are sorted by their bytes, which must be equal for equal numbers.
        x = np.add(x, np.float32(0), order="C")
        classes, codes = _classes_of(np.asarray(y))
        weight = None if sample_weight is None else _checked_weight(sample_weight, len(x))
        rows = training_rows(x, codes, classes, weight, self.class_weight)
        trained = np.unique(codes[rows])
        if len(trained) < 2:
            weightless = " with weight above 0" if len(classes) > 1 else ""
            raise DataError(
                f"{type(self).__name__} needs rows of at least 2 classes, but got 1 class"
                f"{weightless}: {classes[trained[0]]!s}"
            )
        data = _embedding_set(x, codes, rows, trained, classes)
        seed = _seed(self.random_state)
        # Imported here: prediction needs neither torch nor pydantic.
        from qwave.engine.refit import fit_model

        try:
            config = trial_config(self.get_params(deep=False), data.x, seed)
            packed = fit_model(config, data, device=str(self.device)).packed
        except QwaveError as error:
            raise type(error)(in_parameters(str(error))) from error
        self.classes_ = classes
        self.config_ = config
        self.model_ = PackedClassifier(packed)
        self.size_bytes_ = len(to_bytes(packed))
        self._trained_classes = trained
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probability of each class in `classes_`, float32 [n, c]; each row sums to 1.

        The packed file gives the same numbers. A class without rows of weight above 0 has
        probability 0 everywhere.

        Raises:
            DataError: X is not numbers, has another number of features than in `fit`, or is not
                finite.
        """
        x = self._checked(X)
        probabilities = np.zeros((len(x), len(self.classes_)), dtype=np.float32)
        probabilities[:, self._trained_classes] = self.model_.predict_proba(x)
        return probabilities

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The likeliest label of each row, [n]; the first in `classes_` among equals."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        labels: np.ndarray = self.classes_[likeliest]
        return labels

    def uncertainty(self, X: ArrayLike) -> np.ndarray:
        """Epistemic uncertainty of each row: mutual information in nats, float32 [n], 0 or above.

        It is that of the router in a mixture, and that of the prediction in a plain network, under
        MC-dropout at the rates of training. A row has the same value alone and among others.
        Without any dropout all values are 0, with a warning.
        """
        x = self._checked(X)
        model = self.model_.packed.header.model
        if model.num_experts > 1:
            rates = {"router_dropout": model.router.dropout}
        else:
            rates = {"input_dropout": model.input_dropout, "dropout": model.dropout}
        if not any(rates.values()):
            warnings.warn(
                f"uncertainty is 0 everywhere: it comes from dropout, and there was none; set "
                f"{' or '.join(rates)} above 0",
                UserWarning,
                stacklevel=2,
            )
        return self.model_.examine(x).mutual_information

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write the packed file; returns its length in bytes.

        `qwave.load_packed` reads the file as a classifier whose classes are the labels as text.
        """
        check_is_fitted(self)
        return save_packed(self.model_, path)

    def _checked(self, X: ArrayLike) -> np.ndarray:
        """X as float32 [n, d], checked for prediction."""
        check_is_fitted(self)
        x: np.ndarray = self._validated(X, reset=False)
        return x

    def _validated(self, X: ArrayLike, **options: Any) -> Any:
        """X, and y if it is given, checked by scikit-learn, with its errors as errors of qwave.

        scikit-learn takes text of numbers, dates and masked values for numbers; here they are
        refused.
        """
        try:
            # Values that overflow float32 become infinite, and are refused without a warning.
            with np.errstate(over="ignore", invalid="ignore"):
                checked = validate_data(self, X, dtype=np.float32, **options)
        except TypeError as error:
            raise _DataTypeError(str(error)) from error
        except (ValueError, OverflowError) as error:
            raise DataError(str(error)) from error
        as_float32(X)
        return checked

    def __getstate__(self) -> dict[str, Any]:
        """The parameters, and the packed file's content in place of the unpacked model."""
        state: dict[str, Any] = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = to_bytes(self.model_.packed)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "model_" in state:
            packed = from_bytes(state["model_"], _PICKLED)
            state = {**state, "model_": PackedClassifier(packed)}
        super().__setstate__(state)


class _DataTypeError(DataError, TypeError):
    """Refuses cells of a type that is no number, for which scikit-learn expects a `TypeError`."""


def _classes_of(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted classes [c], and for each label [n] the index of its class."""
    try:
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
    except (TypeError, ValueError) as error:
        kind = _DataTypeError if isinstance(error, TypeError) else DataError
        if y.dtype.kind not in "OS":
            raise kind(str(error)) from error
        types = ", ".join(sorted({type(label).__name__ for label in y.tolist()}))
        raise kind(
            f"y must be labels of one type, text or whole numbers, but holds {types}: {error}"
        ) from error
    return classes, codes


def _checked_weight(sample_weight: ArrayLike, n_rows: int) -> np.ndarray:
    try:
        weight: np.ndarray = check_array(
            sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
        )
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from error
    if weight.shape != (n_rows,):
        raise DataError(
            f"sample_weight must have one value for each of the {n_rows} rows of X, but has shape "
            f"{weight.shape}"
        )
    return weight


def _embedding_set(
    x: np.ndarray, y: np.ndarray, rows: np.ndarray, trained: np.ndarray, labels: np.ndarray
) -> EmbeddingSet:
    """A set of rows [m] of x, with only the classes in `trained`."""
    names = tuple(str(label) for label in labels[trained].tolist())
    # Classes of the other rows mean nothing; these rows are not taken.
    own = np.searchsorted(trained, y).astype(np.int64)
    # A pipeline may give columns that follow each other in memory (Fortran order).
    x = np.ascontiguousarray(x, np.float32)
    return take_rows(EmbeddingSet(x, own, None, None, names, ("",) * len(x), ""), rows)


def _seed(random_state: int | np.random.RandomState | None) -> int:
    generator = check_random_state(random_state)  # refuses what is none
    if isinstance(random_state, numbers.Integral):
        return int(random_state)
    return int(generator.randint(2**31 - 1))
