"""bundle.json as `verify` reads it: from another machine, so nothing in it is taken for granted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilebert_kit.android.manifest import NAME, SCHEMA_VERSION
from mobilebert_kit.errors import InputError
from mobilebert_kit.json_files import read_json_object


@dataclass(frozen=True)
class Model:
    """A model of a bundle, as `verify` needs it."""

    delegate: str
    file: str
    nodes: int
    delegated_nodes: int
    f1: float
    host_predictions: str


@dataclass(frozen=True)
class Bundle:
    """A bundle.json that was read: what `verify` needs of it.

    Attributes:
        folder: that it lies in; all names are relative to it.
        models: in the order to try them.
        input_names, output_names: of the models, in the order of the files.
        files: {name: sha256}.
    """

    folder: Path
    sequence_length: int
    n_best: int
    max_answer_length: int
    models: tuple[Model, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    questions: int
    questions_sha256: str
    records: str
    groundtruth: str
    float_f1: float
    files: Mapping[str, str]

    def model(self, delegate: str | None) -> Model:
        """That of `delegate`; None: the first to try. InputError where the bundle has none for it."""
        for model in self.models:
            if delegate in (None, model.delegate):
                return model
        raise InputError(
            f"Expected --delegate to be of {', '.join(m.delegate for m in self.models)}, those of the "
            f"bundle, got {delegate!r}."
        )


def read_bundle(path: str | Path) -> Bundle:
    """The bundle.json at `path`, or in the folder `path`.

    Raises:
        InputError: no such file, no such manifest, one of a newer schema, or one that lacks a key.
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    manifest = read_json_object(path, "the manifest of a bundle (bundle.json)")
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION or "models" not in manifest:
        raise InputError(
            f"Expected a bundle.json of schema version {SCHEMA_VERSION}, got {version!r}"
            f"{'' if 'models' in manifest else ' and no models'} in {path}. A newer one wants a newer kit; "
            "an export's manifest.json is another file."
        )
    try:
        evaluation, answers = manifest["evaluation"], manifest["host_predictions"]
        return Bundle(
            folder=path.parent,
            sequence_length=_whole(manifest["sequence_length"]),
            n_best=_whole(manifest["n_best"]),
            max_answer_length=_whole(manifest["max_answer_length"]),
            models=tuple(
                Model(
                    delegate=str(model["delegate"]),
                    file=_name(model["file"]),
                    nodes=_whole(model["nodes"]),
                    delegated_nodes=_whole(model["delegated_nodes"]),
                    f1=float(model["f1"]),
                    host_predictions=_name(answers[model["delegate"]]),
                )
                for model in manifest["models"]
            ),
            input_names=tuple(str(tensor["name"]) for tensor in manifest["inputs"]),
            output_names=tuple(str(tensor["name"]) for tensor in manifest["outputs"]),
            questions=_whole(evaluation["questions"]),
            questions_sha256=str(evaluation["questions_sha256"]),
            records=_name(evaluation["records"]),
            groundtruth=_name(evaluation["groundtruth"]),
            float_f1=float(evaluation["float"]["f1"]),
            files={_name(name): str(entry["sha256"]) for name, entry in manifest["files"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"Expected a bundle.json with all its keys, got {type(error).__name__}: {error} in {path}. "
            "Bundle again, or copy the bundle again."
        ) from error


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"expected a whole number from 1, got {value!r}")
    return value


def _name(value: object) -> str:
    """The name of a file in the bundle: no way out of it."""
    if not isinstance(value, str) or not value or Path(value).is_absolute() or ".." in Path(value).parts:
        raise ValueError(f"expected the name of a file of the bundle, got {value!r}")
    return value
