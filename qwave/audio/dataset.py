"""The data of a study: embeddings as they are, or clips, which are embedded first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qwave.audio.sources import is_source
from qwave.config import DataConfig, DataError
from qwave.data import EmbeddingSet, load_embeddings
from qwave.text import for_shell


def open_data(
    path: str,
    encoder: str | None = None,
    feature_columns: Sequence[str] | str | None = None,
    *,
    split: DataConfig | None = None,
) -> EmbeddingSet:
    """The embeddings that ``data.path`` names.

    Args:
        path: ``esc10``, a file of embeddings, or clips: a folder, or a table of their paths and
            labels. Clips are embedded by `embed_source`, or found in its cache.
        encoder: Encoder of the clips, as `make_encoder` takes it; None: the default encoder. For
            a file of embeddings, the encoder that the file must name; a folder of weights behind
            the name is not compared.
        feature_columns: Features of a table of embeddings, as `load_embeddings` takes them.
        split: How the rows will be split; clips that cannot be split so are refused before they
            are embedded. Embeddings are not checked here.

    Raises:
        DataError: The file cannot be used, or another encoder made it; the clips cannot be split;
            or feature columns are given for something other than a table of embeddings.
        AudioError: The clips cannot be embedded.
    """
    source = Path(path)
    if path != "esc10" and is_source(source):
        if feature_columns is not None:
            raise DataError(
                f"data.feature_columns names columns of a table of embeddings, but {path} holds "
                "clips, whose features an encoder makes; leave data.feature_columns out"
            )
        # Imported here: embeddings need no encoder.
        from qwave.audio.embed import embed_source
        from qwave.audio.encoders import DEFAULT_ENCODER

        return embed_source(source, encoder=encoder or DEFAULT_ENCODER, split=split).data
    data = load_embeddings(path, feature_columns=feature_columns)
    if encoder is not None:
        _require_encoder(data, path, encoder)
    return data


def _require_encoder(data: EmbeddingSet, path: str, encoder: str) -> None:
    name, made_by = encoder.split(":")[0], data.encoder.split("@")[0]
    if not made_by:
        raise DataError(
            f"data.encoder={encoder}, but {path} does not say which encoder made its rows; leave "
            "data.encoder out, or embed the clips again with `qwave embed`"
        )
    if name != made_by:
        again = for_shell("qwave", "embed", "--encoder", encoder)
        raise DataError(
            f"data.encoder={encoder}, but the rows of {path} were made by {data.encoder}; leave "
            f"data.encoder out, or embed the clips again with `{again}`"
        )
