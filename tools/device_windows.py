"""The host's half of tools/run_on_device.sh: what goes to the device, and what its files say.

    python tools/device_windows.py name --bundle D --delegate nnapi                 prints the model's file
    python tools/device_windows.py write --bundle D --delegate nnapi --folder WORK     inputs, and run.sh
    python tools/device_windows.py collect --bundle D --delegate nnapi --folder WORK   logits for `verify`

The device's run.sh runs benchmark_model once for each window: it takes a tensor from a file and writes the
outputs to another (--input_layer_value_files, --output_filepath), and of the programs that the runtime's
project publishes for Android it is the one that needs no app. No TensorFlow.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from absl import flags

from mobilebert_kit.android.delegates import BY_NAME
from mobilebert_kit.android.delegation import check_delegation
from mobilebert_kit.android.device_answers import LOGITS, SCHEMA_VERSION, WINDOWS
from mobilebert_kit.android.reading import Bundle, Model, read_bundle
from mobilebert_kit.android.verification import load_evaluation
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.main import run
from mobilebert_kit.runtime.binding import bind_inputs
from mobilebert_kit.squad.windows import Window

_BUNDLE = flags.DEFINE_string("bundle", None, "The bundle's folder.", required=True)
_DELEGATE = flags.DEFINE_string("delegate", None, "nnapi, gpu or cpu.", required=True)
_FOLDER = flags.DEFINE_string("folder", None, "Where the files for the device, and from it, lie.")
_NUM_QUESTIONS = flags.DEFINE_integer("num_questions", 20, "The first N questions.", lower_bound=1)


def main(action: str) -> None:
    bundle = read_bundle(_BUNDLE.value)
    model = bundle.model(_DELEGATE.value)
    if action == "name":
        print(model.file)
        return
    actions = {"write": _write, "collect": _collect}
    if action not in actions or _FOLDER.value is None:
        raise InputError(f"Expected name, or {' or '.join(actions)} with --folder, got {action!r}.")
    _, windows = load_evaluation(bundle, limit=_NUM_QUESTIONS.value)
    actions[action](bundle, model, windows, Path(_FOLDER.value))


def _write(bundle: Bundle, model: Model, windows: list[Window], folder: Path) -> None:
    own_names = {theirs: own for own, theirs in bind_inputs(bundle.input_names, bundle.folder).items()}
    shape = f"1,{bundle.sequence_length}"
    flags_of_all = [
        f"--graph={model.file}",
        *BY_NAME[model.delegate].benchmark_flags.split(),
        f"--input_layer={','.join(bundle.input_names)}",
        f"--input_layer_shape={':'.join([shape] * len(bundle.input_names))}",
        "--num_runs=1 --warmup_runs=0 --min_secs=0 --warmup_min_secs=0 --verbose=true",
    ]
    lines = ["set -e", "mkdir -p out"]
    for window in windows:
        files = []
        for name in bundle.input_names:
            file = f"{window.unique_id}.{name}.bin"
            (folder / file).write_bytes(getattr(window, own_names[name]).astype("<i4").tobytes())
            files.append(f"{name}:{file}")
        values = shlex.quote(f"--input_layer_value_files={','.join(files)}")
        run_one = f"./benchmark_model {' '.join(flags_of_all)} {values} --output_filepath="
        lines.append(f"{run_one}out/{window.unique_id}.bin > out/{window.unique_id}.log 2>&1")
    (folder / "run.sh").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _collect(bundle: Bundle, model: Model, windows: list[Window], folder: Path) -> None:
    size = 4 * len(bundle.output_names) * bundle.sequence_length
    logits = []
    for window in windows:
        log, output = (folder / "out" / f"{window.unique_id}.{suffix}" for suffix in ("log", "bin"))
        if not log.is_file() or not output.is_file():
            raise CheckFailed(
                f"Expected the outputs of {len(windows)} windows, got none of {window.unique_id}. Did the "
                "device stop halfway? Run it again."
            )
        found = check_delegation(log.read_text(encoding="utf-8", errors="replace"), model)
        data = output.read_bytes()
        if len(data) != size:
            raise CheckFailed(
                f"Expected {size} bytes of outputs, got {len(data)}: window {window.unique_id}. Is "
                "benchmark_model older than its --output_filepath?"
            )
        logits.append(data)
    (folder / LOGITS).write_bytes(b"".join(logits))
    content = {
        "schema_version": SCHEMA_VERSION,
        "delegate": model.delegate,
        "sequence_length": bundle.sequence_length,
        "outputs": list(bundle.output_names),
        "unique_ids": [window.unique_id for window in windows],
    }
    (folder / WINDOWS).write_text(json.dumps(content) + "\n", encoding="utf-8")
    print(
        f"delegated    {found.taken} of {model.nodes} nodes by {found.name}, {found.partitions} partitions "
        f"({model.delegated_nodes} promised)"
    )


if __name__ == "__main__":
    run(main, arguments=("ACTION",))
