"""Models of one op or two on LiteRT's GPU accelerator, and what becomes of the process that runs it.

What the accelerator takes and refuses here is ai-edge-litert 2.3.0's own word, not a rule of the kit.
"""

from __future__ import annotations

import select
import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from one_op_model import Graph, Op, Operand, constant, one_op, options, with_, write

from mobilebert_kit.delegates import read_tflite
from mobilebert_kit.errors import InputError
from mobilebert_kit.runtime import vulkan
from mobilebert_kit.runtime.accelerator import (
    AcceleratorRun,
    Refusal,
    find_vulkan_driver,
    largest_difference,
    model_inputs,
    run_on_accelerator,
)
from mobilebert_kit.runtime.accelerator_log import parse_log

IMAGE = Operand("float32", (1, 4, 8, 16))
SQUARE = Operand("float32", (1, 8, 8))
LONG = Operand("int64", (1, 4))
HUGE = Operand("float32", (1, 1, 40000, 40000))
ADD = one_op("ADD", [IMAGE, IMAGE], [IMAGE], options=options("AddOptions"))
SPECTRUM = one_op(
    "RFFT2D",
    [SQUARE, constant([8, 8])],
    [Operand("complex64", (1, 8, 5))],
    options=options("Rfft2dOptions"),
)
MATRIX_SQUARED = Graph(
    [SQUARE, SQUARE], [Op("BATCH_MATMUL", [0, 0], [1], options=options("BatchMatMulOptions"))]
)


def written(folder: Path, graph: Graph) -> Path:
    return write(folder / "model.tflite", graph)


def run_model(path: Path, count: int = 1, **more: object) -> tuple[AcceleratorRun, float]:
    inputs = model_inputs(read_tflite(path), count, seed=0)
    run = run_on_accelerator(path, inputs, **more)
    return run, largest_difference(run, path, inputs)


@pytest.mark.usefixtures("accelerator")
def test_a_model_that_it_takes_whole_gives_the_right_sums(tmp_path: Path) -> None:
    path = written(tmp_path, ADD)
    inputs = model_inputs(read_tflite(path), 2, seed=3)
    run = run_on_accelerator(path, inputs)
    assert run.fully_accelerated, run
    assert (run.refusals, run.failure, run.precision) == ((), "", "float32")
    assert run.device
    for given, computed in zip(inputs, run.outputs, strict=True):
        assert list(computed) == ["t2"]
        np.testing.assert_array_equal(computed["t2"], given["t0"] + given["t1"])
    assert largest_difference(run, path, inputs) == 0.0


@pytest.mark.usefixtures("accelerator")
def test_without_inputs_it_is_compiled_only(tmp_path: Path) -> None:
    run = run_on_accelerator(written(tmp_path, ADD))
    assert run.fully_accelerated
    assert run.outputs == ()
    with pytest.raises(ValueError, match="run with outputs"):
        largest_difference(run, tmp_path / "model.tflite", [])


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize("enforce_f32", [True, False])
def test_it_computes_in_the_precision_that_it_reports(tmp_path: Path, enforce_f32: bool) -> None:
    # float16 ends at 65504, and has 2**-10 beside 1.
    path = written(tmp_path, ADD)
    inputs = [
        {"t0": np.full(IMAGE.shape, v, "float32"), "t1": np.ones(IMAGE.shape, "float32")}
        for v in (1e5, 2**-12)
    ]
    run = run_on_accelerator(path, inputs, enforce_f32=enforce_f32)
    sums = [float(outputs["t2"].ravel()[0]) for outputs in run.outputs]
    assert (run.precision == "float32") == (sums == [100001.0, 1 + 2**-12])
    assert run.precision == "float32" or not enforce_f32


@pytest.mark.usefixtures("accelerator")
def test_an_op_that_it_refuses_is_named_with_the_reason(tmp_path: Path) -> None:
    path = written(tmp_path, SPECTRUM)
    run = run_on_accelerator(path, model_inputs(read_tflite(path), 1, seed=0))
    assert not run.fully_accelerated
    assert run.refusals == (Refusal("RFFT2D", "Operation is not supported.", 1),)
    assert (run.on_gpu, run.on_cpu) == (0, 1)
    assert "in part only" in run.failure
    assert run.outputs == ()


