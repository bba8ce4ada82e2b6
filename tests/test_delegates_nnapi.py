"""The NNAPI checker against the recorded verdicts of the real delegate; what is unknown; float16; levels."""

from __future__ import annotations

import json
from pathlib import Path

import one_op_model as make
import pytest
from one_op_model import F32, I8, TABLE, Graph, Op, Operand, one_op

from mobilebert_kit.delegates import Report, check_nnapi, read_tflite
from mobilebert_kit.delegates.conditions import ALWAYS, MaxVersion, Since
from mobilebert_kit.delegates.nnapi import CONSTANT_FLOAT16, nnapi_level
from mobilebert_kit.delegates.nnapi_rules import DELEGATE_RULES, NOT_COVERED
from mobilebert_kit.delegates.tflite_schema import OP_NAMES
from mobilebert_kit.errors import InputError

FL6, FL7 = 1_000_006, 1_000_007


def check(tmp_path: Path, graph: Graph, level: int = 30, **more: object) -> Report:
    model = read_tflite(make.write(tmp_path / "m.tflite", graph))
    return check_nnapi(model, **({"feature_level": level} if level > 1000 else {"api_level": level}), **more)


# ---- recorded verdicts ----


def test_every_recorded_verdict_is_reproduced(shared: Path) -> None:
    """31 models at API 27 to 31 and feature level 6: verdicts, and the delegate's reasons word for word."""
    folder = shared / "data" / "nnapi_vectors"
    recorded = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))["models"]
    compared, differences = 0, []
    for name, levels in recorded.items():
        model = read_tflite(folder / f"{name}.tflite")
        for key, expected in levels.items():
            level = {"feature_level": 6} if key == "fl6" else {"api_level": int(key)}
            got = check_nnapi(model, **level).nodes
            assert len(got) == len(expected), (name, key)
            for node, want in zip(got, expected, strict=True):
                compared += 1
                said = (node.op, node.version, node.accepted, list(node.reasons))
                if said != (want["op"], want["version"], want["accepted"], want["reasons"]):
                    differences.append((name, key, said, want))
    assert not differences
    assert compared == 294


def test_only_per_channel_fully_connected_is_refused_below_the_delegate(shared: Path) -> None:
    """At API 30, of what the delegate accepts in the recorded models."""
    refused = set()
    for path in (shared / "data" / "nnapi_vectors").glob("*.tflite"):
        for node in check_nnapi(read_tflite(path)).nodes:
            if node.runtime_refusals:
                refused.add((path.stem, node.op))
                assert "in1 is quantized per channel" in node.runtime_refusals[0]
    assert refused == {
        (name, "FULLY_CONNECTED") for name in ("fc_int8_perchannel", "fc_int8_keras", "quantize_f32_int8")
    }


def test_versions_and_levels_are_those_of_the_collected_facts(shared: Path) -> None:
    """facts/nnapi_rules.json was read from the same source by other eyes."""
    facts = json.loads((shared / "facts" / "nnapi_rules.json").read_text(encoding="utf-8"))["ops"]
    # By type (SUB), worded otherwise (DEQUANTIZE), and by the number of operands (PADV2), with one outcome.
    differing = {"SUB": "level", "DEQUANTIZE": "version", "PADV2": "level"}
    for op, fact in facts.items():
        rules = DELEGATE_RULES[op]
        versions = {rule.version for rule in rules if isinstance(rule, MaxVersion)}
        levels = {rule.level for rule in rules if isinstance(rule, Since) and rule.when == ALWAYS}
        if differing.get(op) != "version":
            assert fact["max_op_version"] in versions, op
            assert max(versions) == fact.get("max_op_version_if_accelerator_named", fact["max_op_version"]), (
                op
            )
        if differing.get(op) != "level":
            assert (levels or {27}) == {fact["min_api"]}, op


# ---- unknown ----


@pytest.mark.parametrize("op", sorted(NOT_COVERED))
def test_what_no_rule_covers_is_unknown(op: str, tmp_path: Path) -> None:
    report = check(tmp_path, one_op(op, [F32] * 5, [F32]), FL7)
    (node,) = report.nodes
    assert node.accepted is None and "no rule of this checker covers" in node.reasons[0]
    assert (report.partitions, report.whole, report.refused) == (0, False, (node,))


def test_newer_and_malformed_ops_are_unknown(tmp_path: Path) -> None:
    for graph, says in (
        (one_op("ADD", [F32, F32], [F32], code=999), "op code 999 is newer"),
        (one_op("ADD", [F32], [F32]), "no operand in1"),
        (one_op("GATHER", [TABLE, None], [I8], version=2), "no operand in1"),
        (one_op("CONV_2D", [F32, F32, F32], []), "no operand out0"),
    ):
        (node,) = check(tmp_path, graph).nodes
        assert node.accepted is None and says in node.reasons[0]


def test_every_op_of_the_schema_gets_a_verdict(tmp_path: Path) -> None:
    """No rule trips over an op without operands; one that is not mapped is refused, not unknown."""
    assert not DELEGATE_RULES.keys() & NOT_COVERED and (DELEGATE_RULES.keys() | NOT_COVERED) <= set(OP_NAMES)
    for op in OP_NAMES:
        for operands in (0, 1, 3):
            graph = Graph([F32] * 4, [Op(op, list(range(operands)), [3], 1)], [0], [3])
            for level in (27, 28, 29, 30, FL6, FL7):
                (node,) = check(tmp_path, graph, level).nodes
                if op not in DELEGATE_RULES and op not in NOT_COVERED:
                    assert node.accepted is False
                assert node.accepted or node.reasons


# ---- float16 weights ----


def _half_model(position: int) -> Graph:
    """SUB of an input and a float16 constant, the constant on the left (0) or on the right (1)."""
    half = Operand("float16", (1, 4), 1)
    operands = [F32, half, Operand("float32", (1, 4)), Operand("float32", (1, 4))]
    reads = [2, 0] if position == 0 else [0, 2]
    return Graph(operands, [Op("DEQUANTIZE", [1], [2], 3), Op("SUB", reads, [3])], [0], [3])


def test_float16_weights_are_delegated_all_or_none(tmp_path: Path) -> None:
    report = check(tmp_path, _half_model(1))
    assert [node.accepted for node in report.nodes] == [True, True] and report.whole
    assert report.nodes[0].reasons == (CONSTANT_FLOAT16,)
    # The delegate asks with the float16 constant itself as the operand, which SUB's first may not be.
    report = check(tmp_path, _half_model(0))
    assert [node.accepted for node in report.nodes] == [False, False]
    assert report.nodes[1].reasons == ("UnsupportedInputType: NNAPI only support float sub.",)
    assert report.partitions == 0


def test_computed_float16_is_accepted_from_api_30(tmp_path: Path) -> None:
    graph = one_op("DEQUANTIZE", [Operand("float16", (1, 4))], [F32], version=3)
    assert check(tmp_path, graph, 29).nodes[0].accepted is False
    assert check(tmp_path, graph, 30).nodes[0].accepted is True


# ---- levels ----


def test_levels() -> None:
    assert [nnapi_level(30, n) for n in (1, 4, 5, 6, 7, 8)] == [27, 30, 31, FL6, FL7, 1_000_008]
    assert nnapi_level(34, None) == 34 and nnapi_level(30, FL6) == FL6
    for api_level, feature_level in ((26, None), (99, None), (30, 0), (30, 9), (30, 31)):
        with pytest.raises(InputError, match="Expected an"):
            nnapi_level(api_level, feature_level)
