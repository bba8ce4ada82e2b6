"""The delegates by name, each with the level that it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from mobilebert_kit.delegates.gpu import check_gpu
from mobilebert_kit.delegates.nnapi import check_nnapi, nnapi_level
from mobilebert_kit.delegates.report import Report
from mobilebert_kit.delegates.tflite_file import Model
from mobilebert_kit.delegates.xnnpack import check_xnnpack

DEFAULT_API_LEVEL = 30  # Android 11, the first with signed int8
_CHECKS = {"gpu": check_gpu, "nnapi": check_nnapi, "xnnpack": check_xnnpack}
DELEGATES = tuple(_CHECKS)


@dataclass(frozen=True)
class Delegate:
    """A delegate at a level.

    Attributes:
        name: of DELEGATES.
        api_level, feature_level: for nnapi alone; a feature level stands above an API level. InputError for
            levels that do not exist.
    """

    name: str
    api_level: int | None = None
    feature_level: int | None = None

    def __post_init__(self) -> None:
        if self.name == "nnapi":
            nnapi_level(self.api_level or DEFAULT_API_LEVEL, self.feature_level)

    def check(self, model: Model, subgraph: int = 0) -> Report:
        """What the delegate says of each node of one subgraph."""
        return _CHECKS[self.name](model, subgraph=subgraph, **self._levels())

    def _levels(self) -> dict[str, int | None]:
        if self.name != "nnapi":
            return {}
        return {"api_level": self.api_level or DEFAULT_API_LEVEL, "feature_level": self.feature_level}

    def __str__(self) -> str:
        if self.name != "nnapi":
            return {"gpu": "GPU", "xnnpack": "XNNPACK"}[self.name]
        if self.feature_level is not None:
            return f"NNAPI, feature level {self.feature_level}"
        return f"NNAPI, API {self.api_level or DEFAULT_API_LEVEL}"
