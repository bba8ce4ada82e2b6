"""The GPU checker: against the accelerator itself on some two hundred models, and its rules without one."""

from __future__ import annotations

import copy
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from gpu_agreement import Agreement, compare
from gpu_one_op_models import MODELS
from gpu_operands import MAP, conv, dense, fixed, gather, given, half, matmul, reshape
from one_op_model import Graph, Op, Operand, constant, one_op, options, with_, write

from mobilebert_kit.delegates import Report, Verdict, check_gpu, read_tflite
from mobilebert_kit.delegates.fixes import FIXES
from mobilebert_kit.delegates.gpu import CONSTANT_FLOAT16, IS_AN_OUTPUT, NOT_SUPPORTED, PLAIN_FLOAT16
from mobilebert_kit.delegates.gpu_graph_rules import PADDED_TWICE, PARTS_MEET, READ_ON
from mobilebert_kit.delegates.gpu_rules import NOT_COVERED, RULES
from mobilebert_kit.delegates.tflite_schema import OP_NAMES

ROW = re.compile(r"^\| (.+?) \| (\w+) \| (\w+) \| \S", re.MULTILINE)
DOCUMENT = Path(__file__).parent.parent / "docs" / "gpu_disagreements.md"
TAKEN_AND_REFUSED = """
    ADD BATCH_MATMUL CAST CONCATENATION CONV_2D FULLY_CONNECTED GATHER MAXIMUM MEAN MINIMUM MUL ONE_HOT PACK
    PAD RESHAPE SELECT_V2 SLICE SOFTMAX SPLIT SPLIT_V SQUARED_DIFFERENCE STRIDED_SLICE SUB TANH TRANSPOSE
    UNPACK
""".split()  # noqa: SIM905 - quoted, they would fill a screen
REFUSED_IN_EVERY_FORM = {"EXPAND_DIMS", "LOG_SOFTMAX", "SQUEEZE"}


def check(tmp_path: Path, graph: Graph) -> Report:
    return check_gpu(read_tflite(write(tmp_path / "m.tflite", graph)))


def judged(tmp_path: Path, graph: Graph) -> Verdict:
    (node,) = check(tmp_path, graph).nodes
    return node


# ---- against the accelerator ----


@pytest.fixture(scope="module")
def one_op_agreements(tmp_path_factory: pytest.TempPathFactory, accelerator: None) -> dict[str, Agreement]:
    folder = tmp_path_factory.mktemp("one_op")
    return compare({name: write(folder / f"{i}.tflite", g) for i, (name, g) in enumerate(MODELS.items())})


@pytest.fixture(scope="module")
def recorded_agreements(shared: Path, accelerator: None) -> dict[str, Agreement]:
    return compare({path.name: path for path in sorted((shared / "data/nnapi_vectors").glob("*.tflite"))})


def false_accepts(agreements: dict[str, Agreement]) -> dict[str, Agreement]:
    return {n: a for n, a in agreements.items() if a.checker == "accepted" and a.accelerator != "accepted"}


def disagreements(agreements: dict[str, Agreement]) -> dict[str, tuple[str, str]]:
    return {n: (a.checker, a.accelerator) for n, a in agreements.items() if a.checker != a.accelerator}


def listed(recorded: bool) -> dict[str, tuple[str, str]]:
    """The rows of the document: of recorded models, whose names end in .tflite, or of those made here."""
    rows = [row for row in ROW.findall(DOCUMENT.read_text(encoding="utf-8")) if row[0] != "model"]
    assert len({row[0] for row in rows}) == len(rows), "a model is listed twice"
    return {name: (said, did) for name, said, did in rows if name.endswith(".tflite") == recorded}


def test_accepts_nothing_that_the_accelerator_does_not(one_op_agreements: dict[str, Agreement]) -> None:
    assert not false_accepts(one_op_agreements)
    both = Counter((a.checker, a.accelerator) for a in one_op_agreements.values())
    # The models tell the two apart: many that both take, many that both refuse.
    assert both["accepted", "accepted"] >= 80 and both["refused", "refused"] >= 60


