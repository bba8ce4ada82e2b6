"""tools/run_on_device.sh, with stand-ins for adb, ssh and benchmark_model: no device is at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import REPOSITORY

from mobilebert_kit.android.delegation import check_delegation, parse_delegations
from mobilebert_kit.android.reading import read_bundle
from mobilebert_kit.errors import CheckFailed

# The device's root is a folder; what FAILS names breaks, as where the cable is pulled.
ADB = """
    #!/bin/sh
    [ "$1" = "$FAILS" ] && exit 1
    case $1 in
    get-state) echo device ;;
    push) mkdir -p "$DEVICE/data/local/tmp" && cp -r "$2" "$DEVICE$3" ;;
    pull) cp -r "$DEVICE$2" "$3" ;;
    shell) sh -c "$(echo "$2" | sed "s#/data/local/tmp#$DEVICE/data/local/tmp#g")" ;;
    esac
"""
SSH = """
    #!/bin/sh
    shift 2
    echo "$1" >> "$DEVICE/hosts"
    sh -c "$(echo "$2" | sed "s#/tmp/mobilebert_kit#$DEVICE/mobilebert_kit#g")"
"""
# Does what TensorFlow Lite's does with these flags.
BENCHMARK_MODEL = """
    #!{python}
    import os, sys
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    flags = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
    interpreter = Interpreter(model_path=flags["graph"])
    interpreter.allocate_tensors()
    files = dict(pair.split(":") for pair in flags["input_layer_value_files"].split(","))
    names = flags["input_layer"].split(",")
    for name, tensor in zip(names, interpreter.get_input_details(), strict=True):
        interpreter.set_tensor(tensor["index"], np.fromfile(files[name], "<i4").reshape(tensor["shape"]))
    interpreter.invoke()
    print(os.environ["PRINTS"])
    with open(flags["output_filepath"], "wb") as out:
        for tensor in interpreter.get_output_details():
            out.write(interpreter.get_tensor(tensor["index"]).astype("<f4").tobytes())
"""
LINE = (
    "VERBOSE: Replacing {} out of {} node(s) with delegate ({}) node, yielding 1 partitions for subgraph 0."
)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "device").mkdir()
    for name, text in (("adb", ADB), ("ssh", SSH), ("benchmark_model", BENCHMARK_MODEL)):
        text = text.replace("{python}", sys.executable)
        (folder / name).write_text(textwrap.dedent(text).lstrip())
        (folder / name).chmod(0o755)
    return folder


def run(
    programs: Path, bundled: Path, *arguments: object, prints: str = "", fails: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PYTHON": sys.executable, "PATH": f"{programs}:{os.environ['PATH']}",
        "DEVICE": str(programs.parent / "device"), "PRINTS": prints, "FAILS": fails, **more,
    }  # fmt: skip
    command = [REPOSITORY / "tools/run_on_device.sh", "--bundle", bundled, "--num_questions", 4, *arguments]
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def left(programs: Path) -> set[str]:
    """What is in the test's folder, and on the device, besides what was there."""
    names = {path.name for path in programs.parent.iterdir()} - {"bin", "device"}
    on_device = {path.name for path in (programs.parent / "device").rglob("*")}
    return names | (on_device - {"data", "local", "tmp", "hosts"})


def promised(bundled: Path, delegate: str) -> tuple[int, int]:
    model = read_bundle(bundled).model(delegate)
    return model.delegated_nodes, model.nodes


