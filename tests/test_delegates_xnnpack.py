"""The XNNPACK checker against LiteRT's interpreter, which applies the real delegate by itself."""

from __future__ import annotations

from pathlib import Path

import one_op_model as make
import pytest
import xnnpack_layout_models
import xnnpack_matrix_models
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from one_op_model import F32, I8, IDS, TABLE, Graph, Op, Operand, one_op, with_
from xnnpack_one_op_models import MODELS, f16, f32, i8, weights

from mobilebert_kit.delegates import Report, Verdict, check_xnnpack, read_tflite
from mobilebert_kit.delegates.tflite_schema import OP_NAMES
from mobilebert_kit.delegates.xnnpack_rules import CUSTOM_NOT_COVERED, NOT_COVERED, RULES
from mobilebert_kit.delegates.xnnpack_wording import NOT_BUILT
from tools.arm64_logits import delegated_partitions

assert xnnpack_layout_models.MODELS is xnnpack_matrix_models.MODELS is MODELS
# Where the checker refuses what the delegate takes: models that the CPU's own kernels refuse to load.
DIFFERENCES = {
    "CONV_2D f16": "float16 activations: the rules ask for float32 or 8-bit ones",
    "FULLY_CONNECTED f16": "float16 activations: the rules ask for float32 or 8-bit ones",
    "QUANTIZE f32 to f16": "the output of QUANTIZE is not quantized",
    "QUANTIZE f32 to f32": "the output of QUANTIZE is not quantized",
}


def delegated_by_interpreter(model: bytes) -> tuple[list[list[int]], str]:
    """The nodes of each partition that the interpreter gives to XNNPACK; and its error, if it fails."""
    try:
        return delegated_partitions(Interpreter(model_content=model, num_threads=1)), ""
    except RuntimeError as error:
        return [], str(error)


def check(tmp_path: Path, graph: Graph) -> Report:
    return check_xnnpack(read_tflite(make.write(tmp_path / "m.tflite", graph)))


def check_one(tmp_path: Path, graph: Graph) -> Verdict:
    (node,) = check(tmp_path, graph).nodes
    return node


# ---- against the interpreter ----


@pytest.mark.parametrize("name", MODELS)
def test_verdicts_are_what_the_interpreter_does(name: str, tmp_path: Path) -> None:
    groups, error = delegated_by_interpreter(make.to_bytes(MODELS[name]))
    report = check(tmp_path, MODELS[name])
    taken = sorted(node for group in groups for node in group)
    reasons = [reason for node in report.refused for reason in node.reasons]
    if name in DIFFERENCES:
        assert report.delegated == () and taken == [0]  # else it is no difference any more
        return
    assert (list(report.delegated), report.partitions) == (taken, len(groups)), reasons
    assert all(node.accepted is not None for node in report.nodes)
    assert all(bool(node.reasons) == (node.accepted is False) for node in report.nodes)
    # What the delegate takes and cannot build is told apart from what it leaves alone.
    assert any(reason.startswith(NOT_BUILT) for reason in reasons) == bool(error), error


def test_the_models_are_many_and_ones_that_load() -> None:
    """Without XNNPACK the CPU's own kernels take each: so what differs above is the delegate's doing."""
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    refused = set()
    for name, graph in MODELS.items():
        content = make.to_bytes(graph)
        try:
            Interpreter(model_content=content, experimental_op_resolver_type=plain).allocate_tensors()
        except RuntimeError:
            refused.add(name)
    assert refused == set(DIFFERENCES)
    taken = [bool(delegated_by_interpreter(make.to_bytes(graph))[0]) for graph in MODELS.values()]
    assert len(taken) > 450 and sum(taken) > 200 and taken.count(False) > 150


def test_every_rule_has_a_model_that_is_taken_and_one_that_is_not(tmp_path: Path) -> None:
    seen = {(node.op, node.accepted) for graph in MODELS.values() for node in check(tmp_path, graph).nodes}
    for op in RULES:
        assert (op, True) in seen and (op, False) in seen, op


def test_the_exported_models(exported: Path) -> None:
    paths = sorted((exported / "all").glob("*.tflite"))
    assert len(paths) >= 5  # one a target
    for path in paths:
        _agrees_on_whole_model(path)


def test_the_recorded_models(shared: Path) -> None:
    paths = sorted((shared / "data" / "nnapi_vectors").glob("*.tflite"))
    assert len(paths) == 31
    for path in paths:
        _agrees_on_whole_model(path)


def _agrees_on_whole_model(path: Path) -> None:
    groups, error = delegated_by_interpreter(path.read_bytes())
    report = check_xnnpack(read_tflite(path))
    assert not error and report.partitions == len(groups), path.name
    assert list(report.delegated) == sorted(node for group in groups for node in group), path.name