def test_disagreements_are_those_of_the_document(one_op_agreements: dict[str, Agreement]) -> None:
    assert disagreements(one_op_agreements) == listed(recorded=False)


def test_recorded_models_too(recorded_agreements: dict[str, Agreement]) -> None:
    assert len(recorded_agreements) == 31 and not false_accepts(recorded_agreements)
    assert disagreements(recorded_agreements) == listed(recorded=True)


def test_most_ops_come_in_forms_taken_and_refused(tmp_path: Path) -> None:
    """The models would show a rule that takes all, or none, of an op which both occur in."""
    seen: dict[str, set[bool]] = {}
    for name, graph in MODELS.items():
        seen.setdefault(name.split(" ")[0], set()).add(check(tmp_path, graph).whole)
    assert len(MODELS) >= 90 and all(seen[op] == {True, False} for op in TAKEN_AND_REFUSED)
    assert all(seen[op] == {False} for op in REFUSED_IN_EVERY_FORM)


# ---- rules, without an accelerator ----


def test_general_rules_hold_for_every_op(tmp_path: Path) -> None:
    """Whatever the op: rank 5, a computed scalar, int64, string, int8, no static shape, no elements."""
    for name, graph in MODELS.items():
        report = check(tmp_path, graph)
        if not report.whole or len(graph.ops) > 1:
            continue
        outputs = set(graph.ops[0].outputs)
        computed = [i for i, o in enumerate(graph.operands) if o.data is None and i not in outputs]
        for place in computed:
            for change in (
                {"shape": (1, 1, 1, 1, 1)}, {"shape": ()}, {"shape": (0, 2)}, {"dtype": "int64"},
                {"dtype": "string"}, {"dtype": "int8", "scales": (0.5,), "zero_points": (0,)},
                {"dtype": "uint8", "scales": (0.5,), "zero_points": (0,)},
            ):  # fmt: skip
                changed = copy.deepcopy(graph)
                changed.operands[place] = with_(changed.operands[place], **change)
                assert judged(tmp_path, changed).accepted is False, (name, place, change)


def test_a_shape_that_may_be_resized_is_refused(tmp_path: Path) -> None:
    import one_op_model
    from ai_edge_litert import schema_py_generated as schema

    content = one_op_model.to_bytes(MODELS["TANH"])
    model = schema.ModelT.InitFromPackedBuf(content)
    model.subgraphs[0].tensors[0].shapeSignature = [-1, *MAP[1:]]
    builder = one_op_model.flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "resizable.tflite"
    path.write_bytes(builder.Output())
    (node,) = check_gpu(read_tflite(path)).nodes
    assert node.accepted is False and "no static shape" in node.reasons[0]


def test_reasons_and_fixes_of_what_a_naive_model_has(tmp_path: Path) -> None:
    """The lowering that is named mends it: its form is accepted."""
    ids, rows = given(1, 6, dtype="int32"), given(1, 6, 8)
    for naive, says, fix, mended in (
        (gather(fixed(10, 8), ids, rows), "Only support 1D indices", "GpuLowering.embedding",
         MODELS["GATHER along axis 2 of [1,1,V,C]"]),
        (MODELS["MUL outer product"], "outer product", "GpuLowering.mask and .masked",
         MODELS["ADD mask [1,1,1,S] beside [1,4,S,S]"]),
        (MODELS["ADD of rank 2 by a constant matrix"], "[H, W, C]", "GpuLowering.scaled and .add_positions",
         MODELS["ADD by a constant [1,1,1,C]"]),
        (MODELS["SPLIT of rank 5"], "less than 5", "GpuLowering.split_logits", MODELS["SLICE of rank 4"]),
        (MODELS["UNPACK of int32"], "type is not supported", "--target gpu", MODELS["SLICE of rank 4"]),
        (MODELS["SQUEEZE"], NOT_SUPPORTED, "RESHAPE", MODELS["RESHAPE of rank 4 to 2"]),
        (MODELS["PAD of rank 3"], "four dimensions", "CpuLowering.trigram_no_norm",
         MODELS["CONV_2D 1x3 SAME"]),
        (MODELS["FULLY_CONNECTED with a computed bias"], "bias", "CpuLowering.dense", MODELS["CONV_2D 1x1"]),
        (MODELS["ADD of int8"], "type is not supported", "--target gpu or --target float",
         MODELS["ADD of one shape"]),
    ):  # fmt: skip
        node = judged(tmp_path, naive)
        assert node.accepted is False and any(says in reason for reason in node.reasons), node
        assert fix in node.fix, node
        assert check(tmp_path, mended).whole


