"""python -m mobilebert_kit.verify: a bundle's files, and a device's answers against the host's."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from without_tensorflow import run_light

from mobilebert_kit.android.device_answers import read_answers
from mobilebert_kit.android.reading import Bundle, read_bundle
from mobilebert_kit.android.verification import Comparison, check_files, compare, load_evaluation
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.runtime.scoring import run_windows


@pytest.fixture
def copy(bundled: Path, tmp_path: Path) -> Path:
    """A bundle of the test's own."""
    return Path(shutil.copytree(bundled, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def bundle(bundled: Path) -> Bundle:
    return read_bundle(bundled)


@pytest.fixture(scope="module")
def host(bundled: Path) -> dict[str, str]:
    """The host's answers by the nnapi model, the first to try."""
    return read_answers(bundled / "host_predictions/nnapi.json")


def verified(bundle: Bundle, predictions: Path, limit: int | None = None, **more: str) -> Comparison:
    return compare(bundle, predictions, *load_evaluation(bundle, limit=limit), **more)


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


# The files


def check(folder: Path) -> int:
    return check_files(read_bundle(folder / "bundle.json"))


def test_a_flipped_bit_in_any_file_is_found(copy: Path) -> None:
    choose = random.Random(5)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    assert check(copy) == len(files) - 1  # SHA256SUMS itself is the other
    for path in files:
        content = path.read_bytes()
        text = path.name in ("bundle.json", "SHA256SUMS", "manifest.json")
        places = {
            0,
            len(content) // 2,
            len(content) - 1,
            *choose.sample(range(len(content)), 40 if text else 2),
        }
        for place in places:
            damaged = bytearray(content)
            damaged[place] ^= 1 << choose.randrange(8)
            path.write_bytes(damaged)
            with pytest.raises((CheckFailed, InputError)) as caught:
                check(copy)
            # A manifest that is no JSON any more is a bad input, all else is a failed check.
            assert caught.type is CheckFailed or path.name == "bundle.json"
            if not text:
                assert f"{path.relative_to(copy).as_posix()} has changed" in str(caught.value)
        path.write_bytes(content)
    assert check(copy)


def test_missing_files_are_named(copy: Path) -> None:
    (copy / "vocab.txt").unlink()
    (copy / "mlperf/tasks.pbtxt").unlink()
    with pytest.raises(CheckFailed, match=r"mlperf/tasks\.pbtxt is missing; vocab\.txt is missing"):
        check(copy)
    (copy / "SHA256SUMS").unlink()
    with pytest.raises(InputError, match="SHA256SUMS"):
        check(copy)


def test_a_cut_list_of_checksums_is_found(copy: Path) -> None:
    sums = copy / "SHA256SUMS"
    content = sums.read_bytes()
    for cut in (b"", content[:-1], content[:40], content.replace(b"LICENSE\n", b"../LICENSE\n"), content * 2):
        sums.write_bytes(cut)
        with pytest.raises(CheckFailed, match="SHA256SUMS"):
            check(copy)


def test_a_list_without_a_file_of_the_manifest_is_found(copy: Path) -> None:
    lines = (copy / "SHA256SUMS").read_text().splitlines(keepends=True)
    (copy / "SHA256SUMS").write_text("".join(line for line in lines if "vocab.txt" not in line))
    with pytest.raises(CheckFailed, match=r"vocab\.txt"):
        check(copy)


def test_other_files_beside_it_are_nobodys_business(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    assert check(copy)


MANIFESTS: dict[str, tuple[Callable[[dict], object], str]] = {
    "newer": (lambda m: m.update(schema_version=2), "schema version 1, got 2"),
    "an export's": (lambda m: m.pop("models"), "an export's manifest.json is another file"),
    "no length": (lambda m: m.pop("sequence_length"), "'sequence_length'"),
    "no number": (lambda m: m.update(n_best="20"), "whole number"),
    "true": (lambda m: m.update(n_best=True), "whole number"),
    "a way out": (lambda m: m["models"][0].update(file="../x.tflite"), "name of a file of the bundle"),
    "the root": (lambda m: m["evaluation"].update(records="/etc/passwd"), "name of a file of the bundle"),
    "no answers": (lambda m: m.update(host_predictions={}), "nnapi"),
    "a list": (lambda m: m.update(files=[]), "all its keys"),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_manifests_that_are_none(copy: Path, kind: str) -> None:
    change, message = MANIFESTS[kind]
    manifest = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))
    change(manifest)
    write(copy / "bundle.json", manifest)
    with pytest.raises(InputError, match=message):
        read_bundle(copy)


# Answers


def test_the_hosts_own_answers(bundle: Bundle, bundled: Path) -> None:
    found = verified(bundle, bundled / "host_predictions/nnapi.json")
    assert (found.agreement, found.f1_drop, found.differences) == (1.0, 0.0, ())
    assert found.device.f1 == pytest.approx(bundle.models[0].f1, abs=1e-4)


def test_what_differs_is_named_with_its_size(bundle: Bundle, host: dict[str, str], tmp_path: Path) -> None:
    changed = {**host, "q01": "nothing of it", "q12": host["q12"] + " indeed"}
    found = verified(bundle, write(tmp_path / "p.json", changed))
    assert found.agreement == pytest.approx(7 / 9)
    assert [difference.question_id for difference in found.differences] == ["q01", "q12"]
    first, second = found.differences
    assert (first.host, first.device, first.likeness) == (host["q01"], "nothing of it", 0.0)
    # The F1 of one answer with a word too many: precision n / (n + 1), recall 1.
    words = len([word for word in host["q12"].lower().split() if word.isalnum() and word not in ("a", "the")])
    assert second.likeness == pytest.approx(2 * words / (2 * words + 1))
    lost = sum(difference.host_f1 - difference.device_f1 for difference in found.differences)
    assert found.f1_drop == pytest.approx(100 * lost / 9)


def test_another_delegates_answers_are_compared_with_its_own(bundle: Bundle, bundled: Path) -> None:
    found = verified(bundle, bundled / "host_predictions/cpu.json", delegate="cpu")
    assert found.model.file == "mobilebert_int8_96.tflite" and found.agreement == 1.0
    with pytest.raises(InputError, match="nnapi, gpu, cpu"):
        verified(bundle, bundled / "host_predictions/cpu.json", delegate="npu")


PREDICTIONS: dict[str, tuple[Callable[[dict[str, str]], str], str]] = {
    "others": (lambda host: json.dumps({**host, "q99": "x"}), "1 for other questions, the first is q99"),
    "missing": (
        lambda host: json.dumps({k: host[k] for k in host if k != "q11"}),
        "missing, the first is q11",
    ),
    "twice": (lambda host: json.dumps(host)[:-1] + ', "q00": "again"}', "got q00 twice"),
    "n-best": (lambda host: json.dumps({**host, "q00": [{"text": "x"}]}), "An n-best file is another one"),
    "a list": (lambda host: json.dumps(list(host)), "JSON object"),
    "no JSON": (lambda host: json.dumps(host)[:-5], "as JSON"),
    "empty": (lambda host: "{}", "9 missing"),
}


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_predictions_that_are_none(bundle: Bundle, host: dict[str, str], tmp_path: Path, kind: str) -> None:
    make, message = PREDICTIONS[kind]
    (tmp_path / "p.json").write_text(make(host), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        verified(bundle, tmp_path / "p.json")


def test_the_true_answers_of_a_file(bundle: Bundle, bundled: Path, tmp_path: Path) -> None:
    dataset = bundled.parent / "questions.json"
    predictions = bundled / "host_predictions/nnapi.json"
    named = compare(bundle, predictions, *load_evaluation(bundle, str(dataset)))
    assert named.device == verified(bundle, predictions).device
    content = json.loads(dataset.read_text(encoding="utf-8"))
    content["data"][0]["paragraphs"][0]["qas"][0]["question"] += "?"
    with pytest.raises(InputError, match="others"):
        load_evaluation(bundle, str(write(tmp_path / "other.json", content)))


# Logits


@pytest.fixture(scope="module")
def logits(bundle: Bundle, bundled: Path) -> tuple[np.ndarray, list[int]]:
    """What a device's interpreter gives: [windows, outputs, S] in the order of the file, and the windows."""
    _, windows = load_evaluation(bundle)
    start, end = run_windows(bundled / bundle.models[0].file, windows, workers=1, progress=False)
    return np.stack([end, start], axis=1), [window.unique_id for window in windows]


def write_logits(folder: Path, values: np.ndarray, ids: list[int], **changes: object) -> Path:
    folder.mkdir()
    (folder / "logits.bin").write_bytes(values.astype("<f4").tobytes())
    content = {
        "schema_version": 1,
        "delegate": "nnapi",
        "sequence_length": values.shape[-1],
        "outputs": ["end_logits", "start_logits"],
        "unique_ids": ids,
    }
    write(folder / "windows.json", {**content, **changes})
    return folder


def test_logits_give_the_hosts_answers(bundle: Bundle, logits, tmp_path: Path) -> None:
    values, ids = logits
    assert verified(bundle, write_logits(tmp_path / "all", values, ids)).agreement == 1.0
    turned = write_logits(tmp_path / "turned", values[::-1], ids[::-1])  # any order, for the ids tell
    assert verified(bundle, turned).agreement == 1.0
    swapped = write_logits(tmp_path / "swapped", values[:, ::-1], ids)  # start where end should be
    assert verified(bundle, swapped).agreement < 1.0
    few = write_logits(tmp_path / "few", values[:4], ids[:4])
    assert verified(bundle, few, limit=4).questions == 4


def test_logits_that_are_not_numbers(bundle: Bundle, logits, tmp_path: Path) -> None:
    values, ids = logits[0].copy(), logits[1]
    values[3, 0, 7] = np.nan
    with pytest.raises(CheckFailed, match="NaN in 1 of 9 windows, the first of question q10"):
        verified(bundle, write_logits(tmp_path / "D", values, ids))


LOGITS: dict[str, tuple[Callable[[np.ndarray, list[int]], dict], str]] = {
    "too short": (lambda v, ids: {"values": v[:-1]}, "Expected 6912 bytes of logits .* got 6144"),
    "too long": (lambda v, ids: {"values": np.concatenate([v, v])}, "got 13824"),
    "halfway": (
        lambda v, ids: {"values": v[:5], "ids": ids[:5]},
        "none of 4 of them, the first is 1000000005",
    ),
    "twice": (lambda v, ids: {"ids": [*ids[:-1], ids[0]]}, "1000000000 twice"),
    "length": (lambda v, ids: {"sequence_length": 384}, "sequence_length 96, got 384"),
    "newer": (lambda v, ids: {"schema_version": 2}, "schema_version 1, got 2"),
    "outputs": (lambda v, ids: {"outputs": ["start_logits"]}, "outputs"),
    "no ids": (lambda v, ids: {"unique_ids": "all"}, "whole numbers"),
}


@pytest.mark.parametrize("kind", LOGITS)
def test_logits_that_are_none(bundle: Bundle, logits, tmp_path: Path, kind: str) -> None:
    make, message = LOGITS[kind]
    values, ids = logits
    changes = {"values": values, "ids": ids, **make(values, ids)}
    folder = write_logits(tmp_path / "D", changes.pop("values"), changes.pop("ids"), **changes)
    with pytest.raises(InputError, match=message):
        verified(bundle, folder)


def test_logits_of_another_delegate(bundle: Bundle, logits, tmp_path: Path) -> None:
    folder = write_logits(tmp_path / "D", *logits)
    with pytest.raises(InputError, match="Expected logits of cpu, got some of nnapi"):
        verified(bundle, folder, delegate="cpu")
    (folder / "logits.bin").unlink()
    with pytest.raises(InputError, match=r"logits\.bin"):
        verified(bundle, folder)


# The command


def verify(*arguments: object):
    return run_light("mobilebert_kit.verify", *arguments)


def test_the_command(bundled: Path, host: dict[str, str], tmp_path: Path) -> None:
    """Without TensorFlow; exit 3 past the limits; what is there stays as it is."""
    manifest = ("--manifest", bundled / "bundle.json")
    before = sorted(bundled.rglob("*"))
    files = verify(*manifest)
    assert files.returncode == 0 and "questions    9" in files.stdout, files.stderr

    changed = write(tmp_path / "p.json", {**host, "q01": "nothing of it"})
    failed = verify(*manifest, "--predictions", changed)
    assert failed.returncode == 3 and "an agreement of 0.8889 (at least 0.98)" in failed.stderr
    assert "'nothing of it' on the device" in failed.stdout

    allowed = verify(
        *manifest, "--predictions", changed, "--max_f1_drop", 50, "--min_agreement", 0.8, "--json"
    )
    assert allowed.returncode == 0, allowed.stderr
    result = json.loads(allowed.stdout)
    assert result["agreement"] == pytest.approx(8 / 9)
    assert [difference["question_id"] for difference in result["differences"]] == ["q01"]
    assert sorted(bundled.rglob("*")) == before and [path.name for path in tmp_path.iterdir()] == ["p.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "manifest"),
        (("--manifest", "no.json"), "no such file"),
        (("--manifest", "x", "--max_f1_drop", "nan"), "--max_f1_drop from 0 to 100"),
        (("--manifest", "x", "--min_agreement", "2"), "--min_agreement from 0 to 1"),
        (("--manifest", "x", "--num_questions", "3"), "with --predictions only"),
    ],
)
def test_wrong_flags(arguments: tuple[str, ...], message: str) -> None:
    done = verify(*arguments)
    assert (done.returncode, done.stdout) == (2, "") and message in done.stderr