@pytest.mark.usefixtures("accelerator")
def test_the_parent_survives_the_death_of_the_accelerator(tmp_path: Path) -> None:
    path = written(tmp_path, MATRIX_SQUARED)
    run = run_on_accelerator(path, model_inputs(read_tflite(path), 1, seed=0))
    assert not run.fully_accelerated
    assert run.failure.startswith(("aborted by SIG", "ended itself with exit status"))
    assert "is already a consumer" in run.failure
    assert run.outputs == ()
    assert run_model(written(tmp_path, ADD))[0].fully_accelerated


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize(
    ("graph", "failure"),
    [
        (Graph([IMAGE], [], [0], [0]), "no operations"),
        (one_op("ADD", [LONG, LONG], [LONG], options=options("AddOptions"), version=4), "in part only"),
        (
            one_op(
                "EQUAL",
                [Operand("string", (1, 4))] * 2,
                [Operand("bool", (1, 4))],
                options=options("EqualOptions"),
            ),
            "model input type is not supported",
        ),
        (
            one_op("ADD", [HUGE, HUGE], [HUGE], options=options("AddOptions")),
            "allocation size",
        ),
    ],
    ids=["no ops", "int64", "strings", "too large"],
)
def test_what_it_cannot_run_fails_with_its_own_words(tmp_path: Path, graph: Graph, failure: str) -> None:
    run = run_on_accelerator(written(tmp_path, graph))
    assert not run.fully_accelerated
    assert failure in run.failure
    assert "Traceback" not in run.failure


@pytest.mark.usefixtures("accelerator")
def test_a_model_without_inputs_runs(tmp_path: Path) -> None:
    graph = one_op(
        "ADD", [with_(IMAGE, data=1.0), with_(IMAGE, data=2.0)], [IMAGE], options=options("AddOptions")
    )
    run, difference = run_model(written(tmp_path, graph))
    np.testing.assert_array_equal(run.outputs[0]["t2"], np.full(IMAGE.shape, 3.0))
    assert difference == 0.0


@pytest.mark.usefixtures("accelerator")
def test_a_wrong_result_of_the_accelerator_shows_in_the_difference(tmp_path: Path) -> None:
    # An output that is an input too: 2.3.0 compiles it, and leaves that output unwritten.
    graph = Graph([IMAGE] * 3, [Op("ADD", [0, 1], [2], options=options("AddOptions"))], [0, 1], [2, 0])
    run, difference = run_model(written(tmp_path, graph))
    assert run.fully_accelerated
    assert difference > 0.1


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[subprocess.Popen]:
    """The processes that the kit starts. Its temporary folders lie in tmp_path / "temporary"."""
    processes = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, **more)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return processes


@pytest.mark.usefixtures("accelerator")
def test_a_timeout_kills_the_child(tmp_path: Path, started: list[subprocess.Popen]) -> None:
    run = run_on_accelerator(written(tmp_path, ADD), timeout=0.01)
    assert not run.fully_accelerated
    assert run.failure == "timed out after 0.01 s"
    assert [process.returncode for process in started] == [-signal.SIGKILL]
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.usefixtures("accelerator")
def test_an_interrupt_kills_the_child(
    tmp_path: Path, started: list[subprocess.Popen], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(select, "select", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_on_accelerator(written(tmp_path, ADD))
    assert [process.returncode for process in started] == [-signal.SIGKILL]
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_broken_file_reaches_no_native_code(tmp_path: Path, started: list[subprocess.Popen]) -> None:
    path = written(tmp_path, ADD)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="well-formed"):
        run_on_accelerator(path)
    assert started == []


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"t0": np.zeros(IMAGE.shape, "float32")}, "Expected the inputs t0, t1, got t0"),
        ({"t0": np.zeros(IMAGE.shape), "t1": np.zeros(IMAGE.shape)}, "t0 to be float32 .*, got float64"),
        ({"t0": np.zeros((4, 8, 16), "float32"), "t1": np.zeros(3)}, r"\[1, 4, 8, 16\], got .*\[4, 8, 16\]"),
    ],
)
def test_other_inputs_than_the_models_are_refused(
    tmp_path: Path, inputs: dict, message: str, started: list[subprocess.Popen]
) -> None:
    with pytest.raises(InputError, match=message):
        run_on_accelerator(written(tmp_path, ADD), [inputs])
    assert started == []


def test_no_driver_is_an_error_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, ADD)
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "nowhere.json"))
    with pytest.raises(InputError, match=r"nowhere\.json.*install chromium") as raised:
        run_on_accelerator(path)
    assert raised.value.exit_code == 2
    monkeypatch.delenv("VK_DRIVER_FILES")
    monkeypatch.delenv("VK_ICD_FILENAMES", raising=False)
    monkeypatch.setattr(vulkan, "SYSTEM_FOLDERS", (tmp_path / "icd.d",))
    monkeypatch.setattr(vulkan, "SWIFTSHADER", ())
    with pytest.raises(InputError, match=r"icd\.d.*install chromium"):
        run_on_accelerator(path)


