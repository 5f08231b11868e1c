"""The encoders that `studies.encoders` compares: spectrogram, picture, network and features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qwave.audio import Encoder, make_encoder
from qwave.audio.lite import Features, efficientnet_lite_encoder
from qwave.audio.logmel import LogMel
from qwave.audio.picture import Picture


def _lite(
    network: str = "efficientnet-lite0",
    *,
    size: tuple[int, int] = (224, 512),
    features: Features = "head",
    n_windows: int = 1,
    **settings: Any,
) -> Callable[[], Encoder]:
    """A function that makes the encoder when it is called."""

    def make() -> Encoder:
        return efficientnet_lite_encoder(
            network,
            settings=LogMel(**settings),
            picture=Picture(*size),
            features=features,
            n_windows=n_windows,
        )

    return make


_LAST: Features = "last_block"
VARIANTS: dict[str, Callable[[], Encoder]] = {
    "logmel": lambda: make_encoder("logmel"),
    "lite0": _lite(),
    "lite0, last block": _lite(features=_LAST),
    "lite0, 2 windows": _lite(n_windows=2),
    "lite0, 64 bands": _lite(n_mels=64),
    "lite0, 10 ms window": _lite(win_length=320),
    "lite0, 64 ms window": _lite(win_length=2048),
    "lite0, 5 ms hop": _lite(hop_length=160),
    "lite0, 100 dB": _lite(top_db=100.0),
    "lite0, 60 dB": _lite(top_db=60.0),
    "lite0, 60 dB, last block": _lite(top_db=60.0, features=_LAST),
    "lite0, 288x640": _lite(size=(288, 640)),
    "lite0, 160x384": _lite(size=(160, 384)),
    "lite0, 128x256": _lite(size=(128, 256)),
    "lite0, 128x384, 60 dB": _lite(size=(128, 384), top_db=60.0),
    "lite0, 128x384, 60 dB, last block": _lite(size=(128, 384), top_db=60.0, features=_LAST),
    "lite0, 128x256, 60 dB": _lite(size=(128, 256), top_db=60.0),
    "lite0, 128x256, 60 dB, last block": _lite(size=(128, 256), top_db=60.0, features=_LAST),
    "lite0, 96x256, 60 dB, last block": _lite(size=(96, 256), top_db=60.0, features=_LAST),
    "lite1": _lite("efficientnet-lite1"),
    "lite1, 128x256, 60 dB": _lite("efficientnet-lite1", size=(128, 256), top_db=60.0),
    "lite2": _lite("efficientnet-lite2"),
    "lite2, 128x256, 60 dB": _lite("efficientnet-lite2", size=(128, 256), top_db=60.0),
}
