"""What the MLPerf Mobile app wants: the questions as its records, a task that names them, and the models.

    mlperf/squad_eval.tfrecord          its windows; see squad/records.py
    mlperf/squad_groundtruth.tfrecord   its ground truth
    mlperf/tasks.pbtxt                  the entry for flutter/assets/tasks.pbtxt (proto/mlperf_task.proto)
    mlperf/tflite_settings.pbtxt        the entry for its TFLite backend (proto/backend_setting.proto)

The form, the counts and the times are those of mlcommons/mobile_app_open (flutter/assets/tasks.pbtxt,
mobile_back_tflite/cpp/backend_tflite/backend_settings/tflite_settings_android.pbtxt). Not run in the app.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mobilebert_kit.android.delegates import AppDelegate
from mobilebert_kit.android.manifest import GROUNDTRUTH, RECORDS
from mobilebert_kit.squad.dataset import Question
from mobilebert_kit.squad.records import write_groundtruth, write_windows
from mobilebert_kit.squad.windows import Window

TASKS, SETTINGS = "mlperf/tasks.pbtxt", "mlperf/tflite_settings.pbtxt"
# "local:///" is the app's own folder on the device; its documentation/custom-tasks.md says how to fill it.
ON_DEVICE = "local:///mlperf_datasets/squad/"
# Runs of a task: (name, queries at least, seconds at least, seconds at most).
RUNS = (("normal", 1024, 60, 600), ("quick", 128, 10, 60), ("rapid", 64, 6, 60))


def write_mlperf(
    folder: Path,
    questions: Sequence[Question],
    windows: Sequence[Window],
    models: Sequence[tuple[AppDelegate, str]],
) -> None:
    """Writes the four files into `folder`/mlperf.

    Args:
        models: each delegate with its file in `folder`.
    """
    (folder / RECORDS).parent.mkdir()
    write_windows(folder / RECORDS, windows)
    write_groundtruth(folder / GROUNDTRUTH, questions)
    (folder / TASKS).write_text(_task(folder), encoding="utf-8")
    (folder / SETTINGS).write_text(_settings(folder, models), encoding="utf-8")


def _task(folder: Path) -> str:
    runs = "".join(
        f"    {name} {{\n      min_query_count: {queries}\n      min_duration: {least}\n"
        f"      max_duration: {most}\n    }}\n"
        for name, queries, least, most in RUNS
    )
    records = [
        f'      {kind}_path: "{ON_DEVICE}{Path(name).name}"\n      {kind}_checksum: "{_md5(folder / name)}"\n'
        for kind, name in (("input", RECORDS), ("groundtruth", GROUNDTRUTH))
    ]
    # The same questions for each of its sizes: the bundle has no others.
    datasets = "".join(
        f'    {size} {{\n      name: "Questions of this bundle"\n{"".join(records)}    }}\n'
        for size in ("full", "lite", "tiny")
    )
    return (
        'task {\n  id: "natural_language_processing"\n  name: "Language Understanding"\n'
        '  max_throughput: 2000\n  max_accuracy: 1.0\n  scenario: "SingleStream"\n'
        f"  runs {{\n{runs}  }}\n"
        f"  datasets {{\n    type: SQUAD\n{datasets}  }}\n"
        '  model {\n    id: "mobilebert"\n    name: "MobileBert"\n  }\n}\n'
    )


def _settings(folder: Path, models: Sequence[tuple[AppDelegate, str]]) -> str:
    choices = "".join(
        f'  delegate_choice: {{\n    delegate_name: "{delegate.mlperf[0]}"\n'
        f'    accelerator_name: "{delegate.mlperf[1]}"\n'
        f'    accelerator_desc: "{delegate.mlperf[1].upper()}"\n'
        f'    model_file: {{\n      model_path: "{ON_DEVICE}{file}"\n'
        f'      model_checksum: "{_md5(folder / file)}"\n    }}\n  }}\n'
        for delegate, file in models
    )
    return (
        'benchmark_setting {\n  benchmark_id: "natural_language_processing"\n  framework: "TFLite"\n'
        f'{choices}  delegate_selected: "{models[0][0].mlperf[0]}"\n}}\n'
    )


def _md5(path: Path) -> str:
    """The app's checksum of a file."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
