"""Metadata in a .tflite: read by others' code, and the model as it was."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import small_export
from ai_edge_litert import schema_py_generated as schema

from mobilebert_kit.android.assemble import bundle
from mobilebert_kit.android.delegates import BY_NAME
from mobilebert_kit.android.tflite_packing import pack
from mobilebert_kit.contract import TASK_LIBRARY
from mobilebert_kit.delegates.flatbuffer import FlatBuffer, Table
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.runtime.interpreter import load
from mobilebert_kit.targets import TARGETS


@pytest.fixture(scope="module")
def models(bundled: Path) -> list[Path]:
    return sorted(bundled.glob("*.tflite"))


def metadata_of(path: Path) -> Table:
    """The ModelMetadata: found by TFLite's schema code, read by the kit's checked reader."""
    model = schema.Model.GetRootAs(path.read_bytes())
    entries = {model.Metadata(n).Name(): model.Metadata(n).Buffer() for n in range(model.MetadataLength())}
    return FlatBuffer(model.Buffers(entries[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()).root(b"M001")


def texts(table: Table, slot: int) -> tuple:
    """(name, description) of the tables in a vector."""
    return table.each(slot, lambda _, item: (item.text(0), item.text(1)))


def tensor_names(path: Path) -> tuple[list[str], list[str]]:
    """Of inputs and outputs, by the metadata."""
    [graph] = metadata_of(path).each(3, lambda _, table: table)
    return [name for name, _ in texts(graph, 2)], [name for name, _ in texts(graph, 3)]


def data_place(model: schema.Model, number: int) -> int:
    """Where the data of a buffer lies in the file; 0 for a buffer without any."""
    buffer = model.Buffers(number)
    return buffer._tab.Vector(buffer._tab.Offset(4)) if buffer.DataLength() else 0


def test_names_are_the_signatures_in_the_order_of_the_file(models: list[Path]) -> None:
    for path in models:
        model = read_tflite(path)
        [signature] = model.signatures
        by_index = {index: name for name, index in (signature.inputs | signature.outputs).items()}
        expected = [[by_index[index] for index in side] for side in (model.main.inputs, model.main.outputs)]
        assert list(tensor_names(path)) == expected


def test_the_tokenizer_names_the_vocabulary(models: list[Path]) -> None:
    for path in models:
        [graph] = metadata_of(path).each(3, lambda _, table: table)
        [unit] = graph.each(5, lambda _, table: table)
        assert unit.number(0, "B", 0) == 4  # BertTokenizerOptions
        [(name, _, kind)] = unit.table(1).each(0, lambda _, f: (f.text(0), f.text(1), f.number(2, "b", 0)))
        assert (name, kind) == ("vocab.txt", 5)  # VOCABULARY


def test_the_vocabulary_is_in_the_file(models: list[Path], bundled: Path, tmp_path: Path) -> None:
    vocab = (bundled / "vocab.txt").read_bytes()
    for path in models:
        with zipfile.ZipFile(path) as archive:
            assert archive.read("vocab.txt") == vocab
            assert archive.getinfo("vocab.txt").compress_type == zipfile.ZIP_STORED  # it is mapped
    if shutil.which("unzip"):
        done = subprocess.run(["unzip", "-q", models[0], "-d", tmp_path], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")  # no warning of bytes in front
        assert (tmp_path / "vocab.txt").read_bytes() == vocab


@pytest.mark.parametrize("target", ["float", "int8", "nnapi", "gpu_fp16"])
def test_the_model_is_as_it_was(exported: Path, tmp_path: Path, target: str) -> None:
    path = exported / "all" / TARGETS[target].file_for(small_export.LENGTH)
    packed = tmp_path / "packed.tflite"
    packed.write_bytes(pack(path.read_bytes(), b"metadata", {"a.txt": b"text"}))
    assert path.read_bytes() in packed.read_bytes()
    before, after = read_tflite(path), read_tflite(packed)
    assert (before.subgraphs, before.signatures) == (after.subgraphs, after.signatures)
    assert before.description == after.description
    for arrays in small_export.arrays()[:3]:
        one, other = (load(file).run(**arrays) for file in (path, packed))
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_other_metadata_and_alignment_stay(exported: Path) -> None:
    content = (exported / "all" / TARGETS["int8"].file_for(small_export.LENGTH)).read_bytes()
    packed = pack(content, b"metadata", {})
    before, after = (schema.Model.GetRootAs(data) for data in (content, packed))
    assert after.Version() == 3 and after.MetadataLength() == before.MetadataLength() + 1
    assert after.BuffersLength() == before.BuffersLength() + 1
    for number in range(before.BuffersLength()):
        assert np.array_equal(before.Buffers(number).DataAsNumpy(), after.Buffers(number).DataAsNumpy())
    moved = {data_place(after, n) - data_place(before, n) for n in range(before.BuffersLength())} - {0}
    assert len(moved) == 1 and moved.pop() % 64 == 0
    assert data_place(after, after.BuffersLength() - 1) % 16 == 0


def test_packing_again_is_refused(exported: Path) -> None:
    content = (exported / "all" / TARGETS["float"].file_for(small_export.LENGTH)).read_bytes()
    packed = pack(content, b"metadata", {})
    with pytest.raises(ValueError, match="TFLITE_METADATA"):
        pack(packed, b"metadata", {})
    assert pack(content, b"metadata", {"a": b"b"}) == pack(content, b"metadata", {"a": b"b"})


def test_the_task_librarys_names(bundled: Path, tmp_path: Path) -> None:
    """bert_question_answerer.cc finds ids, mask, segment_ids, end_logits and start_logits by these names."""
    request = small_export.request(bundled.parent, output_dir=tmp_path / "D", contract=TASK_LIBRARY)
    bundle(request, [BY_NAME["gpu"]])
    [path] = (tmp_path / "D").glob("*.tflite")
    assert tensor_names(path) == (["ids", "mask", "segment_ids"], ["end_logits", "start_logits"])
