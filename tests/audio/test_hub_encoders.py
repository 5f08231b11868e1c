"""Encoders of the Hugging Face hub, on small networks that the tests save."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from qwave.audio.encoders import embed_waveforms, make_encoder
from qwave.audio.logmel import LogMel, log_mel, mel_filterbank
from qwave.audio.picture import Picture, draw_picture
from qwave.audio.protocol import encoder_identity
from qwave.config import QwaveError

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow  # transformers takes seconds to load

NAMES = ("efficientnet-b3", "clip-vit-b32")
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 32,
    "projection_dim": 24,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 100,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What transformers writes while the tests save and load."""
    transformers.logging.disable_progress_bar()
    yield
    transformers.logging.enable_progress_bar()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of weights for each encoder, and one of the whole CLIP."""
    root = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    small = transformers.EfficientNetConfig(
        image_size=64, width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=320
    )
    transformers.EfficientNetModel(small).save_pretrained(root / "efficientnet-b3")
    whole = transformers.CLIPModel(
        transformers.CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=24)
    )
    whole.save_pretrained(root / "whole")
    half = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VISION))
    half.vision_model.load_state_dict(whole.vision_model.state_dict())
    half.visual_projection.load_state_dict(whole.visual_projection.state_dict())
    half.save_pretrained(root / "clip-vit-b32")
    return {path.name: path for path in root.iterdir()}


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """The same, to be damaged."""
    return {
        name: Path(shutil.copytree(folder, tmp_path / name)) for name, folder in folders.items()
    }


def noise_of(seed: int, n_clips: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(scale=0.1, size=(n_clips, 160_000)).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_an_embedding_is_what_the_model_says_of_the_picture(
    folders: dict[str, Path], name: str
) -> None:
    encoder = make_encoder(f"{name}:{folders[name]}")
    assert encoder.name == name
    waveforms = noise_of(1)
    settings = LogMel()
    levels = log_mel(
        torch.tensor(waveforms[1]), settings, torch.from_numpy(mel_filterbank(settings))
    )
    # As the preprocessor_config.json of the two repositories has them.
    if name == "efficientnet-b3":
        mean, std = (0.485, 0.456, 0.406), (0.47853944**2, 0.4732864**2, 0.47434163**2)
        model = transformers.EfficientNetModel.from_pretrained(folders[name]).eval()
        read = "pooler_output"
    else:
        mean = (0.48145466, 0.4578275, 0.40821073)
        std = (0.26862954, 0.26130258, 0.27577711)
        kind = transformers.CLIPVisionModelWithProjection
        model, read = kind.from_pretrained(folders[name]).eval(), "image_embeds"
    with torch.no_grad():
        said = model(pixel_values=draw_picture(levels, Picture(64, 64, mean, std)))
    wanted = said[read].flatten().numpy()
    assert (
        encoder.num_features == len(wanted) == {"efficientnet-b3": 320, "clip-vit-b32": 24}[name]
    )
    np.testing.assert_allclose(encoder.encode(waveforms)[1], wanted, atol=1e-4)
    assert np.isfinite(embed_waveforms(encoder, np.zeros((1, 160_000)))).all()


def test_the_whole_of_clip_and_its_image_half_are_one_encoder(folders: dict[str, Path]) -> None:
    half = make_encoder(f"clip-vit-b32:{folders['clip-vit-b32']}")
    whole = make_encoder(f"clip-vit-b32:{folders['whole']}")
    np.testing.assert_array_equal(half.encode(noise_of(3)), whole.encode(noise_of(3)))
    assert encoder_identity(half) == encoder_identity(whole)


def test_transformers_writes_nothing_and_keeps_its_settings(
    folders: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    transformers.logging.enable_progress_bar()
    before = transformers.logging.get_verbosity()
    make_encoder(f"clip-vit-b32:{folders['whole']}")
    assert capfd.readouterr() == ("", "")
    assert transformers.logging.get_verbosity() == before
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(QwaveError, match=r"clip-vit-b32:.*/none: there is no folder .*/none$"):
        make_encoder(f"clip-vit-b32:{tmp_path / 'none'}")


def test_a_folder_without_weights_says_what_it_has(
    copied: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied["clip-vit-b32"]
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = r"there is no \*\.safetensors; it has config\.json, pytorch_model\.bin"
    with pytest.raises(QwaveError, match=message):
        make_encoder(f"clip-vit-b32:{folder}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(QwaveError, match=r"there is no config\.json; it has nothing"):
        make_encoder(f"clip-vit-b32:{tmp_path / 'empty'}")


def test_weights_of_another_encoder_are_refused(folders: dict[str, Path]) -> None:
    message = "holds a model of type 'efficientnet', but clip-vit-b32 is of type 'clip' or"
    with pytest.raises(QwaveError, match=message):
        make_encoder(f"clip-vit-b32:{folders['efficientnet-b3']}")


def test_weights_that_are_not_whole_are_refused(copied: dict[str, Path]) -> None:
    config = copied["clip-vit-b32"] / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_hidden_layers": 3}))
    with pytest.raises(QwaveError, match=r"are not whole: 16 tensors are missing, 'vision_model"):
        make_encoder(f"clip-vit-b32:{copied['clip-vit-b32']}")


def test_damaged_weights_are_named(copied: dict[str, Path]) -> None:
    folder = copied["efficientnet-b3"]
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(QwaveError, match=f"efficientnet-b3 cannot be read from {folder}: .+"):
        make_encoder(f"efficientnet-b3:{folder}")


@pytest.mark.parametrize("text", ["{", '{"model_type": "clip", "image_size": "x"}'])
def test_a_damaged_configuration_is_named(copied: dict[str, Path], text: str) -> None:
    folder = copied["clip-vit-b32"]
    (folder / "config.json").write_text(text)
    with pytest.raises(QwaveError, match="clip-vit-b32"):
        make_encoder(f"clip-vit-b32:{folder}")


def test_weights_are_not_unpickled(copied: dict[str, Path]) -> None:
    folder = copied["clip-vit-b32"]
    weights = transformers.CLIPVisionModelWithProjection.from_pretrained(folder).state_dict()
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(QwaveError, match="no file named model.safetensors found"):
        make_encoder(f"clip-vit-b32:{folder}")


def test_code_that_lies_beside_weights_is_not_run(copied: dict[str, Path]) -> None:
    folder = copied["clip-vit-b32"]
    (folder / "own.py").write_text("raise SystemExit('run')")
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(own))
    with pytest.raises(QwaveError, match="clip-vit-b32 cannot be read from"):
        make_encoder(f"clip-vit-b32:{folder}")


def test_without_the_hub_the_encoder_says_what_can_be_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = (
        "the weights of clip-vit-b32 cannot be read from openai/clip-vit-base-patch32: .*"
        "clip-vit-b32:FOLDER .* the default encoder needs neither"
    )
    with pytest.raises(QwaveError, match=message):
        make_encoder("clip-vit-b32")


def test_weights_in_the_hubs_cache_need_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folders: dict[str, Path]
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--openai--clip-vit-base-patch32"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folders["whole"], repository / "snapshots" / ("0" * 40))
    asked = []

    def refuse(host: str, *options: object, **more: object) -> None:
        asked.append(host)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert make_encoder("clip-vit-b32").num_features == 24
    assert not asked


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(QwaveError, match=r"needs transformers: pip install 'qwave\[hub\]'"):
        make_encoder("efficientnet-b3")
