"""May a model run that takes no segment_ids? Only where its family has none, as a file beside it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mobilebert_kit.contract import ALIASES, FAMILIES_WITHOUT_SEGMENTS, SEGMENTS
from mobilebert_kit.errors import InputError
from mobilebert_kit.json_files import read_json_object

# Where a model's family may stand, from the model's folder: a checkpoint's or SavedModel's configuration,
# else the manifest of the export, which a SavedModel in it lies a folder below.
_CONFIGS = ("config.json", "assets.extra/config.json")
_MANIFESTS = ("manifest.json", "../manifest.json")


class Bound(Protocol):
    """A model whose inputs are known by name."""

    path: Path
    inputs: Mapping[str, str]  # {the kit's name: the model's own}


def require_segments(models: Sequence[Bound]) -> None:
    """InputError where one of `models` takes no segment_ids that it should get, or takes them and should not.

    Its family tells, by the config.json or manifest.json that lies with it. A file without one goes with the
    other models: where their family has no segments, it may be what that was exported to.
    """
    families = [_family(model.path) for model in models]
    without = next((family for family in families if family in FAMILIES_WITHOUT_SEGMENTS), None)
    for model, family in zip(models, families, strict=True):
        takes = SEGMENTS in model.inputs
        if takes and family in FAMILIES_WITHOUT_SEGMENTS:
            raise InputError(
                f"Expected no input for the segments, for a {family} has none, got {model.inputs[SEGMENTS]} "
                f"in {model.path}. Is the configuration beside it another model's?"
            )
        if not takes and (family or without) not in FAMILIES_WITHOUT_SEGMENTS:
            raise InputError(
                f"Expected an input for the segments ({', '.join(ALIASES[SEGMENTS])}), got only "
                f"{', '.join(model.inputs.values())} in {model.path}: segment_ids would be left out, and the "
                "model would not be told the question from the context. Export it with them. (A "
                f"{' or '.join(FAMILIES_WITHOUT_SEGMENTS)} has none: put its config.json, or its export's "
                "manifest.json, beside the file.)"
            )


def _family(path: Path) -> str | None:
    """The model_type that a configuration or manifest beside the model tells; None where none does."""
    folder = path if path.is_dir() else path.parent
    for name in _CONFIGS:
        if (folder / name).is_file():
            return _model_type(read_json_object(folder / name, "a model's configuration"))
    for name in _MANIFESTS if path.is_dir() else _MANIFESTS[:1]:
        if (folder / name).is_file():
            manifest = read_json_object(folder / name, "a manifest")
            return _model_type(_object(_object(manifest, "checkpoint"), "config"))
    return None


def _model_type(config: Mapping[str, Any]) -> str | None:
    found = config.get("model_type")
    return found if isinstance(found, str) else None


def _object(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object at `key`, an empty one where there is none: another program's manifest is no error."""
    found = parent.get(key)
    return found if isinstance(found, dict) else {}