def test_every_fix_names_primitives_that_exist() -> None:
    pytest.importorskip("tensorflow")
    from mobilebert_kit.lowering.gpu import GpuLowering
    from mobilebert_kit.targets import TARGETS

    conditions = [rule.fix for rules in RULES.values() for rule in rules if rule.fix]
    for text in {*conditions, *FIXES["gpu"].values()}:
        for primitive in re.findall(r"(?<=Lowering\.)\w+|(?<= \.)[a-z_]+", text):
            assert hasattr(GpuLowering, primitive), text
        for target in re.findall(r"--target (\w+)", text):
            assert target in TARGETS, text


def test_malformed_nodes_are_unknown(tmp_path: Path) -> None:
    for graph, says in (
        (one_op("ADD", [given(*MAP), None], [given(*MAP)], options=options("AddOptions")), "no operand in1"),
        (conv(fixed(16, 1, 1, 8), None, (1, 1, 6, 8)), "no operand in2"),
        (gather(fixed(10, 8), None, given(6, 8)), "no operand in1"),
        (one_op("ADD", [given(*MAP)] * 2, []), "no operand out0"),
        (one_op("ADD", [given(*MAP)] * 2, [given(*MAP)], code=999), "op code 999 is newer"),
    ):
        node = judged(tmp_path, graph)
        assert node.accepted is None and says in node.reasons[0], node


def test_every_op_of_the_schema_gets_a_verdict(tmp_path: Path) -> None:
    assert not RULES.keys() & NOT_COVERED and (RULES.keys() | NOT_COVERED | FIXES["gpu"].keys()) <= set(
        OP_NAMES
    )
    for op in OP_NAMES:
        for operands in (0, 1, 3):
            node = judged(tmp_path, Graph([given(*MAP)] * 4, [Op(op, list(range(operands)), [3])], [0], [3]))
            if op in NOT_COVERED:
                assert node.accepted is None and "no rule of this checker covers" in node.reasons[0]
            elif op not in RULES:
                assert (node.accepted, node.reasons) == (False, (NOT_SUPPORTED,))
            assert node.accepted or node.reasons


def test_no_rule_trips_over_a_broken_node(tmp_path: Path) -> None:
    """Operands missing, exchanged, of other types, shapes and constants: always a verdict, with a reason."""
    generator = random.Random(7)
    odd = [
        *(given(), given(3), given(2, 3, 4, 5, 6), fixed(2, 2), constant([9, -9]), constant([0], "int64")),
        *(Operand("string", (2,)), Operand("int32", (0,), []), Operand("int8", (1, 2), 1, (0.5, 0.5))),
    ]
    verdicts = Counter()
    for graph in MODELS.values():
        for _ in range(8):
            broken = copy.deepcopy(graph)
            node = generator.choice(broken.ops)
            for _ in range(generator.randint(1, 3)):
                place = generator.randrange(len(broken.operands))
                broken.operands[place] = copy.deepcopy(generator.choice(odd))
            if node.inputs and generator.random() < 0.3:
                node.inputs[generator.randrange(len(node.inputs))] = -1
            if node.inputs and generator.random() < 0.2:
                node.inputs.pop()
            for judgement in check(tmp_path, broken).nodes:
                verdicts[judgement.accepted] += 1
                assert judgement.accepted or judgement.reasons
    assert verdicts[None] > 100 and verdicts[False] > 1000


# ---- float16 ----


