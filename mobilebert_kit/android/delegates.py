"""What an app asks for by name, in the order to try it: which export target that is, on which Android."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobilebert_kit.errors import InputError
from mobilebert_kit.targets import GPU_FP16, INT8, NNAPI, Target

CPU = "cpu"  # what every other delegate falls back to


@dataclass(frozen=True)
class AppDelegate:
    """
    Attributes:
        name: in the manifest of a bundle, and in --targets.
        min_api, max_api: Android API levels that may try it, None for no last one. A runtime's own minSdk may
            be higher.
        mlperf: what the MLPerf Mobile app calls delegate and accelerator.
        benchmark_flags: that make `benchmark_model` use it and nothing else; see tools/run_on_device.sh.
        log_name: of the delegate, in the runtime's "Replacing 5 out of 6 node(s) with delegate (NAME) node".
    """

    name: str
    target: Target
    min_api: int
    max_api: int | None
    mlperf: tuple[str, str]
    benchmark_flags: str
    log_name: str


APP_DELEGATES = (
    AppDelegate(
        name="nnapi",
        target=NNAPI,
        min_api=30,  # Android 11, the first with signed int8; the target is checked against it
        max_api=34,  # deprecated since Android 15, API 35
        mlperf=("NNAPI", "npu"),
        benchmark_flags="--use_nnapi=true --disable_nnapi_cpu=true --use_xnnpack=false",
        log_name="TfLiteNnapiDelegate",
    ),
    AppDelegate(
        name="gpu",
        target=GPU_FP16,
        min_api=21,  # Android 5, the first with OpenGL ES 3.1, which the delegate wants where no OpenCL is
        max_api=None,
        mlperf=("GPU", "gpu"),
        benchmark_flags="--use_gpu=true --use_xnnpack=false",
        log_name="TfLiteGpuDelegateV2",
    ),
    AppDelegate(
        name=CPU,
        target=INT8,
        min_api=21,
        max_api=None,
        mlperf=("CPU", "cpu"),
        benchmark_flags="--use_xnnpack=true",
        log_name="TfLiteXNNPackDelegate",
    ),
)
BY_NAME = {delegate.name: delegate for delegate in APP_DELEGATES}


def parse_delegates(names: str) -> list[AppDelegate]:
    """The delegates of a comma-separated list, each once, in the order to try them.

    Raises InputError that lists the names where one is unknown.
    """
    asked = {name.strip() for name in names.split(",")}
    unknown = sorted(asked - set(BY_NAME))
    if unknown:
        raise InputError(f"Expected --targets to be of {', '.join(BY_NAME)}, got {unknown[0]!r}.")
    return [delegate for delegate in APP_DELEGATES if delegate.name in asked]


def fallback(delegate: AppDelegate, bundled: Sequence[AppDelegate]) -> str | None:
    """The delegate to take where `delegate` fails: the CPU, where it is another one and in the bundle."""
    others = [other.name for other in bundled if other is not delegate]
    return CPU if CPU in others else None
