"""`check` as a command: verdicts in words and as JSON, levels, exit codes, what it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import one_op_model as make
import pytest
from conftest import REPOSITORY
from one_op_model import F32, I8, IDS, Graph, Op, Operand, one_op, options, with_

from mobilebert_kit.delegates.macs import macs
from mobilebert_kit.delegates.tflite_file import read_tflite

BATCH = Operand("float32", (1, 2, 8, 4))
TURNED = with_(BATCH, shape=(1, 2, 4, 8))
SQUARE = with_(BATCH, shape=(1, 2, 8, 8))


def check(*arguments: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of the command."""
    command = [sys.executable, "-m", "mobilebert_kit.check", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def attention(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ADD, BATCH_MATMUL, ADD: NNAPI takes the ends at API 30, all of it at feature level 6."""
    graph = Graph(
        [BATCH, with_(F32, shape=(), data=1.0), BATCH, TURNED, SQUARE, SQUARE],
        [
            Op("ADD", [0, 1], [2], options=options("AddOptions")),
            Op("BATCH_MATMUL", [2, 3], [4], options=options("BatchMatMulOptions")),
            Op("ADD", [4, 1], [5], options=options("AddOptions")),
        ],
        [0, 3],
        [5],
    )
    return make.write(tmp_path_factory.mktemp("check") / "attention.tflite", graph)


def test_recorded_verdicts_as_json(shared: Path) -> None:
    """Every recorded model at every recorded API level in one call each."""
    folder = shared / "data" / "nnapi_vectors"
    recorded = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))["models"]
    names = ["fc_int8_perchannel", "bmm_int8", "fp16_mixed"]
    for name in names:
        path = folder / f"{name}.tflite"
        _, said, _ = check(path, "--delegate", "nnapi", "--api", "27..31", "--json")
        by_level = {str(report["api_level"]): report for report in json.loads(said)["reports"]}
        _, said, _ = check(path, "--delegate", "nnapi", "--feature_level", "6", "--json")
        by_level["fl6"] = json.loads(said)["reports"][0]
        assert set(by_level) == set(recorded[name])
        for level, nodes in recorded[name].items():
            got = [
                {key: node[key] for key in ("op", "version", "accepted", "reasons")}
                for node in by_level[level]["nodes"]
            ]
            assert got == [{key: node[key] for key in got[0]} for node in nodes], (name, level)


def test_says_what_is_refused_why_and_what_mends_it(attention: Path) -> None:
    code, said, error = check(attention, "--delegate", "nnapi", "--api", "30")
    assert code == 3 and error.startswith("error: Expected the whole model")
    assert "NNAPI, API 30: refuses 1 of 3 nodes; 2 partitions, 2 nodes delegated" in said
    assert "100.0% of the MACs fall back" in said
    assert "BATCH_MATMUL version 1, node 1: refused" in said
    assert "in1 't3' float32[1,2,4,8]" in said
    assert "fix: NnapiLowering.scores" in said


def test_json_has_every_node(attention: Path) -> None:
    code, said, _ = check(attention, "--delegate", "nnapi", "--api", "30", "--json")
    [report] = json.loads(said)["reports"]
    assert code == 3
    assert (report["delegate"], report["level"], report["partitions"]) == ("nnapi", "NNAPI, API 30", 2)
    assert [node["accepted"] for node in report["nodes"]] == [True, False, True]
    assert [node["index"] for node in report["nodes"]] == [0, 1, 2]
    assert report["nodes"][1]["reasons"] and report["nodes"][1]["fix"] and not report["nodes"][0]["fix"]
    assert report["macs_fallback_share"] == 1.0 and not report["whole"]


def test_a_whole_model_ends_with_0(attention: Path) -> None:
    code, said, error = check(attention, "--delegate", "nnapi", "--feature_level", "6")
    assert (code, error) == (0, "")
    assert said.splitlines()[2:] == ["NNAPI, feature level 6: takes all 3 nodes, in one partition"]


def test_an_unknown_op_is_neither_accepted_nor_passed(tmp_path: Path) -> None:
    path = make.write(tmp_path / "new.tflite", one_op("ADD", [F32, F32], [F32], code=900))
    for delegate in ("gpu", "nnapi", "xnnpack"):
        code, said, _ = check(path, "--delegate", delegate, "--json")
        [node] = json.loads(said)["reports"][0]["nodes"]
        assert code == 3 and node["accepted"] is None and "newer than this checker" in node["reasons"][0]


def test_all_delegates_by_default_and_levels_as_a_range(attention: Path) -> None:
    code, said, _ = check(attention, "--api", "27..34,28", "--json")
    levels = [(report["delegate"], report["api_level"]) for report in json.loads(said)["reports"]]
    assert code == 3
    assert levels[0][0] == "gpu" and levels[-1][0] == "xnnpack"
    assert [level for name, level in levels if name == "nnapi"] == [*range(27, 35), 28]


def test_every_subgraph_is_checked(tmp_path: Path, exported: Path) -> None:
    """One refused in the second only."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(make.to_bytes(one_op("ADD", [F32, F32], [F32], options=None)), 0)
    second = schema.ModelT.InitFromPackedBuf(make.to_bytes(one_op("HASHTABLE", [], [F32])), 0)
    assert len(second.subgraphs) == 1
    second.subgraphs[0].operators[0].opcodeIndex = 1
    model.operatorCodes += second.operatorCodes
    model.subgraphs += second.subgraphs
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "two.tflite"
    path.write_bytes(builder.Output())
    code, said, _ = check(path, "--delegate", "nnapi")
    assert code == 3 and "NNAPI, API 30, subgraph 0: takes all 1 nodes" in said
    assert "NNAPI, API 30, subgraph 1: refuses 1 of 1 nodes" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Expected MODEL.tflite and flags (--name value), got 'no argument'"),
        (["a.tflite", "b.tflite"], "got 'a.tflite b.tflite'"),
        (["absent.tflite"], "absent.tflite: expected a readable .tflite model"),
        (["README.md"], "README.md: expected a well-formed .tflite model"),
        (["MODEL", "--delegate", "hexagon"], "Expected --delegate to be of gpu, nnapi, xnnpack, got hexagon"),
        (["MODEL", "--delegate", ""], "got none"),
        (["MODEL", "--api", "26"], "Expected an Android API level from 27"),
        (["MODEL", "--api", "27..99999999999"], "Expected an Android API level from 27"),
        (["MODEL", "--api", "eleven"], "Expected --api to be like 30, 28,30 or 27..34, got 'eleven'"),
        (["MODEL", "--api", "34..27"], "Expected --api to be like"),
        (["MODEL", "--feature_level", "9"], "Expected an NNAPI feature level from 1 to 8"),
        (["MODEL", "--run", "--delegate", "nnapi"], "Expected --run with --delegate gpu"),
    ],
)
def test_wrong_flags_and_files_end_with_2(arguments: list[str], says: str, attention: Path) -> None:
    code, said, error = check(*(attention if a == "MODEL" else a for a in arguments))
    assert (code, said) == (2, "") and says in error and error.startswith("error: ")
    assert "Traceback" not in error


