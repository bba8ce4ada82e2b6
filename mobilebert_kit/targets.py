"""Every export target, one constant each: which lowering, recipe, format and runtime, which checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from mobilebert_kit.delegates.delegate import Delegate
from mobilebert_kit.errors import InputError
from mobilebert_kit.quantize import recipes
from mobilebert_kit.quantize.recipes import Recipe
from mobilebert_kit.runtime.packages import TF2ONNX, Package

if TYPE_CHECKING:
    import tensorflow as tf

    from mobilebert_kit.lowering.cpu import CpuLowering


@dataclass(frozen=True)
class Target:
    """One kind of model file.

    Attributes:
        file_name: with {family} and {length}, of a window, or several; those of MobileBERT are MLCommons'.
        lowering: module:class; by name, so that listing targets loads no TensorFlow.
        delegate: who is to run a .tflite, and must take every node, in one partition; but for
        may_fall_back: ops that may stay on the CPU, in as many partitions as that makes.
        status: what a user should know before choosing it.
        half_precision: it will be computed in float16, so that is simulated.
        writer: module:function that writes the file; see quantize/conversion.py, write_tflite.
        runtime: that scores it, of runtime/packages.py.
        needs: packages of `writer` that [export] does not bring.
    """

    name: str
    file_name: str
    lowering: str
    recipe: Recipe
    delegate: Delegate | None
    status: str
    may_fall_back: frozenset[str] = frozenset()
    half_precision: bool = False
    writer: str = "mobilebert_kit.quantize.conversion:write_tflite"
    runtime: str = "litert"
    needs: tuple[Package, ...] = ()

    def lowering_class(self) -> type[CpuLowering]:
        return resolve_name(self.lowering)

    def file_for(self, sequence_length: int | str, family: str = "mobilebert") -> str:
        return self.file_name.format(length=sequence_length, family=family)

    def write(self, module: tf.Module, file: Path) -> list[Path]:
        """Writes `module.serve` as `file` by the target's recipe; gives the files that it became."""
        return resolve_name(self.writer)(module, self.recipe, file)


XNNPACK = Delegate("xnnpack")
# XNNPACK has no kernel for them, and needs none: they look up or convert a few rows, on the same CPU.
LOOK_UP = frozenset({"GATHER", "CAST", "DEQUANTIZE"})
CPU_LOWERING = "mobilebert_kit.lowering.cpu:CpuLowering"

FLOAT = Target(
    name="float",
    file_name="{family}_float_{length}.tflite",
    lowering=CPU_LOWERING,
    recipe=recipes.W32_A32,
    delegate=XNNPACK,
    may_fall_back=LOOK_UP,
    status="reference; any CPU",
)
FP16 = Target(
    name="fp16",
    file_name="{family}_fp16_{length}.tflite",
    lowering=CPU_LOWERING,
    recipe=recipes.W16_A32,
    delegate=XNNPACK,
    may_fall_back=LOOK_UP,
    status="half the size of float, same speed",
)
DYNAMIC = Target(
    name="dynamic",
    file_name="{family}_dynamic_{length}.tflite",
    lowering=CPU_LOWERING,
    recipe=recipes.W8_DYNAMIC,
    delegate=XNNPACK,
    may_fall_back=LOOK_UP,
    status="a quarter of the size, no calibration",
)
INT8 = Target(
    name="int8",
    file_name="{family}_int8_{length}.tflite",
    lowering=CPU_LOWERING,
    recipe=recipes.W8_A8_XNNPACK,
    delegate=XNNPACK,
    may_fall_back=LOOK_UP,
    status="a quarter of the size, the fastest on a CPU",
)
NNAPI = Target(
    name="nnapi",
    file_name="{family}_int8_{length}_nnapi.tflite",
    lowering="mobilebert_kit.lowering.nnapi:NnapiLowering",
    recipe=recipes.W8_A8,
    delegate=Delegate("nnapi", api_level=30),
    status=(
        "integer only (but for a BERT's LayerNorm and gelu), for Android 11-14; NNAPI is deprecated since "
        "Android 15: there use int8 on the CPU, or the vendor's LiteRT accelerator"
    ),
)

