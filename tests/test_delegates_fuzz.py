"""Hostile and damaged files: `check` ends with an answer or an InputError, soon, and in little memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import one_op_model as make
import pytest
from conftest import REPOSITORY
from fuzz_models import corpus, write_corpus
from hostile_models import HOSTILE

from mobilebert_kit.delegates import read_tflite
from mobilebert_kit.delegates.tflite_file import MAX_RANK, Tensor
from mobilebert_kit.errors import CheckFailed, InputError
from tools.fuzz_check import Outcome, fuzz, table
from tools.tflite_mutations import Mutator, find_places

MOST_BYTES = 300e6
HANG_SECONDS = 10.0  # a file takes milliseconds; this is for one that would never end
HOSTILE_SECONDS = 60.0  # the largest that are still read take seconds


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("fuzz"))


def _fuzz(folder: Path, files: int, save: Path, hang_seconds: float = HANG_SECONDS) -> Outcome:
    outcome = fuzz(folder, files, 0, hang_seconds=hang_seconds, save=save)
    print(table(outcome))
    assert not outcome.failures, "\n".join(outcome.failures.values())
    assert outcome.peak_bytes < MOST_BYTES
    return outcome


def test_2000_damaged_files(models: Path, shared: Path, exported: Path, tmp_path: Path) -> None:
    """The small models, the recorded ones, and a small MobileBERT for every target."""
    folder = tmp_path / "corpus"
    shutil.copytree(models, folder)
    for path in (*shared.glob("data/nnapi_vectors/*.tflite"), *exported.glob("all/*.tflite")):
        shutil.copyfile(path, folder / path.name)
    intact = len(list(folder.iterdir()))
    outcome = _fuzz(folder, 2000, tmp_path)
    assert outcome.files == intact + 2000
    # Enough damaged files must get past the reader, and enough must not, for this to try both.
    damaged_and_readable = outcome.readable - _readable(folder)
    assert 0.2 < damaged_and_readable / 2000 < 0.6


def _readable(folder: Path) -> int:
    count = 0
    for path in folder.iterdir():
        try:
            read_tflite(path)
            count += 1
        except InputError:
            pass
    return count


# What is refused, and why; the others are read, and cost no more than they say.
REFUSED = {
    "one tensor many times": "more than 80340 vector elements",
    "one node many times": "more than 80216 vector elements",
    "one subgraph many times": "vector elements",
    "everything many times": "vector elements",
    "one custom code for many nodes": "custom op's name of 1000000 characters",
    "many scales for many nodes": "scales",
    "many dimensions of 1": "has 300000 dimensions, not 32 or fewer",
    "many dimensions of 0": "has 300000 dimensions",
    "many dimensions of 2**31 - 1": "has 300000 dimensions",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_little_is_made_of_a_file_that_is_made_to_cost_much(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    path = folder / "hostile.tflite"
    path.write_bytes(HOSTILE[name]())
    outcome = _fuzz(folder, 0, tmp_path, HOSTILE_SECONDS)
    assert outcome.readable == (name not in REFUSED)
    if name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name]) as error:
            read_tflite(path)
        assert len(str(error.value)) < 500 + len(str(path))


def test_sizes_multiply_to_what_fits_64_bits(tmp_path: Path) -> None:
    """Also where one of them is 0: sums and products of some of them are computed and printed."""
    largest = 2**31 - 1
    for shape, fits in (
        ((largest, largest, 2), True),
        ((largest, largest, 4), False),
        ((0, largest, largest, largest), False),
        ((1,) * MAX_RANK, True),
        ((1,) * (MAX_RANK + 1), False),
    ):
        graph = make.one_op("RELU", [make.Operand(shape=shape)], [make.Operand(shape=shape)])
        path = make.write(tmp_path / "m.tflite", graph)
        if fits:
            assert read_tflite(path).main.tensors[0].shape == shape
        else:
            with pytest.raises(InputError, match=r"has the shape|dimensions"):
                read_tflite(path)


def test_names_are_shown_short_and_printable() -> None:
    tensor = Tensor(0, "\x1b[2J\n" + "n" * 1000, "int8", (1,), (1,), (), (), 0, False, False, False)
    shown = tensor.describe()
    assert shown.startswith(r"'\x1b[2J\n" + "nnn") and shown.endswith("...' int8[1]") and len(shown) < 120


def test_text_that_is_no_utf_8_is_read_and_printed(tmp_path: Path) -> None:
    """A name of half a surrogate pair, as the bytes that WTF-8 gives it, and one cut within a character."""
    data = make.to_bytes(make.one_op("RELU", [make.with_(make.F32, name="XXX")], [make.F32]))
    path = tmp_path / "m.tflite"
    for name in (b"\xed\xa0\x80", b"n\xe2\x82"):
        path.write_bytes(data.replace(b"XXX", name))
        assert "\ufffd" in read_tflite(path).main.tensors[0].name
        command = [sys.executable, "-m", "mobilebert_kit.check", str(path), "--delegate", "xnnpack"]
        done = subprocess.run([*command, "--json"], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0 and "\\ufffd" in json.dumps(json.loads(done.stdout)), done.stderr


def test_constants_without_a_numpy_type_are_a_value_error(tmp_path: Path) -> None:
    """`Tensor.data` says ValueError; numpy itself says TypeError of these types."""
    data = make.to_bytes(make.one_op("RELU", [make.Operand("uint8", (4,), 1)], [make.F32]))
    graph = make.one_op("RELU", [make.Operand("uint8", (4,), 1)], [make.F32])
    path = tmp_path / "m.tflite"
    assert read_tflite(make.write(path, graph)).main.tensors[0].data().tolist() == [1, 1, 1, 1]
    uint8 = bytes([make.TYPE_CODES["uint8"]])
    for dtype in ("resource", "variant", "string", "float8_e4m3fn", "float8_e5m2"):
        places = [at for at in find_places(data).fields if data[at : at + 1] == uint8]
        found = 0
        for at in places:
            path.write_bytes(data[:at] + bytes([make.TYPE_CODES[dtype]]) + data[at + 1 :])
            try:
                tensor = read_tflite(path).main.tensors[0]
            except InputError:
                continue
            if tensor.dtype == dtype:
                found += 1
                with pytest.raises(ValueError, match="have no numpy form"):
                    tensor.data()
        assert found == 1


def test_mutants_are_the_same_each_time_and_differ_from_each_other() -> None:
    files = list(corpus().values())[:20]
    first, again = Mutator(files, 0), Mutator(files, 0)
    mutants = [first.mutant(number) for number in range(200)]
    assert mutants == [again.mutant(number) for number in range(200)]
    assert len(set(mutants)) > 190 and len(set(mutants).intersection(files)) < 10
    assert mutants != [Mutator(files, 1).mutant(number) for number in range(200)]


def test_a_worker_that_dies_or_hangs_is_a_failure(models: Path, tmp_path: Path) -> None:
    """What the other tests rest on: the file that was in hand is kept."""
    with pytest.raises(CheckFailed, match=r"Timeout"):
        fuzz(models, 100, 0, hang_seconds=1e-6, save=tmp_path)
    assert (tmp_path / "current.tflite").exists()
