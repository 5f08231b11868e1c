"""The data of a finished search, read again and compared with what the search was given."""

from __future__ import annotations

from typing import NamedTuple

from qwave.audio import open_data
from qwave.config import AudioError, DataError, TrialConfig
from qwave.data import EmbeddingSet, leave_out

# What helps where the rows of a search are not found where they were.
DATA_ADVICE = (
    "if these rows lie elsewhere now, give the search their place, by its command with "
    "data.path=PLACE: it keeps its trials, and then this command works too"
)


class SearchedData(NamedTuple):
    """The data of a search.

    Attributes:
        full: All rows of the file.
        searched: Rows that trials were given: all but those of `data.holdout_fold`.
    """

    full: EmbeddingSet
    searched: EmbeddingSet


def load_searched(config: TrialConfig, sweep_name: str, data_digest: str) -> SearchedData:
    """The data that a configuration was searched on.

    Args:
        config: Configuration of any trial of the search.
        sweep_name: Name of the search, for messages.
        data_digest: Digest of the rows that trials were given.

    Raises:
        DataError: The file is gone, cannot be read, or has changed since the search.
    """
    path = config.data.path
    try:
        full = open_data(path, config.data.encoder, config.data.feature_columns)
        searched = leave_out(full, config.data.holdout_fold)
    except (AudioError, DataError) as error:
        raise DataError(
            f"{error}; the sweep {sweep_name!r} was searched on rows of {path} whose digest is "
            f"{data_digest}: put the file back; {DATA_ADVICE}"
        ) from error
    if searched.digest != data_digest:
        raise DataError(
            f"{path} has changed since the search: the digest of its rows was "
            f"{data_digest} and is {searched.digest}; put the old file back, or search "
            "again"
        )
    return SearchedData(full, searched)