# ---- reasons and fixes ----


def test_reasons_and_fixes(tmp_path: Path) -> None:
    for graph, reason, fix in (
        (MODELS["BATCH_MATMUL int8 with a zero point"], "zero point that is not 0", "recipe symkv"),
        (MODELS["SOFTMAX int8"], "in0 is not float32 or float16", "recipe f32softmax"),
        (MODELS["SOFTMAX f32 of half beta"], "beta is not 1", ""),
        (MODELS["FULLY_CONNECTED int8 computed weights"], "in1 is not a constant", "CpuLowering.scores"),
        (MODELS["GATHER int8"], "XNNPACK has no GATHER", "moves data only"),
        (MODELS["CAST int32 to f32"], "XNNPACK has no CAST", "moves data only"),
        (MODELS["POW f32"], "XNNPACK has no POW", ""),
        (MODELS["FULLY_CONNECTED hybrid with a zero point"], "allocate_tensors fails", ""),
    ):
        node = check_one(tmp_path, graph)
        assert node.accepted is False and reason in node.reasons[0]
        assert fix in node.fix and bool(fix) == bool(node.fix)


def test_unpacking_goes_with_its_readers(tmp_path: Path) -> None:
    report = check(tmp_path, MODELS["POW and ADD of an unpacked f16"])
    assert [node.accepted for node in report.nodes] == [False, False, True]
    assert report.nodes[0].reasons == ("node 1 (POW) reads it, which XNNPACK does not take",)


# ---- unknown ----


@pytest.mark.parametrize("op", sorted(NOT_COVERED))
def test_what_no_rule_covers_is_unknown(op: str, tmp_path: Path) -> None:
    node = check_one(tmp_path, one_op(op, [F32] * 3, [F32]))
    assert node.accepted is None and "no rule of this checker covers" in node.reasons[0]


def test_what_reads_an_unknown_constant_is_unknown(tmp_path: Path) -> None:
    ops = [Op("DENSIFY", [1], [2]), Op("FULLY_CONNECTED", [0, 2], [3])]
    report = check(tmp_path, Graph([f32(8, 4), f32(2, 4, data=1), f32(2, 4), f32(8, 2)], ops, [0], [3]))
    assert [node.accepted for node in report.nodes] == [None, None] and report.partitions == 0
    graph = one_op("VAR_HANDLE", [], [F32])
    graph = Graph(
        [f16(4, data=1), f32(4), f32(4)], [Op("DEQUANTIZE", [0], [1], 3), Op("ASSIGN_VARIABLE", [1, 1], [2])]
    )
    report = check(tmp_path, graph)
    assert [node.accepted for node in report.nodes] == [None, None]
    assert "Unknown: node 1 (ASSIGN_VARIABLE) reads it." in report.nodes[0].reasons


def test_custom_newer_and_malformed_ops(tmp_path: Path) -> None:
    for code in sorted(CUSTOM_NOT_COVERED):
        assert check_one(tmp_path, one_op("CUSTOM", [F32], [F32], custom_code=code)).accepted is None
    node = check_one(tmp_path, one_op("CUSTOM", [F32], [F32], custom_code="FlexErf"))
    assert node.accepted is False and node.reasons == ("XNNPACK has no CUSTOM 'FlexErf'",)
    for graph, says in (
        (one_op("ADD", [F32, F32], [F32], code=999), "op code 999 is newer"),
        (one_op("ADD", [F32, None], [F32]), "no operand in1"),
        (one_op("FULLY_CONNECTED", [F32, Operand("int4", (2, 4), None)], [F32]), "int4 weights"),
    ):
        node = check_one(tmp_path, graph)
        assert node.accepted is None and says in node.reasons[0]
    assert check_one(tmp_path, one_op("ADD", [F32], [F32])).reasons == ("expected 2 inputs",)
    assert check_one(tmp_path, one_op("CONV_2D", [F32, F32, None], [F32])).reasons == ("it has no bias",)


def test_no_rule_trips_over_any_operands(tmp_path: Path) -> None:
    """Every op with operands of any number, type, rank and constness gets a verdict."""
    odd = (F32, I8, IDS, TABLE, with_(F32, shape=()), with_(IDS, shape=(), data=1), weights(2, 4), i8(1))
    for op in OP_NAMES:
        for count in (0, 1, 2, 3):
            for first in range(0, len(odd), 2):
                operands = [odd[(first + n) % len(odd)] for n in range(count)]
                graph = one_op(op, operands, [F32])
                node = check_one(tmp_path, graph)
                assert node.accepted or node.reasons
                if node.accepted is True:
                    assert op in RULES
