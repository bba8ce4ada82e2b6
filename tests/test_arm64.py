"""tools/check_arm64.py: its comparison by hand, its work with a stand-in for QEMU, and with QEMU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import one_op_model as make
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import REPOSITORY
from one_op_model import Graph, Op, Operand
from small_export import write_squad
from tiny_question_model import VOCAB, write_vocab

from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.errors import InputError
from tools.arm64_comparison import agreement, logit_step
from tools.arm64_logits import Outcome, delegated_partitions, load_outcome
from tools.arm64_root import STAMP, arm64_root, stamp

LENGTH = 96
STEPS = (0.25, 0.125)  # of end and start: what differs by 2 steps differs by 0.25
ROOT = REPOSITORY / "build/arm64_root"

# Runs this machine's Python, and then changes the first model's outcome as the test says.
EMULATOR = """
    #!{python}
    import subprocess, sys, time
    import numpy as np
    if sys.argv[1:] == ["--version"]:
        print("a stand-in for QEMU")
        sys.exit()
    _, cpu_flag, cpu, folder_flag, root, python, *arguments = sys.argv
    assert (cpu_flag, cpu, folder_flag) == ("-cpu", "cortex-a53", "-L")
    assert "CPU part\\t: 0xd03\\n" in open(root + "/proc/cpuinfo").read()
    assert python == root + "/usr/bin/python3.11"
    if subprocess.call([sys.executable, *arguments]):
        sys.exit(2)
    path = next(text for text in arguments if text.startswith("--folder=")).partition("=")[2] + "/0.npz"
    outcome = dict(np.load(path))
    {change}
    np.savez(path, **outcome)
"""


def model(folder: Path, *, quantized: bool = True) -> Path:
    """end = RESHAPE(GATHER(table, ids)), start of another table; the other inputs are not looked at."""
    rng = np.random.default_rng(3)
    tables = rng.integers(-100, 100, (2, len(VOCAB)), dtype=np.int8)
    ids = [Operand("int32", (1, LENGTH), name=name) for name in ("input_ids", "input_mask", "segment_ids")]
    operands, ops = [*ids, Operand("int32", (2,), (1, LENGTH))], []
    for table, step, name in zip(tables, STEPS, ("end_logits", "start_logits"), strict=True):
        first, many = len(operands), {"scales": (step,), "zero_points": (4,)} if quantized else {}
        dtype = "int8" if quantized else "float32"
        operands += [
            Operand(dtype, table.shape, table, **many),
            Operand(dtype, (1, LENGTH), **many),
            Operand(dtype, (1, LENGTH), **many),
            Operand("float32", (1, LENGTH), name=name),
        ]
        ops += [
            Op("GATHER", [first, 0], [first + 1], options=make.options("GatherOptions")),
            Op("RESHAPE", [first + 1, 3], [first + 2], options=make.options("ReshapeOptions")),
            Op("DEQUANTIZE" if quantized else "ABS", [first + 2], [first + 3]),
        ]
    outputs = [op.outputs[0] for op in ops[2::3]]
    write_vocab(folder)
    return make.write(folder / "model.tflite", Graph(operands, ops, [0, 1, 2], outputs))


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, with vocab.txt and questions.json beside it."""
    folder = tmp_path_factory.mktemp("int8")
    write_squad(folder / "questions.json")
    return model(folder)


def outcome(**changes: object) -> Outcome:
    arrays = {
        "machine": np.array("any"), "input_ids": np.zeros((3, 4), np.int32), "start": np.zeros((3, 4)),
        "end": np.zeros((3, 4)), "answers": np.array(["a", "b", "c"]), "partitions": np.array([2]),
        "seconds": np.ones(3),
    }  # fmt: skip
    return Outcome(**(arrays | changes))


def test_the_step_is_the_smallest_scale_before_the_logits(int8: Path) -> None:
    assert logit_step(read_tflite(int8)) == min(STEPS)


def test_float_logits_have_no_step(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="Expected quantized logits, as int8 and nnapi have, got 'end_logits'"
    ):
        logit_step(read_tflite(model(tmp_path, quantized=False)))


def test_agreement_counts_steps_windows_and_logits() -> None:
    """0.1 is no binary fraction: 3 x 0.1 - 0.1 is above 0.2, and yet it is two steps."""
    one = outcome(end=np.full((3, 4), 0.1, np.float32))
    ends = one.end.copy()
    ends[2, 1], ends[0, 0] = np.float32(0.1) * 3, 0
    ids = np.zeros((3, 4), np.int32)
    ids[1, 3] = 7
    found = agreement(one, outcome(end=ends, input_ids=ids, answers=np.array(["a", "x", "y"])), 0.1)
    assert (found.windows, found.other_tokens, found.other_answers, found.steps) == (3, 1, 2, 2)
    assert found.differing == 2 / 24
    assert agreement(one, one, 0.1).steps == 0


def test_an_outcome_is_saved_and_read_again(tmp_path: Path) -> None:
    one = outcome(answers=np.array(["Åse", "", "漢"]))
    one.save(tmp_path / "0.npz")
    again = load_outcome(tmp_path / "0.npz")
    assert all(np.array_equal(getattr(again, name), value) for name, value in vars(one).items())


