"""report.html: its numbers are the manifest's, any text is text in it, and a browser has nothing to say."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
import small_export
from chromium import BROWSER, Page, chromium_page
from conftest import _absent

from mobilebert_kit.html_page import document
from mobilebert_kit.quantize.layer_errors import LayerError
from mobilebert_kit.report import latency
from mobilebert_kit.report.answers import compare_answers, word_differences
from mobilebert_kit.report.evidence import Evidence
from mobilebert_kit.report.latency import Latency, Timing, measure_latency
from mobilebert_kit.report.page import page
from mobilebert_kit.targets import TARGETS

HOSTILE = "<script>console.error('ran')</script><img src=http://127.0.0.1:9/x> \u202e & \"quoted\""
SECTIONS = [
    "Against float",
    "Targets",
    "Delegates",
    "Largest quantization errors by layer",
    "Headroom in float16",
    "Answers",
    "Where this comes from",
]


def section_of(text: str, title: str) -> str:
    """The HTML of one section."""
    return text.partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]


def rows_of(html: str) -> dict[str, list[str]]:
    """The rows of a section's tables by their first cell, up to a line break: all cells as text."""
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    texts = [[unescape(re.sub(r"<br>.*|<[^>]*>", "", cell)) for cell in row] for row in rows if row]
    return {row[0]: row for row in texts}


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def report_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


# What is in it


def test_scores_and_sizes_are_the_manifests(exported: Path) -> None:
    folder = exported / "all"
    rows = rows_of(section_of(report_of(folder), "Targets"))
    for name, target in manifest_of(folder)["targets"].items():
        _, file, *numbers = rows[name]
        assert file == target["file"]
        keys = (target["exact_match"], target["f1"], target["f1_drop"])
        assert numbers[:4] == [*(f"{value:.2f}" for value in keys), f"{target['bytes'] / 1e6:.1f}"]


def test_delegates_and_headroom_are_the_manifests(exported: Path) -> None:
    folder = exported / "all"
    text, targets = report_of(folder), manifest_of(folder)["targets"]
    delegates = rows_of(section_of(text, "Delegates"))
    half = rows_of(section_of(text, "Headroom in float16"))
    for name, target in targets.items():
        assert delegates[name][1] == target["delegate"]
        assert delegates[name][3] == f"{target['delegated_nodes']} of {target['nodes']}"
        left = sum(int(count) for count in re.findall(r"(\d+) [A-Z]", delegates[name][5]))
        assert left == target["nodes"] - target["delegated_nodes"]
    gpu = {name for name, target in targets.items() if "fp16_headroom" in target}
    assert set(half) == gpu
    for name in gpu:
        room = targets[name]["fp16_headroom"]
        assert half[name][1:3] == [f"{room['headroom']:g} x", f"{room['largest']:g} {room['tensor']}"]


def test_provenance_is_the_manifests(exported: Path) -> None:
    folder = exported / "all"
    manifest, provenance = manifest_of(folder), section_of(report_of(folder), "Where this comes from")
    files = {name: entry for name, entry in manifest["files"].items() if name != "report.html"}
    assert all(rows_of(provenance)[name][2] == entry["sha256"] for name, entry in files.items())
    for data in ("calibration", "evaluation"):
        assert manifest[data]["questions_sha256"] in provenance
    assert manifest["checkpoint"]["sha256_of_tensors"] in provenance
    assert all(f"{name} {number}" in provenance for name, number in manifest["versions"].items())


def test_every_int8_target_has_its_layers(exported: Path) -> None:
    text = section_of(report_of(exported / "all"), SECTIONS[3])
    quantized = [name for name, target in TARGETS.items() if target.recipe.quantize_activations]
    assert re.findall(r"<summary>(\w+), layer by layer", text) == quantized
    for number in range(small_export.CONFIG.num_hidden_layers):
        assert text.count(f"<td>layer {number}</td>") == len(quantized)


def test_bundle_tells_of_the_files_with_metadata(bundled: Path) -> None:
    bundle = json.loads((bundled / "bundle.json").read_text(encoding="utf-8"))
    text = report_of(bundled)
    listed = rows_of(section_of(text, "Where this comes from"))
    sizes = rows_of(section_of(text, "Targets"))
    for model in bundle["models"]:
        assert listed[model["file"]][1:] == [f"{model['bytes']:,}", model["sha256"]]
    by_file = {row[1]: row[5] for row in sizes.values()}
    assert all(by_file[model["file"]] == f"{model['bytes'] / 1e6:.1f}" for model in bundle["models"])
    assert by_file["not in this folder"]  # float, which the others are compared with


# What it is made of


