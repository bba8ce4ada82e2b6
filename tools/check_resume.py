"""Kill a training at random moments, give the same command again, and compare the weights bit for bit.

    python tools/check_resume.py --moments 20 -- --checkpoint DIR --dataset F.json --max_steps 30

What follows `--` are the flags of `python -m mobilebert_kit.train` (or, with --command prune, of
`mobilebert_kit.prune`) but for --output_dir. The run is made once undisturbed; then, for each moment, anew:
killed with SIGKILL when its metrics.jsonl has a random number of lines, a random part of a second later, and
started again. A checkpoint at each step (--checkpoint_steps 1) is the hardest: many kills fall into the
writing of one. Exit code 3 where the weights differ, or what the optimizer keeps (masks and scores too).
"""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file
from tqdm import tqdm

from mobilebert_kit.checkpoints import content_digest
from mobilebert_kit.training.state import FOLDER, METRICS, MODEL, STATE

_POLL = 0.005  # seconds


@dataclass(frozen=True)
class Kill:
    """When to kill: with so many lines in metrics.jsonl (0: as soon as it is there), so much later."""

    lines: int
    delay: float  # seconds


def start(flags: Sequence[str], output_dir: Path, command: str = "train") -> subprocess.Popen[bytes]:
    """The training as a process; what it prints goes to `output_dir`.log."""
    argv = [sys.executable, "-m", f"mobilebert_kit.{command}", *flags, "--output_dir", str(output_dir)]
    with open(output_dir.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(argv, stdout=log, stderr=log)


def finish(flags: Sequence[str], output_dir: Path, command: str = "train") -> None:
    """Trains to the end. Raises RuntimeError with what the training printed, where it fails."""
    if code := start(flags, output_dir, command).wait():
        log = output_dir.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"expected the training to end with 0, got {code}:\n{log[-3000:]}")


def kill_at(flags: Sequence[str], output_dir: Path, moment: Kill, command: str = "train") -> bool:
    """Trains, and kills at `moment`; false where the training ended before."""
    process = start(flags, output_dir, command)
    metrics = output_dir / METRICS
    while process.poll() is None:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= moment.lines:
            time.sleep(moment.delay)
            break
        time.sleep(_POLL)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def weights_digest(output_dir: Path) -> str:
    """sha256 (hex) over the files of the result that hold weights, and the tensors of the last checkpoint:
    what the optimizer has too, masks included."""
    digest = hashlib.sha256(content_digest(load_file(output_dir / FOLDER / STATE)).encode())
    for path in sorted((output_dir / MODEL).iterdir()):
        if path.suffix == ".safetensors" or ".data-" in path.name:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moments", type=int, default=20, help="how many kills, each in a run of its own")
    parser.add_argument("--delay", type=float, default=0.3, help="the longest wait after a line, in seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--command", choices=("train", "prune"), default="train", help="of the kit")
    parser.add_argument("flags", nargs="+", help="the training's flags, after --")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    different = []
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed = Path(scratch) / "undisturbed"
        finish(arguments.flags, undisturbed, arguments.command)
        expected = weights_digest(undisturbed)
        lines = (undisturbed / METRICS).read_bytes().count(b"\n")
        print(f"undisturbed: {lines} lines, sha256 {expected}")
        for number in tqdm(range(arguments.moments), unit="kill", disable=None):
            moment = Kill(chance.randrange(lines), chance.uniform(0, arguments.delay))
            folder = Path(scratch) / f"killed_{number}"
            killed = kill_at(arguments.flags, folder, moment, arguments.command)
            finish(arguments.flags, folder, arguments.command)
            same = weights_digest(folder) == expected
            what = "killed" if killed else "ended before the kill"
            print(
                f"{number + 1}: {what} {moment.delay:.3f} s after line {moment.lines}: "
                f"{'the same weights' if same else 'OTHER WEIGHTS'}"
            )
            if not same:
                different.append(number + 1)
    if different:
        print(f"error: expected the same weights each time, got others at {different}", file=sys.stderr)
        return 3
    print(f"{arguments.moments} kills, the same weights each time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