def test_delegated_nodes(int8: Path) -> None:
    """XNNPACK has no GATHER; RESHAPE and DEQUANTIZE of both outputs are nodes 1, 2, 4 and 5."""
    assert [sorted(partition) for partition in delegated_partitions(Interpreter(str(int8)))] == [[1, 2, 4, 5]]


def check(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, REPOSITORY / "tools/check_arm64.py", *arguments]
    return subprocess.run(
        list(map(str, command)), env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


def check_with_stand_in(
    int8: Path, folder: Path, change: str, *more: object
) -> subprocess.CompletedProcess[str]:
    root = folder / "root"
    root.mkdir()
    (root / STAMP).write_text(json.dumps(stamp()), encoding="utf-8")
    emulator = folder / "qemu"
    emulator.write_text(textwrap.dedent(EMULATOR).lstrip().format(python=sys.executable, change=change))
    emulator.chmod(0o755)
    return check(
        f"--model={int8}", "--dataset", int8.parent / "questions.json", "--windows=4", "--cpus=cortex-a53",
        "--root", root, "--emulator", emulator, "--output", folder / "result.json", *more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ("", 0, "| 0             | 0                 | 0.00%"),
        ("outcome['end'][1, 2] -= 2 * 0.125", 0, "largest difference, steps: 2 (at most 2: yes)"),
        ("outcome['start'][1, 2] += 3 * 0.125", 3, "largest difference, steps: 3 (at most 2: NO)"),
        ("outcome['answers'][3] = '?'", 3, "windows with other answers: 1 (at most 0: NO)"),
        ("outcome['input_ids'][0, 0] += 1", 3, "windows with other tokens: 1 (at most 0: NO)"),
        (
            "outcome['partitions'] = np.array([3])",
            3,
            "nodes that XNNPACK leaves of those that check promises: 1",
        ),
    ],
)
def test_what_another_machine_may_do(int8: Path, tmp_path: Path, change: str, code: int, said: str) -> None:
    done = check_with_stand_in(int8, tmp_path, change)
    assert done.returncode == code, done.stderr
    assert said in done.stdout
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    (row,) = result["results"]
    assert (row["step"], row["windows"], row["promised_nodes"], row["nodes_here"]) == (0.125, 4, 4, [4])
    assert result["emulator"] == "a stand-in for QEMU"


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        (
            "sys.exit('Illegal instruction')",
            (),
            "Expected cortex-a53 to run, got exit code 1: Illegal instruction",
        ),
        ("time.sleep(60)", ("--timeout_s=3",), "Expected cortex-a53 to be done in 3 s, got no end"),
    ],
)
def test_an_emulator_that_fails(
    int8: Path, tmp_path: Path, change: str, more: tuple[str], message: str
) -> None:
    done = check_with_stand_in(int8, tmp_path, change, *more)
    assert done.returncode == 3 and message in done.stderr
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model"),
        (["--model=M", "--cpus=cortex-a53,z80"], "cortex-a76, max, max-sme, got z80"),
        (["--model=M", "--cpus="], "got none"),
        (["--model=M", "--emulator=no-such-qemu"], "Expected no-such-qemu on PATH, got none"),
        (["--model=M", "--output=no/such/folder.json"], "Expected the folder of no/such"),
        (["--model=no-such.tflite", "--emulator=sh"], "no-such.tflite: expected a readable .tflite model"),
        (["--model=M", "--emulator=sh", "--windows=10"], "Expected 10 windows"),
    ],
)  # fmt: skip
def test_wrong_flags(int8: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    """Told before a root is made."""
    given = [argument.replace("--model=M", f"--model={int8}") for argument in arguments]
    done = check(*given, "--dataset", int8.parent / "questions.json", "--root", tmp_path / "root")
    assert done.returncode == 2 and message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_only_a_whole_root_of_these_packages_is_used(tmp_path: Path) -> None:
    """Another folder is no root, and stays as it is; nor is one of older packages."""
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="made by the kit"):
        arm64_root(tmp_path)
    older = stamp() | {"debian": ["buster"]}
    (tmp_path / STAMP).write_text(json.dumps(older), encoding="utf-8")
    with pytest.raises(InputError, match="Expected an arm64 root of these constraints, got another"):
        arm64_root(tmp_path)
    (tmp_path / STAMP).write_text(json.dumps(stamp()), encoding="utf-8")
    assert arm64_root(tmp_path) == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", STAMP}


def test_a_root_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    """A mirror that nobody serves: port 9 of this machine."""
    with pytest.raises(InputError, match=r"Expected to .* arm64"):
        arm64_root(tmp_path / "new/root", mirror="http://127.0.0.1:9/debian")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not (ROOT / STAMP).is_file() or shutil.which("qemu-aarch64-static") is None,
    reason="no build/arm64_root (tools/check_arm64.py makes it), or no QEMU (Debian: qemu-user-static)",
)
def test_on_an_emulated_cpu(int8: Path, tmp_path: Path) -> None:
    done = check(
        f"--model={int8}", "--dataset", int8.parent / "questions.json", "--windows=4", "--cpus=cortex-a53",
        "--output", tmp_path / "result.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "x86_64 against aarch64" in done.stdout