def test_any_name_can_be_printed(tmp_path: Path) -> None:
    """A tensor and a file named outside the terminal's encoding, and a file name that is no text at all."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.tflite"))
    make.write(path, one_op("HASHTABLE", [with_(F32, name="größe \N{SNOWMAN}")], [F32]))
    command = [sys.executable, "-m", "mobilebert_kit.check", os.fsencode(path), "--delegate", "nnapi"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True)
    assert done.returncode == 3 and b"Traceback" not in done.stderr, done.stderr
    assert rb"gr\xf6\xdfe \u2603" in done.stdout


def test_needs_no_tensorflow(attention: Path) -> None:
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from mobilebert_kit import check, main\n"
        f"main.run(check.main, ['check', {str(attention)!r}, '--delegate', 'xnnpack'], arguments=('M',))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert "XNNPACK: " in done.stdout, done.stderr


def test_run_on_the_accelerator(accelerator: object, attention: Path) -> None:
    code, said, error = check(attention, "--delegate", "gpu", "--run")
    assert (code, error) == (0, "")
    assert "LiteRT's GPU accelerator, run on" in said and "fully accelerated" in said
    assert "largest difference to the CPU's outputs" in said


def test_run_tells_what_the_accelerator_refuses(accelerator: object, tmp_path: Path) -> None:
    table = Operand("float32", (10, 4), 1.0)
    rows = Operand("float32", (1, 8, 4))
    graph = one_op("GATHER", [table, IDS], [rows], options=options("GatherOptions"))
    path = make.write(tmp_path / "gather.tflite", graph)
    code, said, _ = check(path, "--delegate", "gpu", "--run")
    assert code == 3 and "not fully accelerated" in said
    assert "refuses GATHER (1 nodes): Only support 1D indices" in said
    code, said, _ = check(path, "--delegate", "gpu", "--run", "--json")
    assert code == 3 and json.loads(said)["run"]["refusals"][0]["op"] == "GATHER"


def test_run_without_a_driver_names_the_remedy(attention: Path) -> None:
    environment = {**os.environ, "VK_DRIVER_FILES": "/nonexistent/icd.json"}
    command = [sys.executable, "-m", "mobilebert_kit.check", str(attention), "--delegate", "gpu", "--run"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "chromium" in done.stderr and done.stdout == ""


MACS = {
    "CONV_2D": (
        [with_(F32, shape=(1, 5, 6, 3)), with_(F32, shape=(8, 3, 2, 3))],
        (1, 5, 6, 8),
        5 * 6 * 8 * 18,
    ),
    "DEPTHWISE_CONV_2D": (
        [with_(F32, shape=(1, 5, 6, 4)), with_(F32, shape=(1, 3, 3, 4))],
        (1, 5, 6, 4),
        5 * 6 * 4 * 9,
    ),
    "FULLY_CONNECTED": ([with_(F32, shape=(7, 4)), with_(F32, shape=(5, 4)), None], (7, 5), 7 * 5 * 4),
    "BATCH_MATMUL": ([BATCH, TURNED], (1, 2, 8, 8), 2 * 8 * 8 * 4),
    "TRANSPOSE_CONV": (
        [with_(IDS, shape=(4,)), with_(F32, shape=(2, 3, 3, 4)), with_(F32, shape=(1, 5, 5, 4))],
        (1, 10, 10, 2),
        5 * 5 * 4 * 9 * 2,
    ),
    "ADD": ([F32, F32], (1, 4), 0),
}


@pytest.mark.parametrize("op", MACS)
def test_multiply_accumulates(op: str, tmp_path: Path) -> None:
    inputs, shape, expected = MACS[op]
    graph = one_op(op, inputs, [with_(F32, shape=shape)])
    assert macs(read_tflite(make.write(tmp_path / "m.tflite", graph)).main) == (expected,)


def test_malformed_nodes_have_no_macs(tmp_path: Path) -> None:
    for graph in (
        one_op("CONV_2D", [F32], [F32]),
        one_op("FULLY_CONNECTED", [F32, with_(F32, shape=())], [I8]),
        one_op("CONV_2D", [F32, F32], []),
        one_op("BATCH_MATMUL", [with_(F32, shape=()), F32], [F32]),
    ):
        assert macs(read_tflite(make.write(tmp_path / "m.tflite", graph)).main) == (0,)
