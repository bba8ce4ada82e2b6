"""The kit on ARM Linux, emulated: same tokens, answers and delegated nodes as here, logits within two steps?

    python tools/check_arm64.py --model D/mobilebert_int8_384.tflite --dataset dev-v1.1.json --output R.json

Runs models on windows of real questions here and, with the [runtime] packages of aarch64, under QEMU as
several ARM CPUs; see arm64_root.py, arm64_emulator.py. The arm64 root is made at the first run and kept.
Wants Debian's qemu-user-static, and no root's rights. Ends with 3 where anything differs beyond what is
allowed; what a step is, arm64_comparison.py says.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import arm64_logits
import numpy as np
from absl import flags
from arm64_comparison import agreement, logit_step
from arm64_emulator import CPUS, find_emulator, run_python, version
from arm64_logits import Outcome, load_outcome, measure
from arm64_root import MIRROR, arm64_root
from benchmark_models import DEMO_EVAL, ROOT
from benchmark_report import Requirement, publish

from mobilebert_kit.artifacts import check_new
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.delegates.xnnpack import check_xnnpack
from mobilebert_kit.errors import InputError
from mobilebert_kit.main import run
from mobilebert_kit.progress import Steps

MAX_STEPS = 2

_MODELS = flags.DEFINE_multi_string("model", None, "An int8 .tflite file; several times.", required=True)
_DATASET = flags.DEFINE_string("dataset", str(DEMO_EVAL), "A SQuAD v1.1 file.")
_WINDOWS = flags.DEFINE_integer(
    "windows", 20, "How many windows, of questions spread over it.", lower_bound=1
)
_CPUS = flags.DEFINE_list("cpus", "cortex-a53,cortex-a76,max", f"Among {', '.join(CPUS)}.")
_ROOT = flags.DEFINE_string("root", str(ROOT / "build/arm64_root"), "The arm64 root; made where absent.")
_MIRROR = flags.DEFINE_string("mirror", MIRROR, "Where its Debian packages come from.")
_EMULATOR = flags.DEFINE_string("emulator", None, "QEMU's program; default: the one on PATH.")
_TIMEOUT = flags.DEFINE_float("timeout_s", 3600, "Of one CPU, with all models.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


def main() -> None:
    unknown = [name for name in _CPUS.value if name not in CPUS]
    if unknown or not _CPUS.value:
        raise InputError(f"Expected --cpus among {', '.join(CPUS)}, got {', '.join(unknown) or 'none'}.")
    if _OUTPUT.value:
        check_new(_OUTPUT.value, overwrite=True)
    models = [Path(model).absolute() for model in _MODELS.value]
    emulator = find_emulator(_EMULATOR.value)
    graphs = [read_tflite(model) for model in models]
    steps = [logit_step(graph) for graph in graphs]
    promised = [len(check_xnnpack(graph).delegated) for graph in graphs]
    with Steps(2 + len(_CPUS.value)) as progress:
        progress.next("this machine")
        here = [measure(model, _DATASET.value, _WINDOWS.value) for model in models]
        progress.next("arm64 root")
        root = arm64_root(Path(_ROOT.value).absolute(), _MIRROR.value)
        outcomes = {}
        for name in _CPUS.value:
            progress.next(name)
            outcomes[name] = _emulate(emulator, root, name, models)
    results = [
        {
            **{"model": "/".join(model.parts[-2:]), "cpu": name, "step": steps[number]},
            **asdict(agreement(here[number], outcomes[name][number], steps[number])),
            "promised_nodes": promised[number],
            "nodes_here": here[number].partitions.tolist(),  # partition by partition
            "nodes": outcomes[name][number].partitions.tolist(),
            "seconds": float(np.median(outcomes[name][number].seconds)),
        }
        for number, model in enumerate(models)
        for name in _CPUS.value
    ]
    publish(
        f"{here[0].machine} against aarch64 by {version(emulator)}, {_WINDOWS.value} windows",
        ("model", "CPU", "other answers", "difference, steps", "logits that differ", "nodes", "s a window"),
        [
            (
                *(result["model"], result["cpu"], result["other_answers"], result["steps"]),
                f"{result['differing']:.2%}",
                f"{sum(result['nodes'])} of {result['promised_nodes']}",
                f"{result['seconds']:.1f}",
            )
            for result in results
        ],
        [
            Requirement("windows with other tokens", sum(result["other_tokens"] for result in results), 0),
            Requirement("windows with other answers", sum(result["other_answers"] for result in results), 0),
            Requirement("largest difference, steps", max(result["steps"] for result in results), MAX_STEPS),
            Requirement(
                "nodes that XNNPACK leaves of those that check promises",
                max(result["promised_nodes"] - sum(result["nodes"]) for result in results),
                0,
            ),
        ],
        {"emulator": version(emulator), "dataset": Path(_DATASET.value).name, "results": results},
        _OUTPUT.value,
    )


def _emulate(emulator: str, root: Path, name: str, models: list[Path]) -> list[Outcome]:
    """What each model gives on the CPU called `name`."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            *(arm64_logits.__file__, f"--dataset={Path(_DATASET.value).absolute()}"),
            *(f"--windows={_WINDOWS.value}", f"--folder={folder}", *(f"--model={model}" for model in models)),
        ]
        run_python(emulator, root, CPUS[name], arguments, _TIMEOUT.value)
        return [load_outcome(Path(folder) / f"{number}.npz") for number in range(len(models))]


if __name__ == "__main__":
    run(main)
