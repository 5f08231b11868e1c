"""Encoders of the Hugging Face hub (extra ``hub``): EfficientNet-B3 and CLIP's image half.

Their weights come from the hub's cache, else from the hub, or from a folder as
``save_pretrained`` writes it; as safetensors only, because the older format runs code when it is
read. A folder may hold a network of another width or picture size: its configuration decides.

References:
    Tan and Le, EfficientNet, arXiv 1905.11946.
    Radford et al., Learning Transferable Visual Models From Natural Language Supervision,
    arXiv 2103.00020.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from qwave.audio.picture import IMAGENET_MEAN, IMAGENET_STD, Picture, PictureEncoder
from qwave.audio.protocol import digest_weights
from qwave.config import AudioError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class HubModel(NamedTuple):
    """A pretrained image network of transformers.

    Attributes:
        encoder: Name of the encoder, as ``--encoder`` takes it.
        repository: Repository of the weights on the Hugging Face hub.
        architecture: Name of the network's class in transformers.
        model_types: Model types that the config.json beside the weights may name.
        embedding: Field of the network's output that is the embedding.
        width: Field of the network's configuration that is the number of features.
        mean: Subtracted from pixels between 0 and 1, one number for each channel.
        std: Divides the difference, one number for each channel.
    """

    encoder: str
    repository: str
    architecture: str
    model_types: tuple[str, ...]
    embedding: str
    width: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


EFFICIENTNET_B3 = HubModel(
    encoder="efficientnet-b3",
    repository="google/efficientnet-b3",
    architecture="EfficientNetModel",
    model_types=("efficientnet",),
    embedding="pooler_output",
    width="hidden_dim",
    # The model's preprocessor_config.json holds the square roots of these deviations, and
    # `include_top`, which means: divide by them twice.
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
)
CLIP_VIT_B32 = HubModel(
    encoder="clip-vit-b32",
    repository="openai/clip-vit-base-patch32",
    architecture="CLIPVisionModelWithProjection",
    model_types=("clip", "clip_vision_model"),
    embedding="image_embeds",
    width="projection_dim",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)


def hub_encoder(hub_model: HubModel, folder: str | None = None) -> PictureEncoder:
    """An encoder with weights from the Hugging Face hub or from a folder.

    `EFFICIENTNET_B3`: the pooled last feature map, d = 1536, of pictures of 300 x 300 pixels.
    `CLIP_VIT_B32`: the projected image embedding, d = 512, of pictures of 224 x 224 pixels.

    Args:
        hub_model: The network.
        folder: Folder of the weights; for CLIP, of the whole model or its image half. None: the
            weights of the hub.

    Raises:
        AudioError: transformers is not installed, or the weights cannot be had, are those of
            another network, or are not whole.
    """
    model = _load(hub_model, folder)
    size = model.config.image_size
    height, width = (size, size) if isinstance(size, int) else size

    def embed(pictures: torch.Tensor) -> torch.Tensor:
        return model(pixel_values=pictures)[hub_model.embedding].flatten(1)

    return PictureEncoder(
        name=hub_model.encoder,
        network=embed,
        network_parameters={"architecture": hub_model.architecture},
        num_features=getattr(model.config, hub_model.width),
        weights_digest=digest_weights(tensor.numpy() for tensor in model.state_dict().values()),
        picture=Picture(height, width, hub_model.mean, hub_model.std),
    )


def _load(hub_model: HubModel, folder: str | None) -> PreTrainedModel:
    try:
        import huggingface_hub
        import transformers  # noqa: F401
    except ImportError as error:
        raise AudioError(
            f"encoder {hub_model.encoder!r} needs transformers: pip install 'qwave[hub]'"
        ) from error
    with _quiet():
        if folder is not None:
            _check_folder(hub_model, Path(folder))
            return _read(hub_model, folder, is_local=True)
        # The cache first: what is there needs no network, and does not wait for it.
        cached = huggingface_hub.try_to_load_from_cache(hub_model.repository, "model.safetensors")
        return _read(hub_model, hub_model.repository, is_local=isinstance(cached, str))


def _check_folder(hub_model: HubModel, folder: Path) -> None:
    asked = f"{hub_model.encoder}:{folder}"
    if not folder.is_dir():
        raise AudioError(f"{asked}: there is no folder {folder}")
    for pattern in ("config.json", "*.safetensors"):
        if not any(folder.glob(pattern)):
            found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
            raise AudioError(
                f"{asked}: the folder should hold config.json and model.safetensors, as "
                f"save_pretrained writes them, but there is no {pattern}; it has {found}"
            )


def _read(hub_model: HubModel, source: str, *, is_local: bool) -> PreTrainedModel:
    """A model from a folder or a repository; nothing is unpickled, and no code in it is run."""
    import transformers

    name = hub_model.encoder
    with _explained(name, source):
        config = transformers.AutoConfig.from_pretrained(
            source, local_files_only=is_local, trust_remote_code=False
        )
    if config.model_type not in hub_model.model_types:
        raise AudioError(
            f"{source} holds a model of type {config.model_type!r}, but {name} is of type "
            f"{' or '.join(map(repr, hub_model.model_types))}"
        )
    with _explained(name, source):
        model, report = getattr(transformers, hub_model.architecture).from_pretrained(
            source,
            local_files_only=is_local,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise AudioError(
            f"the weights of {name} in {source} are not whole: {len(missing)} tensors are "
            f"missing, {missing[0]!r} the first of them"
        )
    # A copy: tensors that are mapped from a file begin wherever they lie in it, and the last bits
    # of products depend on that.
    return copy.deepcopy(model).eval()


@contextlib.contextmanager
def _explained(name: str, source: str) -> Iterator[None]:
    """Turn faults of files, network and configurations into an `AudioError` with a remedy."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        reason = str(error).strip().split("\n")[0]
        raise AudioError(
            f"the weights of {name} cannot be read from {source}: {reason} "
            f"(allowed: {name} for those of the hub, which must be reachable once; {name}:FOLDER "
            "for a folder with config.json and model.safetensors; the default encoder "
            "needs neither)"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Switch off the libraries' progress bars and logs within the block; errors still rise."""
    from transformers.utils import logging as reports

    verbosity, has_bars = reports.get_verbosity(), reports.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")  # it reports each of its five tries
    hub_level = hub.level
    hub.setLevel(logging.CRITICAL)
    reports.set_verbosity(logging.CRITICAL)
    reports.disable_progress_bar()
    try:
        yield
    finally:
        hub.setLevel(hub_level)
        reports.set_verbosity(verbosity)
        if has_bars:
            reports.enable_progress_bar()
