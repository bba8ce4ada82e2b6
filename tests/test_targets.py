"""Targets by name, and the table that describes them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import REPOSITORY

from mobilebert_kit.errors import InputError
from mobilebert_kit.targets import TARGETS, TARGETS_WITH_EXTRAS, describe_targets, parse_targets

FILES = {
    "float": "mobilebert_float_384.tflite",
    "fp16": "mobilebert_fp16_384.tflite",
    "dynamic": "mobilebert_dynamic_384.tflite",
    "int8": "mobilebert_int8_384.tflite",
    "gpu": "mobilebert_float_384_gpu.tflite",
    "gpu_fp16": "mobilebert_fp16_384_gpu.tflite",
    "nnapi": "mobilebert_int8_384_nnapi.tflite",
}
WITH_EXTRAS = FILES | {
    "openvino": "mobilebert_float_384.xml",
    "onnx": "mobilebert_float_384.onnx",
    "onnx_qdq": "mobilebert_squad11_int8_qdq.onnx",
}


def test_files_are_named_as_mlcommons_names_them() -> None:
    assert {name: target.file_for(384) for name, target in TARGETS.items()} == FILES
    assert {name: target.file_for(384) for name, target in TARGETS_WITH_EXTRAS.items()} == WITH_EXTRAS
    assert TARGETS["nnapi"].file_for(128, "distilbert") == "distilbert_int8_128_nnapi.tflite"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("nnapi", ["nnapi"]),
        ("int8,float", ["int8", "float"]),
        (" int8 , nnapi", ["int8", "nnapi"]),
        ("int8,int8", ["int8"]),
        ("all", list(FILES)),
        ("openvino,float", ["openvino", "float"]),
        ("onnx,onnx_qdq", ["onnx", "onnx_qdq"]),
    ],
)
def test_targets_by_name(text: str, names: list[str]) -> None:
    assert [target.name for target in parse_targets(text)] == names


@pytest.mark.parametrize("text", ["", "NNAPI", "int4", "int8,", "int8;nnapi", "tpu,int8", "lists"])
def test_an_unknown_target_lists_the_known_ones(text: str) -> None:
    expected = f"{', '.join(WITH_EXTRAS)}, all or list, got '.*'"
    with pytest.raises(InputError, match=expected):
        parse_targets(text)


@pytest.mark.parametrize("text", ["list,int8", "int8,all", "all,list"])
def test_all_and_list_stand_alone(text: str) -> None:
    with pytest.raises(InputError, match="mixture"):
        parse_targets(text)


def test_table_says_what_each_target_is() -> None:
    lines = describe_targets(128).splitlines()
    assert lines[0].split() == ["target", "file", "recipe", "delegate", "status"]
    for line, (name, target) in zip(lines[1:], TARGETS_WITH_EXTRAS.items(), strict=True):
        assert line.split()[:3] == [name, WITH_EXTRAS[name].replace("384", "128"), target.recipe.name]
        assert str(target.delegate or "-") in line
        assert target.status in line
    assert "deprecated since Android 15" in lines[-4]
    assert "needs the extra [openvino]" in lines[-3]
    assert all("needs the extra [onnx_export]" in line for line in lines[-2:])


def test_listing_loads_no_tensorflow() -> None:
    code = "import sys; from mobilebert_kit import export; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