def evidence(**changes: object) -> Evidence:
    """Of an int8 file without a delegate, on three questions; nothing measured but its time."""
    scores = {"exact_match": 90.0, "f1": 95.0}
    target = {"file": "m.onnx", "recipe": "w8_a8", "status": "for a test", "f1_drop": 0.5, **scores}
    data = {"source": "q.json", "questions": 3, "windows": 3, "questions_sha256": "5" * 64}
    manifest = {
        "command": "",
        "checkpoint": {"format": "x", "parameters": 1, "sha256_of_tensors": "7" * 64, "config": {}},
        "calibration": None,
        "evaluation": {**data, "float": scores, "max_f1_drop": 2.0},
        "targets": {"onnx_qdq": target},
        "files": {"m.onnx": {"bytes": 7, "sha256": "9" * 64}},
        "versions": {"numpy": "1"},
    }
    timing = Timing(5.0, 4.0, 6.0, 0.5)
    asked = small_export.questions()[:3]
    given = {question.id: "red car" for question in asked}
    fields = {
        "manifest": manifest,
        "date": "today",
        "machine": "a CPU",
        "sizes": {"float": 14, "onnx_qdq": 7},
        "latency": Latency(7, None, {"float": timing, "onnx_qdq": timing}),
        "left_to_cpu": {},
        "layer_errors": {},
        "answers": compare_answers(asked, given, {"onnx_qdq": given}),
    }
    return Evidence(**(fields | changes))


def test_what_could_not_be_measured_is_said() -> None:
    text = page(evidence())
    assert re.findall("<h2>(.*?)</h2>", text) == SECTIONS
    assert "not checked: no TFLite delegate" in section_of(text, "Delegates")
    assert "nothing to measure: onnx_qdq" in section_of(text, SECTIONS[3])
    assert "Not measured for onnx_qdq" in section_of(text, "Headroom in float16")
    assert "none: no target needed it" in section_of(text, "Where this comes from")


def test_layers_of_one_target_may_be_missing_in_another() -> None:
    errors = {
        "a": [LayerError("layer 0", 30.0, "t", 20.0), LayerError("head", None, "u", 40.0)],
        "b": [LayerError("layer 1", -3.0, "v", 10.0)],
    }
    rows = rows_of(section_of(page(evidence(layer_errors=errors)), SECTIONS[3]))
    assert rows["layer 0"] == ["layer 0", "30.0", "t", "20.0", "10.0%"]  # 20 dB are a tenth
    assert rows["head"][1:] == ["", "u", "40.0", "1.0%"]
    assert rows["layer 1"][1] == "-3.0"


def hostile() -> Evidence:
    """Markup wherever a text comes from a file or a flag."""
    honest = evidence()
    manifest = copy.deepcopy(honest.manifest)
    manifest["command"] = f"export --eval '{HOSTILE}' \udcff"  # an argument that was no UTF-8
    manifest["evaluation"]["source"] = manifest["targets"]["onnx_qdq"]["file"] = HOSTILE
    manifest["files"] = {HOSTILE: manifest["files"]["m.onnx"]}
    asked = [replace(small_export.questions()[0], question=HOSTILE, answers=(HOSTILE,))]
    answers = compare_answers(asked, {"q00": HOSTILE}, {"onnx_qdq": {"q00": f"more {HOSTILE}"}})
    return replace(honest, manifest=manifest, machine=HOSTILE, answers=answers)


def test_hostile_text_is_escaped() -> None:
    text = page(hostile())
    assert "<script" not in text and "<img" not in text
    assert text.count("&lt;script&gt;") >= 8


def test_words_that_differ_are_marked() -> None:
    asked = small_export.questions()[:1]
    answers = compare_answers(
        asked, {"q00": "the red car"}, {"a": {"q00": "red car in Paris"}, "b": {"q00": "the red car"}}
    )
    text = section_of(page(evidence(answers=answers)), "Answers")
    assert "<del>the</del> red car <mark>in Paris</mark>" in text
    assert "<span>b</span>the same" in text


@pytest.mark.parametrize(
    ("answer", "reference", "pieces"),
    [
        ("a b", "a b", [("same", "a b")]),
        ("a  b", "a b", [("same", "a b")]),
        ("x b", "a b", [("missing", "a"), ("added", "x"), ("same", "b")]),
        ("", "a b", [("missing", "a b")]),
        ("a", "", [("added", "a")]),
        ("", "", []),
        ("A", "a", [("missing", "a"), ("added", "A")]),
    ],
)
def test_word_differences(answer: str, reference: str, pieces: list[tuple[str, str]]) -> None:
    assert word_differences(answer, reference) == pieces