def test_float16_weights_are_taken_with_all_else_or_not_at_all(tmp_path: Path) -> None:
    report = check(tmp_path, MODELS["CONV_2D of float16 weights"])
    assert report.whole and report.delegated == (0, 1)
    assert report.nodes[0].reasons == (CONSTANT_FLOAT16,)
    squeeze = copy.deepcopy(MODELS["ADD of a float16 vector"])
    squeeze.operands.append(given(4, 6, 8))
    squeeze.outputs = [4]
    squeeze.ops.append(Op("SQUEEZE", [3], [4], options=options("SqueezeOptions", squeezeDims=[0])))
    report = check(tmp_path, squeeze)
    assert [node.accepted for node in report.nodes] == [False, True, False]
    assert report.partitions == 1 and report.delegated == (1,) and not report.whole


def test_float16_needs_its_dequantize_but_in_a_table(tmp_path: Path) -> None:
    plain = dense([given(6, 8), fixed(16, 8, dtype="float16"), None], 6, 16)
    assert judged(tmp_path, plain).reasons == (PLAIN_FLOAT16,)
    assert check(tmp_path, MODELS["GATHER of float16 and CAST"]).whole
    gathered = check(tmp_path, MODELS["GATHER of a dequantized float16"]).nodes[1]
    assert gathered.accepted is False and "dtype mismatch" in gathered.reasons[0]
    assert "--target gpu_fp16" in gathered.fix
    output = judged(tmp_path, MODELS["DEQUANTIZE of a float16 that is an output"])
    assert (output.accepted, output.reasons) == (False, (IS_AN_OUTPUT,))


# ---- nodes together ----


def test_nodes_that_would_be_merged_wrongly_are_refused(tmp_path: Path) -> None:
    """The node that reads the parts, or that makes the output: not the others."""
    for name, says, places in (
        ("SPLIT and ADD of its parts", PARTS_MEET, [1]),
        ("SPLIT and ADD of a part and RELU of the other", PARTS_MEET, [2]),
        ("MUL that is an output, and CONV_2D", READ_ON, [0]),
        ("PAD twice, and ADD", PADDED_TWICE, [2]),
    ):
        report = check(tmp_path, MODELS[name])
        assert [node.index for node in report.refused] == places, name
        assert report.refused[0].reasons == (says,)
    for name in ("SPLIT and an op on each part", "SPLIT and BATCH_MATMUL of its parts", "MUL and CONV_2D"):
        assert check(tmp_path, MODELS[name]).whole, name


# ---- partitions ----


def test_the_largest_partition_alone_is_delegated(tmp_path: Path) -> None:
    shapes = [given(*MAP)] * 6
    nodes = [
        Op("TANH", [0], [1]),
        Op("L2_NORMALIZATION", [1], [2], options=options("L2NormOptions")),
        Op("ABS", [2], [3]),
        Op("NEG", [3], [4]),
        Op("FLOOR_MOD", [4, 2], [5]),
    ]
    path = write(tmp_path / "m.tflite", Graph(shapes, nodes, [0], [5]))
    report = check_gpu(read_tflite(path))
    assert [node.accepted for node in report.nodes] == [True, False, True, True, None]
    assert report.partitions == 2 and report.delegated == (2, 3)
    assert check_gpu(read_tflite(path), max_partitions=0).delegated == (0, 2, 3)


def test_attention_of_the_kit_is_taken_whole(tmp_path: Path) -> None:
    """The forms that the GPU file must have, each accepted: ids, attention, mask, logits."""
    for graph in (
        reshape((1, 384), (384,), "int32"),
        reshape((1, 384), (1, 1, 1, 384), "int32"),
        gather(fixed(1, 1, 30, 128), given(384, dtype="int32"), given(1, 1, 384, 128), axis=2),
        MODELS["CAST int32 to float32"],
        matmul(given(1, 4, 384, 32), given(1, 4, 384, 32), 1, 4, 384, 384, adjY=True),
        MODELS["SOFTMAX of rank 4"],
        MODELS["TRANSPOSE [0, 2, 1, 3]"],
        half("CONV_2D", (16, 1, 3, 8), [given(1, 1, 6, 8), fixed(16)], given(1, 1, 6, 16), [2, 1, 3],
             options=options("Conv2DOptions", strideW=1, strideH=1)),
    ):  # fmt: skip
        assert check(tmp_path, graph).whole
