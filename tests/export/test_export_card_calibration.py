"""What a card says about calibration and about the encoder, against the numbers themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from qwave.exporting.calibration import Calibration, CrossFitted, cross_fit, fit_calibration
from qwave.exporting.card import model_card
from qwave.exporting.facts import Facts
from qwave.exporting.record import OutOfFold
from qwave.runtime import PackedClassifier
from qwave.scores.evaluate import score_predictions

from .examples import rows_of, section_of

pytestmark = pytest.mark.slow  # whole exports


def test_a_calibration_is_told_by_what_it_does_to_folds_that_it_did_not_see(
    facts_of: Callable[..., Facts],
) -> None:
    facts = facts_of("linear")
    y, said = facts.data.searched.y, facts.out_of_fold.probabilities
    assert facts.calibration == fit_calibration(facts.model.packed, said, y)
    wanted = cross_fit(said, y, facts.out_of_fold.fold)
    assert np.array_equal(facts.cross_fitted.probabilities, wanted.probabilities)
    rows = rows_of(model_card(facts), "Calibration")
    after = score_predictions(y, wanted.probabilities)
    before = score_predictions(y, said)
    assert rows["expected calibration error"] == [
        f"{100 * before['ece']:.2f} %",
        f"{100 * after['ece']:.2f} %",
    ]
    assert rows["negative log likelihood, nats"] == [f"{before['nll']:.3f}", f"{after['nll']:.3f}"]
    assert rows["Brier score"] == [f"{before['brier']:.3f}", f"{after['brier']:.3f}"]
    text = section_of(model_card(facts), "Calibration")
    assert f"divided by {facts.calibration.temperature:.4g}, a temperature" in text
    assert f"is below {facts.model.packed.header.sure_probability:.4f} is called unsure" in text


@pytest.mark.parametrize(
    ("right", "sure", "says"),
    [
        (
            [1, 1, 1, 1, 0],
            [1, 1, 0, 1, 0],
            "it calls 25.00 % of the 48 right answers and 100.00 % of the 12 wrong answers unsure",
        ),
        ([1], [1, 0], "it calls 50.00 % of the 60 right answers unsure."),
        ([0], [1, 0], "it calls 50.00 % of the 60 wrong answers unsure."),
    ],
)
def test_shares_of_unsure_answers_are_those_of_right_and_of_wrong_ones(
    right: list[int], sure: list[int], says: str, facts_of: Callable[..., Facts]
) -> None:
    facts = facts_of("linear")
    y = facts.data.searched.y
    is_right, is_sure = (np.resize(np.array(v, dtype=bool), len(y)) for v in (right, sure))
    said = OutOfFold(np.eye(3)[np.where(is_right, y, (y + 1) % 3)], facts.out_of_fold.fold)
    made_up = dataclasses.replace(
        facts,
        out_of_fold=said,
        calibration=Calibration(0.5, 0.75),
        cross_fitted=CrossFitted(said.probabilities, is_sure),
    )
    assert says in section_of(model_card(made_up), "Calibration")
    nothing = dataclasses.replace(made_up, calibration=Calibration(0.5, 0.0))
    text = section_of(model_card(nothing), "Calibration")
    assert "No answer was right: no prediction of this model is called unsure." in text
    assert "it calls" not in text


def test_an_encoder_is_named_with_the_command_that_uses_it(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of("linear")
    card = model_card(facts)
    assert rows_of(card, "Model details")["encoder"] == ["not known"]
    assert "qwave predict" not in card
    packed = facts.model.packed
    header = dataclasses.replace(packed.header, encoder="mel@01234567")
    model = PackedClassifier(dataclasses.replace(packed, header=header))
    card = model_card(dataclasses.replace(facts, model=model))
    assert rows_of(card, "Model details")["encoder"] == ["`mel@01234567`"]
    text = section_of(card, "Use")
    assert "```bash\nqwave predict model.qwave CLIP.wav\n```" in text
    assert "Each row of `x` must be what the encoder `mel@01234567` makes of a clip." in text
    assert "write it here" not in text