def test_over_adb(bundled: Path, programs: Path) -> None:
    taken, nodes = promised(bundled, "nnapi")
    out = programs.parent / "out"
    done = run(
        programs, bundled, "--delegate", "nnapi", "--adb", "--benchmark_model", programs / "benchmark_model",
        "--output_dir", out, prints=LINE.format(taken, nodes, "TfLiteNnapiDelegate"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"delegated    {taken} of {nodes} nodes" in done.stdout and "4 of 4 answers" in done.stdout
    windows = json.loads((out / "windows.json").read_text(encoding="utf-8"))
    assert windows["delegate"] == "nnapi" and len(windows["unique_ids"]) == 4
    assert (out / "logits.bin").stat().st_size == 4 * 2 * 96 * 4
    assert left(programs) == {"out"}


@pytest.mark.parametrize(
    ("too_few", "fails", "message"),
    [
        (1, "", "nodes of mobilebert_int8_96_nnapi.tflite, got {}, in 1 partitions"),
        (0, "pull", "Expected the device to give the results, got a failure"),
    ],
)
def test_a_device_that_does_not_do_it(
    bundled: Path, programs: Path, too_few: int, fails: str, message: str
) -> None:
    """Too few nodes, or it disconnects after its work: exit 3, and nothing is kept."""
    promise, nodes = promised(bundled, "nnapi")
    done = run(
        programs, bundled, "--delegate", "nnapi", "--adb", "--benchmark_model", programs / "benchmark_model",
        "--output_dir", programs.parent / "out", "--num_questions", 1,
        prints=LINE.format(promise - too_few, nodes, "TfLiteNnapiDelegate"), fails=fails,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert message.format(promise - too_few) in done.stderr
    assert left(programs) == set()


@pytest.mark.parametrize(("step", "code"), [("get-state", 2), ("shell", 3)])
def test_a_device_that_is_gone(bundled: Path, programs: Path, step: str, code: int) -> None:
    done = run(
        programs, bundled, "--delegate", "gpu", "--adb", "--benchmark_model", programs / "benchmark_model",
        "--output_dir", programs.parent / "out", "--num_questions", 1, fails=step,
    )  # fmt: skip
    assert done.returncode == code and "error: Expected" in done.stderr
    assert "out" not in left(programs)


def test_over_ssh_with_the_kit(bundled: Path, programs: Path) -> None:
    out = programs.parent / "out"
    done = run(
        programs, bundled, "--delegate", "cpu", "--ssh", "pi@host", "--python", sys.executable,
        "--output_dir", out, PYTHONPATH=str(REPOSITORY),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 of 4 answers" in done.stdout and "delegated    not checked" in done.stdout
    assert len(json.loads((out / "predictions.json").read_text(encoding="utf-8"))) == 4
    assert set((programs.parent / "device/hosts").read_text().split()) == {"pi@host"}
    assert left(programs) == {"out"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Expected --bundle, --delegate, --output_dir, and --adb or --ssh HOST"),
        (["--what"], "got '--what'"),
        (["--delegate"], "Expected a value after --delegate"),
        (["--delegate", "cpu", "--adb", "--output_dir", "OUT"], "Expected --benchmark_model"),
        (["--delegate", "cpu", "--adb", "--python", "p", "--output_dir", "OUT"], "Android has none"),
        (["--delegate", "gpu", "--ssh", "h", "--python", "p", "--output_dir", "OUT"], "--delegate cpu"),
        (["--delegate", "cpu", "--adb", "--benchmark_model", "no", "--output_dir", "OUT"], "got no file"),
        (["--delegate", "cpu", "--ssh", "h", "--python", "p", "--output_dir", "/"], "/ exists"),
    ],
)
def test_wrong_flags(programs: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    """Told before the bundle is looked at, or the device."""
    given = [argument.replace("OUT", str(tmp_path / "out")) for argument in arguments]
    done = run(programs, tmp_path / "no-bundle", *given)
    assert (done.returncode, done.stdout) == (2, "") and message in done.stderr
    assert left(programs) == set()


def test_a_damaged_bundle_stays_here(programs: Path, tmp_path: Path) -> None:
    done = run(
        programs, tmp_path / "no-bundle", "--delegate", "cpu", "--ssh", "h", "--python", "p",
        "--output_dir", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 2 and "no such file" in done.stderr
    assert left(programs) == set()


# Lines that phones have printed
LOGS = {
    "VERBOSE: Replacing 31 out of 31 node(s) with delegate (TfLiteNnapiDelegate) node, yielding 1 partitions "
    "for the whole graph.": [("TfLiteNnapiDelegate", 31, 1)],
    "INFO: Replacing 5 node(s) with delegate (TfLiteNnapiDelegate) node, yielding 1 partitions.": [
        ("TfLiteNnapiDelegate", 5, 1)
    ],
    "I  Replacing 29 out of 482 node(s) with delegate (TfLiteNnapiDelegate) node, yielding 7 partitions for "
    "the whole graph.\nReplacing 440 out of 460 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding "
    "9 partitions for subgraph 0.": [("TfLiteNnapiDelegate", 29, 7), ("TfLiteXNNPackDelegate", 440, 9)],
    "Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.": [],
}


@pytest.mark.parametrize("log", LOGS)
def test_lines_of_delegates(log: str) -> None:
    assert [(d.name, d.taken, d.partitions) for d in parse_delegations(log)] == LOGS[log]


def test_other_delegates_lines_and_failures_after_the_line(bundled: Path) -> None:
    model = read_bundle(bundled).model("nnapi")
    line = LINE.format(model.delegated_nodes, model.nodes, "TfLiteNnapiDelegate")
    assert check_delegation(line, model).taken == model.delegated_nodes
    other = LINE.format(model.delegated_nodes, model.nodes, "TfLiteXNNPackDelegate")
    with pytest.raises(
        CheckFailed, match=f"no line of it; other delegates: TfLiteXNNPackDelegate {model.nodes}"
    ):
        check_delegation(other, model)
    with pytest.raises(CheckFailed, match="failed to prepare"):
        check_delegation(
            f"{line}\nERROR: Restored original execution plan after delegate application failure.", model
        )