GPU_LOWERING = "mobilebert_kit.lowering.gpu:GpuLowering"
GPU = Target(
    name="gpu",
    file_name="{family}_float_{length}_gpu.tflite",
    lowering=GPU_LOWERING,
    recipe=recipes.W32_A32,
    delegate=Delegate("gpu"),
    status="float, whole on a GPU by LiteRT's accelerator; any CPU too",
    half_precision=True,
)
GPU_FP16 = Target(
    name="gpu_fp16",
    file_name="{family}_fp16_{length}_gpu.tflite",
    lowering=GPU_LOWERING,
    recipe=recipes.W16_A32,
    delegate=Delegate("gpu"),
    status="the same, half the size",
    half_precision=True,
)

OPENVINO = Target(
    name="openvino",
    file_name="{family}_float_{length}.xml",
    lowering=CPU_LOWERING,
    recipe=recipes.W32_A32,
    delegate=None,
    status="OpenVINO IR (.xml, .bin), float; needs the extra [openvino], so `all` leaves it out",
    writer="mobilebert_kit.models.openvino_ir:write_ir",
    runtime="openvino",
)

ONNX_LOWERING = "mobilebert_kit.lowering.onnx:OnnxLowering"
ONNX_WRITER = "mobilebert_kit.models.onnx_file:write_onnx"
ONNX = Target(
    name="onnx",
    file_name="{family}_float_{length}.onnx",
    lowering=ONNX_LOWERING,
    recipe=recipes.W32_A32,
    delegate=None,
    status="ONNX, float; needs the extra [onnx_export], so `all` leaves it out",
    writer=ONNX_WRITER,
    runtime="onnx",
    needs=(TF2ONNX,),
)
ONNX_QDQ = Target(
    name="onnx_qdq",
    file_name="{family}_squad11_int8_qdq.onnx",
    lowering=ONNX_LOWERING,
    recipe=recipes.W8_A8_ONNX,
    delegate=None,
    status="ONNX, int8 with the ranges of int8's .tflite; needs the extra [onnx_export], as above",
    writer=ONNX_WRITER,
    runtime="onnx",
    needs=(TF2ONNX,),
)

# What `all` makes, and what beyond that has to be asked for by name.
TARGETS = {target.name: target for target in (FLOAT, FP16, DYNAMIC, INT8, GPU, GPU_FP16, NNAPI)}
TARGETS_WITH_EXTRAS = TARGETS | {target.name: target for target in (OPENVINO, ONNX, ONNX_QDQ)}


def parse_targets(names: str) -> list[Target]:
    """The targets of a comma-separated list, or TARGETS for "all"; each once, in the order asked for.

    Raises InputError that lists the names where one is unknown.
    """
    asked = list(dict.fromkeys(name.strip() for name in names.split(",")))
    if asked == ["all"]:
        return list(TARGETS.values())
    if len(asked) > 1 and not {"all", "list"}.isdisjoint(asked):
        raise InputError(f"Expected --target to be all, list or names of targets, got a mixture: {names!r}.")
    unknown = [name for name in asked if name not in TARGETS_WITH_EXTRAS]
    if unknown:
        raise InputError(
            f"Expected --target to be of {', '.join(TARGETS_WITH_EXTRAS)}, all or list, got {unknown[0]!r}. "
            "`--target list` describes them."
        )
    return [TARGETS_WITH_EXTRAS[name] for name in asked]


def describe_targets(sequence_length: int) -> str:
    """A table of all targets, for `--target list`."""
    rows = [("target", "file", "recipe", "delegate", "status")]
    rows += [
        (
            target.name,
            target.file_for(sequence_length),
            target.recipe.name,
            str(target.delegate or "-"),
            target.status,
        )
        for target in TARGETS_WITH_EXTRAS.values()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
