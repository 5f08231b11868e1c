"""scikit-learn's own checks of an estimator, all of them, none declared to fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from qwave import QuantizedMoEClassifier

pytestmark = pytest.mark.slow
# The default is in the test below.
ESTIMATORS = [
    QuantizedMoEClassifier(
        ("int8", "int1"), hidden=(4,), top_k=2, curiosity_alpha=1.0, distillation=0.0
    ),
    QuantizedMoEClassifier("fp32", distillation=0.0, input_dropout=0.1),
]


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=None)
def test_mixtures_and_float_networks_pass_every_check(
    estimator: QuantizedMoEClassifier, check: Callable[[Any], None]
) -> None:
    check(estimator)


def test_the_default_passes_every_check_and_none_is_skipped(
    fresh_python: Callable[..., str],
) -> None:
    """One check is skipped unless SciPy is imported with array API dispatch switched on."""
    code = (
        "from sklearn.utils.estimator_checks import check_estimator\n"
        "from qwave import QuantizedMoEClassifier\n"
        "results = check_estimator(QuantizedMoEClassifier())\n"
        "print(len(results), {result['status'] for result in results})\n"
    )
    number, statuses = fresh_python(code, SCIPY_ARRAY_API="1", OMP_NUM_THREADS="1").split(" ", 1)
    assert int(number) > 50
    assert statuses == "{'passed'}"