def test_questions_that_differ_come_first_and_are_spread() -> None:
    asked = [replace(small_export.questions()[0], id=str(number)) for number in range(40)]
    reference = {question.id: question.id for question in asked}
    others = {str(number): "other" for number in range(10, 40)}
    found = compare_answers(asked, reference, {"a": reference | others, "b": reference})
    assert (found.questions, found.differ, found.differ_by_target) == (40, 30, {"a": 30, "b": 0})
    assert [shown.reference for shown in found.shown] == [str(number) for number in range(10, 40, 3)]
    few = compare_answers(asked, reference, {"a": reference | {"39": "other"}})
    assert [shown.reference for shown in few.shown] == ["39", *map(str, range(9))]


def test_latency_is_of_turns_and_the_first_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that gets slower from turn to turn: the ratio stays, for it is of the same turn."""
    clock = itertools.count()
    now, ran = [0.0], []

    class Engine:
        def __init__(self, path: str, threads: int):
            self.path, self.inputs = path, {}
            assert threads == 1

        def run(self) -> None:
            turn = next(clock) // 2
            ran.append(self.path)
            slow = 100.0 if turn == 0 else turn
            now[0] += 1e-3 * slow * {"float": 10, "int8": 4}[self.path]

    monkeypatch.setattr(latency, "open_engine", Engine)
    monkeypatch.setattr(latency.time, "process_time", lambda: now[0])
    found = measure_latency({"float": "float", "int8": "int8"}, "float", small_export.windows()[:2], runs=3)
    assert ran == ["float", "int8"] * 4
    assert found.timings["int8"].ratio == pytest.approx(0.4)
    timing = found.timings["float"]
    assert (timing.fastest, timing.median, timing.slowest) == pytest.approx((10, 20, 30))


def test_layer_errors_are_those_of_the_whole_measurement() -> None:
    """`measure_noise` has another way there: one graph, in which switches turn the rounding on and off."""
    from quant_case import Case

    from mobilebert_kit.quantize.groups import layer_of
    from mobilebert_kit.quantize.layer_errors import layer_errors, layer_results
    from mobilebert_kit.quantize.sqnr import decibels, kernel_noise, measure_noise

    case = Case(TARGETS["nnapi"])
    windows = case.arrays[:2]
    found = layer_errors(case.build, case.simulation, case.weights, case.rounded, windows)
    errors = {error.place: error for error in found}
    noise = measure_noise(case.simulation, windows)
    results = layer_results(noise, small_export.CONFIG.num_hidden_layers)
    every = noise | kernel_noise(case.weights, case.rounded)
    for layer, result in enumerate(results):
        error = errors[f"layer {layer}"]
        # Float sums in another order: 0.01 dB are 0.2 % of the noise.
        assert error.result_db == pytest.approx(decibels(noise[result].signal, noise[result].after), abs=0.01)
        own = {name: decibels(n.signal, n.own) for name, n in every.items() if layer_of(name) == layer}
        worst = min(value for value in own.values() if value is not None)
        assert error.own_db == pytest.approx(worst, abs=0.01) == own[error.tensor]
    assert next(iter(errors)) == "embeddings" and errors["head"].result_db is not None


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if BROWSER is None:
        _absent("no Chromium: install chromium (Debian)")
    with chromium_page(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("width", [400, 1400])
def test_browser_shows_it_without_complaint(browser: Page, exported: Path, width: int) -> None:
    path = exported / "all" / "report.html"
    assert path.stat().st_size < 2e6
    browser.logged.clear()
    browser.requests.clear()
    browser.open(path, width)
    assert browser.ask("document.documentElement.scrollWidth") <= width  # only tables scroll, in their boxes
    assert browser.ask("[...document.querySelectorAll('h2')].map(title => title.innerText)") == SECTIONS
    assert (browser.logged, browser.requests) == ([], [path.resolve().as_uri()])


def test_browser_shows_hostile_text_as_text(browser: Page, tmp_path: Path) -> None:
    from mobilebert_kit.report.page import write_page

    write_page(tmp_path, hostile())
    browser.logged.clear()
    browser.requests.clear()
    browser.open(tmp_path / "report.html", 400)
    assert browser.ask("document.querySelector('.question b').innerText") == HOSTILE
    assert browser.ask("document.documentElement.scrollWidth") <= 400
    assert (browser.logged, browser.requests) == ([], [(tmp_path / "report.html").as_uri()])


def test_policy_holds_where_a_text_were_not_escaped(browser: Page, tmp_path: Path) -> None:
    """And the browser's complaints are seen, so that none is news."""
    path = tmp_path / "page.html"
    path.write_text(document("t", "", f"{HOSTILE}<script>document.title = 'changed'</script>"))
    browser.logged.clear()
    browser.open(path, 400)
    assert browser.ask("document.title") == "t"
    assert any("Content Security Policy" in message for message in browser.logged)
    path.write_text("<script>console.error('seen')</script><img src=missing.png>")
    browser.open(path, 400)
    assert any("seen" in message for message in browser.logged)
    assert any(address.endswith("missing.png") for address in browser.requests)
