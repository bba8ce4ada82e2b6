"""The lock files agree with pyproject.toml, and the lock's writer drops what must not be in one."""

from __future__ import annotations

import sys

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.write_lock import locked_versions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest's own dependency there

HEAVY = {"tensorflow", "tf-keras", "tensorflow-model-optimization", "torch", "transformers", "datasets"}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked(python: str) -> dict[str, str]:
    lines = (REPOSITORY / f"constraints-{python}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("python", ["3.10", "3.11"])
def test_every_requirement_is_locked_within_its_range(project: dict, python: str) -> None:
    versions = locked(python)
    extras = project["optional-dependencies"].values()
    asked = [Requirement(text) for group in [project["dependencies"], *extras] for text in group]
    environment = {"python_version": python, "sys_platform": "linux"}
    for requirement in asked:
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate(environment)
        if name == "mobilebert-kit" or not wanted:
            continue
        assert requirement.specifier.contains(versions[name]), f"{requirement} is locked at {versions[name]}"


def test_evaluating_asks_for_nothing_heavy(project: dict) -> None:
    asked = [*project["dependencies"], *project["optional-dependencies"]["runtime"]]
    names = [canonicalize_name(Requirement(text).name) for text in asked]
    assert HEAVY.isdisjoint(names)


def installation(name: str, version: str, file: str) -> dict:
    return {
        "metadata": {"name": name, "version": version},
        "download_info": {"url": f"https://example.org/{file}"},
    }


def test_lock_holds_public_versions_of_normalized_names_without_the_project() -> None:
    report = {
        "install": [
            installation("torch", "2.13.0+cpu", "torch-2.13.0%2Bcpu-cp311.whl"),
            installation("backports.strenum", "1.2.8", "backports_strenum-1.2.8-py3-none-any.whl"),
            installation("mobilebert_kit", "0.1.0", "mobilebert_kit"),
        ]
    }
    assert locked_versions(report) == {"torch": "2.13.0", "backports-strenum": "1.2.8"}


def test_lock_refuses_a_package_that_must_be_compiled() -> None:
    with pytest.raises(ValueError, match="expected a wheel for slow"):
        locked_versions({"install": [installation("slow", "1.0", "slow-1.0.tar.gz")]})
