"""The origin of a run as MLflow records it: the program, the user, the data."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput as MlflowInput


@dataclass(frozen=True)
class DatasetInput:
    """The data of a run, as MLflow shows them.

    Attributes:
        name: Short name of the data.
        digest: Digest of the content of the data.
        source: Path that the data were read from.
        profile: Counts by name, such as ``num_rows``.
    """

    name: str
    digest: str
    source: str
    profile: Mapping[str, int]

    def for_mlflow(self) -> MlflowInput:
        """MLflow's own entity of this dataset."""
        from mlflow.entities import Dataset, InputTag
        from mlflow.entities import DatasetInput as MlflowInput

        dataset = Dataset(
            name=self.name,
            digest=self.digest,
            source_type="local",
            source=json.dumps({"uri": self.source}),
            profile=json.dumps(dict(self.profile)),
        )
        return MlflowInput(dataset, [InputTag("mlflow.data.context", "cross-validation")])


def context_tags() -> dict[str, str]:
    """The tags that MLflow itself gives a run: user, program, git commit."""
    from mlflow.tracking.context.default_context import DefaultRunContext
    from mlflow.tracking.context.registry import resolve_tags

    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user whom this system has no name for
        # MLflow would warn, and leave out the program as well.
        known = {
            "mlflow.user": "unknown",
            "mlflow.source.name": sys.argv[0] or "<console>",
            "mlflow.source.type": "LOCAL",
        }
        # Classes, whatever MLflow's annotation says.
        return {**known, **resolve_tags(ignore=[DefaultRunContext])}  # type: ignore[list-item]
    return dict(resolve_tags())
