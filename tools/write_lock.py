"""Writes constraints-<python>.txt from pip's installation report: `make lock` calls it.

    python tools/write_lock.py report.json        # of pip install --dry-run --ignore-installed --report

The file's name comes from the Python that the report was made for.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

PROJECT = "mobilebert_kit"


def locked_versions(report: dict) -> dict[str, str]:
    """{normalized name: version} of everything that pip would install, without the project itself.

    Local versions go (torch 2.13.0+cpu -> 2.13.0): `==2.13.0` admits both the CPU and the CUDA build.
    Raises ValueError for a package without a wheel: installing must need no compiler.
    """
    versions = {}
    for item in report["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()  # PEP 503
        if name == PROJECT.replace("_", "-"):
            continue
        url = item["download_info"]["url"]
        if not url.endswith(".whl"):
            raise ValueError(f"expected a wheel for {name}, got {url}; pin a version that has one")
        versions[name] = item["metadata"]["version"].split("+")[0]
    return versions


def main(report_path: str) -> None:
    report = json.loads(Path(report_path).read_text(encoding="utf-8"))
    python = report["environment"]["python_version"]
    lines = [f"{name}=={version}\n" for name, version in sorted(locked_versions(report).items())]
    target = Path(f"constraints-{python}.txt")
    header = f"# All extras of pyproject.toml, resolved for Python {python} by `make lock`.\n"
    target.write_text(header + "".join(lines), encoding="utf-8")
    sys.stdout.write(f"{target}: {len(lines)} packages\n")


if __name__ == "__main__":
    main(sys.argv[1])
