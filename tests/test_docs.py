"""The pages under docs/: complete, linked, and true of the files and commands that they describe."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from small_export import LENGTH

from mobilebert_kit.delegates import read_tflite
from mobilebert_kit.targets import TARGETS, TARGETS_WITH_EXTRAS, Target

DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LENGTH_IN_DOCS = 384
EACH_TARGET = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


def page(target: Target) -> str:
    return (DOCS / f"{target.name}.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    """The targets of the Markdown links that lead to files, without what follows a #."""
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link.partition("#")[0] for link in found if not re.match(r"[a-z]+:|#", link)]


def check(*arguments: object) -> str:
    """What the checker prints."""
    command = [sys.executable, "-m", "mobilebert_kit.check", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600).stdout


SNIPPETS = [
    pytest.param(path, code, id=f"{path.stem}-{number}")
    for path in PAGES
    for number, code in enumerate(blocks(path.read_text(encoding="utf-8"), "python"))
]


@EACH_TARGET
def test_every_target_has_a_page(target: Target) -> None:
    text = page(target)
    assert target.file_for(LENGTH_IN_DOCS) in text
    assert f"`{target.recipe.name}`" in text
    assert f"mobilebert_kit.export --target {target.name}" in text
    assert f"{target.name}.md" in links((DOCS / "README.md").read_text(encoding="utf-8"))
    assert blocks(text, "kotlin")
    assert len(blocks(text, "python")) >= 2  # with the kit, and without


@EACH_TARGET
def test_the_ops_of_a_page_are_those_of_the_file(target: Target, exported: Path) -> None:
    """The page counts the full-size file's; the small one has the same kinds."""
    stated = re.search(r"Ops of the full-size file \((\d+) nodes\):(.*?)\.", page(target), re.DOTALL)
    assert stated is not None
    counts = {op: int(count) for op, count in re.findall(r"([A-Z][A-Z0-9_]+)\s+(\d+)", stated[2])}
    assert sum(counts.values()) == int(stated[1])
    small = read_tflite(exported / "all" / target.file_for(LENGTH)).main
    kinds = {node.op for node in small.nodes}
    # The converter leaves small tables as float32, which then need no DEQUANTIZE.
    assert kinds <= set(counts) <= kinds | ({"DEQUANTIZE"} if target.recipe.name == "w8_dynamic" else set())


@EACH_TARGET
def test_size_and_nodes_are_the_measured_ones(target: Target) -> None:
    measured = json.loads((REPOSITORY / "tools/results/export.json").read_text(encoding="utf-8"))["results"]
    for row in measured:
        if row["target"] == target.name:
            assert f"({row['nodes']} nodes)" in page(target)
            assert f"size, full size | {row['file_bytes'] / 1e6:.1f} MB" in page(target)


@EACH_TARGET
def test_latencies_are_the_measured_ones(target: Target) -> None:
    measured = json.loads((REPOSITORY / "tools/results/latency.json").read_text(encoding="utf-8"))["results"]
    medians = {row["threads"]: row["median_ms"] for row in measured if row["model"] == target.name}
    if medians:
        assert f"| {medians[1]:.1f} / {medians[2]:.1f} ms" in page(target)


@pytest.mark.parametrize("path", [*PAGES, REPOSITORY / "README.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    missing = [link for link in links(path.read_text(encoding="utf-8")) if not (path.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_page_is_linked_from_the_index(path: Path) -> None:
    assert path.name in [*links((DOCS / "README.md").read_text(encoding="utf-8")), "README.md"]


@pytest.mark.parametrize(("path", "code"), SNIPPETS)
def test_snippets_compile(path: Path, code: str) -> None:
    compile(code, f"{path.name}", "exec")


@pytest.mark.parametrize(
    ("path", "code"), [item for item in SNIPPETS if "compiled_model" not in item.values[1]]
)
def test_snippets_run(path: Path, code: str, exported: Path) -> None:
    """On the small export's files. Those of the GPU accelerator are compiled only: they want a driver."""
    assert f"android_assets/{path.stem}/" in code
    code = code.replace(f"android_assets/{path.stem}/", f"{exported / 'all'}{os.sep}")
    code = code.replace(f"_{LENGTH_IN_DOCS}", f"_{LENGTH}")
    first = json.loads((exported / "questions.json").read_text(encoding="utf-8"))["data"][0]["paragraphs"][0]
    asked = f'Question("id", "{first["qas"][0]["question"]}", "{first["context"]}", '
    code, from_text = re.subn(r'Question\("id", "[^"]*", "[^"]*", ', lambda _: asked, code)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, path.name, "exec"), {})
    answer = first["qas"][0]["answers"][0]["text"]  # the float model's, by the export's own evaluation
    expected = answer if from_text else f"(1, {LENGTH}) (1, {LENGTH})"
    assert printed.getvalue().strip() == expected


def test_flags_of_the_checker() -> None:
    """Every flag that the page names is one of the checker's, and the other way round."""
    text = re.sub(r"--target (\w+)", "", (DOCS / "check.md").read_text(encoding="utf-8"))
    defined = set(re.findall(r"^\s+--(?:\[no\])?(\w+):", check("--help"), re.MULTILINE))
    assert defined
    assert set(re.findall(r"--(\w+)", text)) == defined


def test_targets_that_fixes_name() -> None:
    for path in PAGES:
        named = re.findall(r"--target ([a-z]\w*)", path.read_text(encoding="utf-8"))
        assert set(named) <= {*TARGETS_WITH_EXTRAS, "all", "list"}, path.name


def test_keys_of_the_json_form(exported: Path) -> None:
    """The example on the page has all keys of the real thing, and no others."""
    [example] = blocks((DOCS / "check.md").read_text(encoding="utf-8"), "json")
    stated = json.loads(example)
    model = exported / "all" / TARGETS["float"].file_for(LENGTH)
    real = json.loads(check(model, "--delegate", "gpu", "--json"))
    assert set(stated) == set(real)
    assert set(stated["reports"][0]) == set(real["reports"][0])
    assert set(stated["reports"][0]["nodes"][0]) == set(real["reports"][0]["nodes"][0])
