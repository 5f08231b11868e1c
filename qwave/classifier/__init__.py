"""The scikit-learn estimator."""

from qwave.classifier.estimator import QuantizedMoEClassifier

__all__ = ["QuantizedMoEClassifier"]
