"""What every test shares: quiet, offline, CPU-only libraries, and where the data lies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tools.java_cases import Java

REPOSITORY = Path(__file__).resolve().parent.parent

# Read by the libraries when they are first imported, and inherited by the tests' subprocesses.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # the tolerances are argued for CPU kernels
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns after every fork
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks a hub, with or without a network


def _existing(path: Path, remedy: str) -> Path:
    """`path`, or a skip that says what to do; in CI, where nothing may be missing, a failure."""
    if not path.exists():
        _absent(f"{path} does not exist: {remedy}")
    return path


def _absent(message: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the reference data (data/, models/, facts/), beside the checkout or where
    MOBILEBERT_KIT_SHARED says."""
    folder = os.environ.get("MOBILEBERT_KIT_SHARED") or REPOSITORY.parent / "shared"
    return _existing(Path(folder), "put it beside the checkout, or set MOBILEBERT_KIT_SHARED")


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    """The embedded demo checkpoint's folder: config.json, model.safetensors, vocab.txt."""
    return _existing(REPOSITORY / "mobilebert_kit" / "demo_checkpoint", "tools/train_demo.py makes it")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoint/`, `questions.json` (that the float model answers rightly), and `all/`: every
    target and the SavedModel of a small MobileBERT. See small_export.py; for reading only."""
    from small_export import export_all

    return export_all(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for nnapi, gpu and cpu of a small MobileBERT. See small_bundle.py; for reading only."""
    from small_bundle import bundle_all

    return bundle_all(tmp_path_factory.mktemp("bundled"))


@pytest.fixture(scope="session")
def accelerator() -> None:
    """LiteRT's GPU accelerator can compute here: there is a Vulkan driver, a GPU's or SwiftShader's."""
    from mobilebert_kit.runtime.accelerator import find_vulkan_driver

    if find_vulkan_driver() is None:
        _absent("no Vulkan driver: install chromium (Debian), which carries the software driver SwiftShader")


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory) -> Java:
    """The Java code of android_assets/java and its test mains, compiled."""
    from tools.java_cases import Java

    if shutil.which("javac") is None or shutil.which("java") is None:
        _absent("no JDK: install openjdk-17-jdk-headless (Debian) or another one")
    java = Java(tmp_path_factory.mktemp("java"))
    java.compile()
    return java
