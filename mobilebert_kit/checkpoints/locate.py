"""What kind of checkpoint a path is, before anything of it is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mobilebert_kit.checkpoints.huggingface import OTHER_WEIGHT_FILES, WEIGHT_FILES
from mobilebert_kit.errors import InputError

ACCEPTED = (
    "a TF1 checkpoint (prefix or directory), a SavedModel directory, or a Hugging Face directory with "
    "config.json "
    "and model.safetensors or pytorch_model.bin"
)
_PART = re.compile(r"(.+)\.(index|meta|data-[0-9]{5}-of-[0-9]{5})")


@dataclass(frozen=True)
class Place:
    """`path` is a directory for "huggingface", otherwise the prefix of an existing `.index`."""

    format: str
    path: Path
    vocab_directories: tuple[Path, ...]
    config_directories: tuple[Path, ...]
    graph: Path | None = None


def locate(path: Path) -> Place:
    """Raises InputError where `path` is no checkpoint, or may be more than one."""
    if path.is_dir():
        return _directory(path)
    if path.is_file() and (match := _PART.fullmatch(path.name)):
        path = path.with_name(match[1])
    if _index(path).is_file():
        return _tf1(path)
    if path.is_file():
        beside = path.name in WEIGHT_FILES or path.name in ("config.json", "saved_model.pb")
        hint = f" Give its directory: {path.parent}" if beside else ""
        raise InputError(f"Expected {ACCEPTED}, got another kind of file: {path}.{hint}")
    if path.exists():
        raise InputError(f"Expected {ACCEPTED}, got neither a file nor a directory: {path}.")
    raise InputError(f"Expected {ACCEPTED}, got nothing at {path}. Check the path.")


def _directory(path: Path) -> Place:
    huggingface = [name for name in WEIGHT_FILES + OTHER_WEIGHT_FILES if (path / name).is_file()]
    saved_model = (path / "saved_model.pb").is_file() or _index(path / "variables" / "variables").is_file()
    prefixes = sorted(str(p)[: -len(".index")] for p in path.glob("*.index") if p.is_file())
    kinds = {"Hugging Face": huggingface, "SavedModel": saved_model, "TF1": prefixes}
    if sum(map(bool, kinds.values())) > 1:
        found = [kind for kind, there in kinds.items() if there]
        raise InputError(
            f"Expected one checkpoint in {path}, got {' and '.join(found)}. Give one of them alone."
        )
    if saved_model:
        return _saved_model(path)
    if huggingface or ((path / "config.json").is_file() and not prefixes):
        return Place("huggingface", path, (path,), (path,))
    if path.resolve().name == "variables" and prefixes == [str(path / "variables")]:
        return _saved_model(path.resolve().parent)
    if (path / "checkpoint").is_file():
        return _tf1(_latest(path))
    if len(prefixes) == 1:
        return _tf1(Path(prefixes[0]))
    if prefixes:
        names = ", ".join(Path(prefix).name for prefix in prefixes[:10])
        raise InputError(
            f"Expected one checkpoint in {path}, got {len(prefixes)}: {names}. Give the prefix of one: "
            f"{prefixes[0]}"
        )
    entries = sorted(entry.name for entry in path.iterdir())
    found = f"only {', '.join(entries[:10])}" if entries else "an empty directory"
    raise InputError(f"Expected {ACCEPTED}, got {found} in {path}.")


def _saved_model(path: Path) -> Place:
    prefix, graph = path / "variables" / "variables", path / "saved_model.pb"
    if not _index(prefix).is_file():
        raise InputError(
            f"Expected the variables of the SavedModel {path} in {_index(prefix)}, got no such file. Copy "
            "the whole "
            "directory."
        )
    directories = (path / "assets", path, path / "assets.extra")
    return Place("saved_model", prefix, directories, directories, graph if graph.is_file() else None)


def _tf1(prefix: Path) -> Place:
    return Place("tf1", prefix, (prefix.parent,), (prefix.parent,))


def _latest(path: Path) -> Path:
    """The prefix that the `checkpoint` file names, in its own directory: its folders are the trainer's."""
    text = (path / "checkpoint").read_bytes()[: 2**20].decode("utf-8", "replace")
    match = re.search(r'^\s*model_checkpoint_path:\s*"([^"\n]+)"', text, re.MULTILINE)
    if match is None:
        raise InputError(
            f'Expected a line model_checkpoint_path: "..." in {path / "checkpoint"}, got none. '
            "Give the checkpoint's prefix instead."
        )
    prefix = path / Path(match[1]).name
    if not _index(prefix).is_file():
        raise InputError(
            f"Expected {_index(prefix)}, as {path / 'checkpoint'} says, got no such file. Give the "
            "checkpoint's prefix "
            "instead."
        )
    return prefix


def _index(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")
