"""Checks files as `check` does, and says how it went: the part of fuzz_check.py whose memory is measured.

    python tools/fuzz_worker.py CORPUS FILES SEED HANG_SECONDS WORK

Every file of the folder CORPUS, then FILES mutants of them. Each is WORK/current.tflite when it is checked:
after a crash or a hang, that file is the culprit. One of each kind of exception stays in WORK under its name.
Prints one JSON object, `Outcome` of fuzz_check.py. Needs what `check` needs and nothing else.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import re
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tflite_mutations import Mutator

from mobilebert_kit.delegates.delegate import Delegate
from mobilebert_kit.delegates.macs import macs
from mobilebert_kit.delegates.summary import headline, refusals, to_json
from mobilebert_kit.delegates.tflite_file import Model, read_tflite
from mobilebert_kit.errors import InputError

DELEGATES = (
    Delegate("gpu"),
    Delegate("xnnpack"),
    Delegate("nnapi", api_level=27),
    Delegate("nnapi", api_level=30),
    Delegate("nnapi", feature_level=8),
)


def check_file(path: Path) -> Model:
    """All that `check` computes of a file. Any exception but read_tflite's InputError is a defect."""
    model = read_tflite(path)
    text = []
    for number, graph in enumerate(model.subgraphs):
        for tensor in graph.tensors:
            if tensor.is_constant:
                with contextlib.suppress(ValueError):  # as documented: numpy has no such data
                    tensor.data()
        counts = macs(graph)
        for delegate in DELEGATES:
            report = delegate.check(model, number)
            if [node.index for node in report.nodes] != list(range(len(graph.nodes))):
                raise AssertionError(f"{delegate}: not one verdict a node")
            if any(node.op.startswith("UNKNOWN_") and node.accepted is not None for node in report.nodes):
                raise AssertionError(f"{delegate}: a verdict on an op that nobody knows")
            text += [headline(report, counts), refusals(report)]
            text.append(json.dumps(to_json(report, counts), allow_nan=False))
    "\n".join(text).encode()  # as printing does
    return model


def peak_bytes() -> int:
    """The most memory that this process has held.

    Linux counts the parent's peak into ru_maxrss, because the child is the parent until it calls exec.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except OSError:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used * (1 if sys.platform == "darwin" else 1024)


def _files(folder: Path, files: int, seed: int) -> Iterator[tuple[str, bytes]]:
    names = sorted(folder.iterdir())
    corpus = [path.read_bytes() for path in names]
    for path, data in zip(names, corpus, strict=True):
        yield path.stem, data
    if files:
        mutator = Mutator(corpus, seed)
        for number in range(files):
            yield f"mutant {number}", mutator.mutant(number)


def main(corpus: str, files: str, seed: str, hang_seconds: str, work: str) -> None:
    warnings.simplefilter("error")  # a warning that a file sets off is a defect too
    path, errors, failures, slowest = Path(work) / "current.tflite", Counter(), {}, (0.0, "")
    count = readable = nodes = 0
    for name, data in _files(Path(corpus), int(files), int(seed)):
        path.write_bytes(data)
        count += 1
        # Ends this process, whatever it is busy with, and shows where.
        faulthandler.dump_traceback_later(float(hang_seconds), exit=True)
        began = time.perf_counter()
        try:
            model = check_file(path)
            readable += 1
            nodes += sum(len(graph.nodes) for graph in model.subgraphs)
            del model
        except InputError as error:
            errors[_kind(str(error))] += 1
        except Exception as error:  # every other one is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = "".join(traceback.format_exception(error))
            if failures.setdefault(f"{where.filename}:{where.lineno}", (name, text))[0] == name:
                (Path(work) / f"{name}.tflite").write_bytes(data)
        finally:
            slowest = max(slowest, (time.perf_counter() - began, name))
            faulthandler.cancel_dump_traceback_later()
    path.unlink()
    outcome = {
        "files": count,
        "readable": readable,
        "nodes": nodes,
        "errors": dict(errors.most_common()),
        "failures": dict(failures.values()),
        "slowest_seconds": slowest[0],
        "slowest_file": slowest[1],
        "peak_bytes": peak_bytes(),
    }
    print(json.dumps(outcome))


def _kind(message: str) -> str:
    """An error without the file, numbers and names in it, so that errors can be counted by kind."""
    reason = message.partition(": expected a ")[2].partition(". Copy or export")[0]
    reason = reason.removeprefix("well-formed .tflite model: ")
    return re.sub(r"\(.*?\)|'.*?'|-?\d+", "N", reason)


if __name__ == "__main__":
    main(*sys.argv[1:])
