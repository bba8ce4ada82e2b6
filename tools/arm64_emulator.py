"""arm64 processes on another machine: qemu-user, and the CPUs that it can be.

XNNPACK picks its kernels by what the CPU has, so each of these runs other code:

    name          instructions for int8 matrices
    cortex-a53    Armv8.0 NEON: multiply and add wide (SMLAL)
    cortex-a76    and Armv8.2's dot product (SDOT)
    max           and Armv8.6's matrix product (I8MM: SMMLA), SVE2
    max-sme       and Armv9.2's outer products (SME). Wrong in QEMU 7.2, see docs/android.md
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arm64_root import python_path

from mobilebert_kit.errors import CheckFailed, InputError

PROGRAMS = ("qemu-aarch64-static", "qemu-aarch64")
_REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Cpu:
    """qemu: its -cpu. The rest is the main ID register, MIDR_EL1, part by part, as QEMU has it."""

    qemu: str
    implementer: int
    variant: int
    part: int
    revision: int


CPUS = {
    "cortex-a53": Cpu("cortex-a53", 0x41, 0, 0xD03, 4),
    "cortex-a76": Cpu("cortex-a76", 0x41, 4, 0xD0B, 1),
    "max": Cpu("max,sme=off", 0, 0, 0x51, 0),
    "max-sme": Cpu("max", 0, 0, 0x51, 0),
}
# What Linux tells of its CPUs. Without files of its own an emulated process sees the host's; LiteRT, which
# looks for ARM cores in them, finds none and crashes. QEMU 8.1 and later have a /proc/cpuinfo of their own.
_CPUINFO = """processor\t: 0
BogoMIPS\t: 48.00
Features\t: fp asimd
CPU implementer\t: {0.implementer:#x}
CPU architecture: 8
CPU variant\t: {0.variant:#x}
CPU part\t: {0.part:#x}
CPU revision\t: {0.revision}

"""
_ONE_CORE = ("kernel_max", "possible", "present")  # in /sys/devices/system/cpu


def find_emulator(named: str | None = None) -> str:
    """The path of QEMU's program; InputError where there is none."""
    found = next(filter(None, map(shutil.which, [named] if named else PROGRAMS)), None)
    if found is None:
        wanted = named or " or ".join(PROGRAMS)
        raise InputError(f"Expected {wanted} on PATH, got none. Debian: apt-get install qemu-user-static.")
    return found


def version(emulator: str) -> str:
    """Its version, in its own words."""
    done = subprocess.run([emulator, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def run_python(emulator: str, root: Path, cpu: Cpu, arguments: Sequence[str], timeout: float) -> None:
    """Runs the arm64 Python of `root` with `arguments`, the kit being this checkout.

    Raises:
        CheckFailed: it ends with an error, or not within `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as scratch:
        seen = Path(scratch)  # QEMU looks here first for every absolute path, then on the host
        for entry in root.iterdir():
            (seen / entry.name).symlink_to(entry.resolve())
        cores = seen / "sys/devices/system/cpu"
        cores.mkdir(parents=True)
        for name in _ONE_CORE:
            (cores / name).write_text("0\n")
        (seen / "proc").mkdir()
        (seen / "proc/cpuinfo").write_text(_CPUINFO.format(cpu))
        command = [emulator, "-cpu", cpu.qemu, "-L", scratch, str(python_path(seen)), *arguments]
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(_REPOSITORY),
            "LANG": "C.UTF-8",
            "TOKENIZERS_PARALLELISM": "false",
        }
        try:
            done = subprocess.run(
                command, env=environment, timeout=timeout, capture_output=True, text=True, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise CheckFailed(
                f"Expected {cpu.qemu} to be done in {timeout:g} s, got no end. Give fewer --windows, or a "
                "longer --timeout_s."
            ) from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or "nothing"
        raise CheckFailed(f"Expected {cpu.qemu} to run, got exit code {done.returncode}: {said[-500:]}")
