"""A model is used with the encoder that it was trained with, or not at all."""

from __future__ import annotations

import warnings

import pytest

from qwave.audio import encoder_identity
from qwave.audio.encoders import make_encoder
from qwave.config import AudioError, ConfigError
from qwave.inference import encoder_of, require_encoder
from qwave.packing import PackedModel
from qwave.runtime import PackedClassifier
from tests.inference.examples import Bands, train_model, with_header


@pytest.fixture
def model() -> PackedModel:
    return train_model()


@pytest.fixture
def of_log_mels() -> PackedModel:
    """A model whose header says that it was trained with `logmel`; its layers are of no use."""
    encoder = make_encoder("logmel")
    wide = train_model(encoder=Bands(num_features=encoder.num_features, clip_seconds=3.0))
    return with_header(wide, encoder=encoder_identity(encoder))


def test_the_encoder_that_the_model_names_is_made(of_log_mels: PackedModel) -> None:
    model = PackedClassifier(of_log_mels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [encoder_of(model), encoder_of(model, "logmel")]
    assert [encoder.name for encoder in found] == ["logmel", "logmel"]
    assert {encoder_identity(encoder) for encoder in found} == {of_log_mels.header.encoder}


def test_another_name_is_refused(of_log_mels: PackedModel) -> None:
    message = (
        r"--encoder efficientnet-lite0: the model was trained on embeddings of logmel "
        r"\(logmel@[0-9a-f]{8}\)"
    )
    with pytest.raises(ConfigError, match=message):
        encoder_of(PackedClassifier(of_log_mels), "efficientnet-lite0")


def test_the_same_name_with_other_parameters_or_weights_is_refused(
    of_log_mels: PackedModel,
) -> None:
    other = with_header(of_log_mels, encoder="logmel@00000000")
    message = (
        r"trained on embeddings of logmel@00000000, but the encoder here is logmel@[0-9a-f]{8}: "
        r"other weights, or a version of qwave .*--encoder logmel:FOLDER.*`qwave embed`"
    )
    with pytest.raises(AudioError, match=message):
        encoder_of(PackedClassifier(other))


def test_a_model_that_names_no_encoder_needs_one(of_log_mels: PackedModel) -> None:
    model = PackedClassifier(with_header(of_log_mels, encoder=""))
    message = "does not say which encoder .*--encoder .*logmel"
    with pytest.raises(ConfigError, match=message):
        encoder_of(model)
    with pytest.warns(UserWarning, match="nothing can tell whether logmel@[0-9a-f]{8} is the one"):
        assert encoder_of(model, "logmel").name == "logmel"


def test_an_encoder_of_ones_own_is_checked_too(model: PackedModel) -> None:
    classifier = PackedClassifier(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require_encoder(classifier, Bands())
    with pytest.raises(AudioError, match=r"bands@[0-9a-f]{8}, but the encoder here is bands@"):
        require_encoder(classifier, Bands(weights_digest="0123456789abcdef"))
    with pytest.raises(AudioError, match=r"is logmel@[0-9a-f]{8}: .*use --encoder bands"):
        require_encoder(classifier, make_encoder("logmel"))


def test_another_width_is_refused_before_the_warning(model: PackedModel) -> None:
    unnamed = PackedClassifier(with_header(model, encoder=""))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AudioError, match=r"takes 8 features, but bands@[0-9a-f]{8} gives 9"):
            require_encoder(unnamed, Bands(num_features=9))