def test_a_driver_without_a_device_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "broken.json"
    driver.write_text(
        '{"file_format_version": "1.0.0", "ICD": {"library_path": "./absent.so", "api_version": "1.0.5"}}'
    )
    monkeypatch.setenv("VK_DRIVER_FILES", str(driver))
    with pytest.raises(InputError, match=r"Expected a device from the Vulkan driver .*broken\.json"):
        run_on_accelerator(written(tmp_path, ADD))


def test_a_package_without_the_accelerator_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"no such package.*pip install ai-edge-litert"):
        run_on_accelerator(written(tmp_path, ADD))


def test_the_callers_drivers_come_first_then_the_systems_then_swiftshader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, software, named, other = (tmp_path / name for name in ("icd.d", "soft.json", "a.json", "b.json"))
    folder.mkdir()
    for path in (folder / "gpu.json", software, named, other):
        path.write_text("{}")
    monkeypatch.setattr(vulkan, "SYSTEM_FOLDERS", (tmp_path / "absent", folder))
    monkeypatch.setattr(vulkan, "SWIFTSHADER", (tmp_path / "absent.json", software))
    for variable in vulkan.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert vulkan.find_vulkan_drivers() == (folder / "gpu.json", software)
    (folder / "gpu.json").unlink()
    assert find_vulkan_driver() == software
    monkeypatch.setenv("VK_ICD_FILENAMES", str(other))
    assert find_vulkan_driver() == other
    monkeypatch.setenv("VK_DRIVER_FILES", f"{tmp_path / 'absent.json'}:{named}:{other}")
    assert vulkan.find_vulkan_drivers() == (named, other)
    assert set(vulkan.vulkan_environment((named, other)).values()) == {f"{named}:{other}"}


def unchanged(operand: Operand) -> Graph:
    """A model that returns the bits that it is given."""
    return one_op("RESHAPE", [operand, constant(list(operand.shape))], [operand])


@pytest.mark.parametrize(
    ("accelerated", "expected"),
    [
        ([0.0, -np.inf, np.nan, np.inf], 0.0),
        ([0.25, -np.inf, np.nan, np.inf], 0.25),
        ([0.0, np.inf, np.nan, np.inf], np.inf),
        ([0.0, -np.inf, 0.0, np.inf], np.inf),
        ([np.nan, -np.inf, np.nan, np.inf], np.inf),
        ([0.0, -3e38, np.nan, np.inf], np.inf),
    ],
)
def test_the_difference_is_honest_about_what_is_no_number(
    tmp_path: Path, accelerated: list[float], expected: float
) -> None:
    path = written(tmp_path, unchanged(Operand("float32", (4,))))
    inputs = [{"t0": np.array([0.0, -np.inf, np.nan, np.inf], "float32")}]
    run = AcceleratorRun("made up", True, outputs=({"t2": np.array(accelerated, "float32")},))
    assert largest_difference(run, path, inputs) == expected


def test_the_difference_is_the_largest_of_all_runs_and_integers_do_not_wrap(tmp_path: Path) -> None:
    path = written(tmp_path, unchanged(Operand("uint8", (2,), None, (1.0,), (0,))))
    inputs = [{"t0": np.array([0, 255], "uint8")}, {"t0": np.array([7, 7], "uint8")}]
    outputs = ({"t2": np.array([255, 255], "uint8")}, {"t2": np.array([7, 6], "uint8")})
    assert largest_difference(AcceleratorRun("made up", True, outputs=outputs), path, inputs) == 255.0


def test_the_log_of_a_model_with_several_refusals() -> None:
    log = parse_log(
        "WARNING: Logging before InitGoogle() is written to STDERR\n"
        "I0000 00:00:1795260049.433703    5848 environment.cc:532] Selected adapter: SwiftShader Device "
        "(Subzero), arch=swiftshader, vendor=google, backend=Vulkan, adapterType=CPU / Software\n"
        "ERROR: Following operations are not supported by GPU delegate:\n"
        "DEQUANTIZE: \n"
        "GATHER: Only support 1D indices\n"
        "925 operations will run on the GPU, and the remaining 852 operations will run on the CPU.\n"
        "INFO: nothing: of interest\n"
        "E0000 00:00:1795260136.513649    6344 environment.cc:105] Validation error: once\n"
        "E0000 00:00:1795260136.513650    6344 environment.cc:105] Validation error: once\n"
    )
    assert (log.device, log.software) == ("SwiftShader Device (Subzero)", True)
    assert log.refusals == (Refusal("DEQUANTIZE", ""), Refusal("GATHER", "Only support 1D indices"))
    assert (log.on_gpu, log.on_cpu) == (925, 852)
    assert (log.fatal, log.messages) == ((), ("Validation error: once",))
