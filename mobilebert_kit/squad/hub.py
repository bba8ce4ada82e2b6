"""A dataset by name from the Hugging Face hub, without ever waiting for a network that is not there.

The `datasets` library retries an unreachable hub for half a minute a request. So the hub is called on
once, for 5 seconds at most, before the library is imported: without an answer the library works offline,
which still finds a dataset in its cache.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from mobilebert_kit.errors import InputError

_CONNECT_SECONDS = 5.0
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def rows(name: str, split: str) -> Iterator[dict[str, Any]]:
    """The rows of `name`'s `split`: dicts with id, title, context, question and answers {text, answer_start}.

    Raises:
        InputError: `datasets` is not installed, the hub is out of reach and the dataset not in the cache,
            there is no such dataset or split, or it has other columns.
    """
    if not _offline() and not _reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "10")  # seconds
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "30")
    advice = "Name a local SQuAD v1.1 JSON file instead"
    try:
        import datasets
        import huggingface_hub
    except ImportError as error:
        raise InputError(
            f"Expected a file, or the `datasets` library for the dataset named {name!r}, got neither "
            f"({error}). {advice}, or install datasets."
        ) from error
    if _offline():
        # The variable is read once, at import, which may have been before.
        datasets.config.HF_HUB_OFFLINE = True
        huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        dataset = datasets.load_dataset(name, split=split)
    except (
        OSError,
        ValueError,
    ) as error:  # also what the library and its HTTP client raise: all are OSErrors
        state = " (offline)" if _offline() else ""
        raise InputError(
            f"Expected a file, or a dataset named {name!r} with a split {split!r}, got neither{state}: "
            f"{error}. {advice}, or connect to the hub."
        ) from error
    missing = {"id", "context", "question", "answers"} - set(dataset.column_names)
    if missing:
        raise InputError(f"Expected SQuAD v1.1's columns, got {name!r} without {', '.join(sorted(missing))}.")
    yield from dataset


def _offline() -> bool:
    return any(
        os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE")
        for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    )


def _reachable(endpoint: str) -> bool:
    """Does the hub answer? With a proxy nobody can tell from here, so the library may try."""
    if any(os.environ.get(variable) for variable in _PROXIES):
        return True
    parts = urlsplit(endpoint)
    answered = threading.Event()

    def connect() -> None:
        try:
            address = (parts.hostname or "", parts.port or 443)
            with socket.create_connection(address, timeout=_CONNECT_SECONDS):
                answered.set()
        except OSError:
            pass  # not reachable: what the unset event says

    # In a thread, since looking up a name has no timeout of its own.
    probe = threading.Thread(target=connect, daemon=True)
    probe.start()
    probe.join(_CONNECT_SECONDS)
    return answered.is_set()
