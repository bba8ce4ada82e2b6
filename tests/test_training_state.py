"""What a run keeps: its folder refuses what is not its own, and loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mobilebert_kit.errors import InputError
from mobilebert_kit.training.curve import Metrics, draw_curve
from mobilebert_kit.training.state import FOLDER, METRICS, RUN, STATE, RunFolder, State

SETTINGS = {"learning_rate": 1e-3, "buckets": (64, 96), "max_steps": None, "qat": False}
TENSORS = {"model/a": np.arange(6, dtype=np.float32).reshape(2, 3), "optimizer/updates": np.array(7)}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def run(tmp_path):
    """A folder with a checkpoint of step 7."""
    folder = RunFolder(tmp_path / "out", SETTINGS)
    with folder.opened():
        assert folder.load() is None
        folder.save(State(7, TENSORS))
    return tmp_path / "out"


def test_what_is_saved_is_loaded(run):
    folder = RunFolder(run, dict(reversed(SETTINGS.items())))
    with folder.opened():
        state = folder.load()
        folder.prove_fits(state, {"model/a": (2, 3), "optimizer/updates": ()})
        assert state.step == 7
        assert set(state.tensors) == set(TENSORS)
        for name, value in TENSORS.items():
            assert state.tensors[name].dtype == value.dtype
            assert np.array_equal(state.tensors[name], value)
        folder.save(State(8, {**TENSORS, "model/a": -TENSORS["model/a"]}))
        assert folder.load().step == 8
        with pytest.raises(InputError, match="model/a"):
            folder.prove_fits(state, {"model/a": (3, 2), "optimizer/updates": ()})
    assert sorted(contents(run)) == [f"{FOLDER}/{RUN}", f"{FOLDER}/{STATE}"]


def test_another_runs_folder_is_refused_and_nothing_lost(run):
    before = contents(run)
    other = SETTINGS | {"learning_rate": 2e-3, "buckets": (96,)}
    with pytest.raises(InputError) as caught, RunFolder(run, other).opened():
        pytest.fail("it was opened")
    assert "learning_rate: 0.001 there, 0.002 asked for" in str(caught.value)
    assert "buckets: [64, 96] there, [96] asked for" in str(caught.value)
    assert "max_steps" not in str(caught.value)
    assert contents(run) == before


def test_a_state_of_another_run_is_refused(run, tmp_path):
    other = RunFolder(tmp_path / "other", SETTINGS | {"qat": True})
    with other.opened():
        (tmp_path / "other" / FOLDER / STATE).write_bytes((run / FOLDER / STATE).read_bytes())
        with pytest.raises(InputError, match="another run's"):
            other.load()


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_damaged_state_is_told(run, damage):
    path = run / FOLDER / STATE
    data = path.read_bytes()
    path.write_bytes({"truncated": data[: len(data) // 2], "text": b"x" * 200, "empty": b""}[damage])
    folder = RunFolder(run, SETTINGS)
    with folder.opened(), pytest.raises(InputError, match="damaged"):
        folder.load()


@pytest.mark.parametrize("foreign", ["thesis.txt", "training/state.safetensors"])
def test_a_foreign_folder_is_refused(tmp_path, foreign):
    path = tmp_path / "out" / foreign
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(InputError, match=path.name), RunFolder(tmp_path / "out", SETTINGS).opened():
        pytest.fail("it was opened")
    assert contents(tmp_path / "out") == {foreign: b"mine"}


def test_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="a file"), RunFolder(tmp_path / "out", SETTINGS).opened():
        pytest.fail("it was opened")


def test_an_empty_folder_and_what_a_kill_left_are_taken(tmp_path):
    """Killed before the settings were written: a temporary file beside them."""
    left = tmp_path / "out" / FOLDER / f".{RUN}.abcd1234"
    left.parent.mkdir(parents=True)
    left.write_text("{")
    with RunFolder(tmp_path / "out", SETTINGS).opened():
        assert not left.exists()
    assert list(contents(tmp_path / "out")) == [f"{FOLDER}/{RUN}"]


def test_two_processes_do_not_train_in_one_folder(run):
    code = (
        "import sys, pathlib\n"
        "from mobilebert_kit.training.state import RunFolder\n"
        f"with RunFolder(pathlib.Path(sys.argv[1]), {SETTINGS!r}).opened():\n"
        "    print('opened', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"opened\n"
        before = contents(run)
        with pytest.raises(InputError, match="another process"), RunFolder(run, SETTINGS).opened():
            pytest.fail("it was opened")
        assert contents(run) == before
        other.kill()
    with RunFolder(run, SETTINGS).opened():
        pass


def step(number: int) -> dict[str, object]:
    return {"kind": "step", "step": number, "loss": 5.0 / number, "rate": 1e-3}


def test_metrics_go_on_at_the_checkpoint(tmp_path):
    path = tmp_path / METRICS
    metrics = Metrics(path)
    metrics.resume(0)
    for number in range(1, 6):
        metrics.add(step(number))
    metrics.add({"kind": "epoch", "step": 4, "f1": 50.0, "exact_match": 40.0})
    with open(path, "a") as file:
        file.write('{"kind": "step", "st')  # killed here
    again = Metrics(path)
    again.resume(4)
    assert [row["step"] for row in again.of("step")] == [1, 2, 3, 4]
    assert [row["step"] for row in again.of("epoch")] == [4]
    again.add(step(5))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [
        *map(step, range(1, 5)),
        {"kind": "epoch", "step": 4, "f1": 50.0, "exact_match": 40.0},
        step(5),
    ]


@pytest.mark.parametrize("count", [0, 1, 3, 500])
def test_curve_is_a_picture_with_the_losses_in_it(tmp_path, count):
    """Its pixels say so: a picture of other losses is another, of the same losses the same."""
    image = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed (extra [training])")
    steps = [step(number) for number in range(1, count + 1)]
    epochs = [{"kind": "epoch", "step": count, "f1": 50.0, "exact_match": 40.0}] if count else []
    draw_curve(tmp_path / "curve.png", steps, epochs)
    draw_curve(tmp_path / "again.png", steps, epochs)
    draw_curve(tmp_path / "other.png", [row | {"loss": row["loss"] ** 2 + 1} for row in steps], epochs)
    picture = image.imread(tmp_path / "curve.png")
    assert picture.ndim == 3 and min(picture.shape[:2]) > 400
    assert (tmp_path / "curve.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    if count > 1:
        assert not np.array_equal(picture, image.imread(tmp_path / "other.png"))
