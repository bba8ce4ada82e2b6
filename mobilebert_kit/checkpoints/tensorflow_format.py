"""Published TensorFlow layout: the variables behind a TF1 checkpoint prefix or a SavedModel's `variables`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilebert_kit.checkpoints import names
from mobilebert_kit.checkpoints.family import family_of_variables
from mobilebert_kit.checkpoints.integrity import listing
from mobilebert_kit.errors import InputError

Ranges = dict[str, tuple[np.ndarray, np.ndarray]]
STEP = "global_step"
# What the variables of other heads begin with.
OTHER_HEADS = {
    "cls/": "a pre-trained one, not fine-tuned for QA (cls/predictions and cls/seq_relationship heads)",
    "output_weights": "a head for classification (output_weights)",
}


@dataclass(frozen=True)
class TensorflowVariables:
    """`tensors`: canonical name -> float32 array. `ranges`: of quantized training, see `Checkpoint`. `step`:
    the value of global_step, which is also among `unused_names`; None where there is none."""

    tensors: dict[str, np.ndarray]
    ranges: Ranges
    unused_names: tuple[str, ...]
    step: int | None = None


def read_variables(prefix: Path, *, headless: bool = False) -> TensorflowVariables:
    """Reads the float weights of a fine-tuned model, and the ranges of a MobileBERT's quantized training.

    Args:
        prefix: `<prefix>.index` and `<prefix>.data-?????-of-?????` exist.
        headless: allow that the question-answering head is absent.
    Raises:
        InputError: a shard is missing, a file is truncated or damaged, or the variables are those of
            something else (pre-training heads only, a classifier, a Keras model ...).
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(
            f"Expected TensorFlow to be installed in order to read {prefix}.index, got: {error}. "
            "Install it with: pip install 'mobilebert_kit[export]'"
        ) from error
    data_bytes = _data_bytes(prefix)
    # The reader reports a damaged file as OpError, or as the Python error of the same code.
    damaged = (tf.errors.OpError, IndexError, ValueError, RuntimeError, MemoryError)
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
        dtypes = reader.get_variable_to_dtype_map()
    except damaged as error:
        raise InputError(
            f"Expected a TensorFlow checkpoint index, got a truncated or damaged file: {prefix}.index "
            f"({error}). "
            "Copy it again from its source."
        ) from error
    weights, ranges, unused = classify(shapes, source=f"{prefix}.index", headless=headless)
    wrong = [f"{name}: {dtypes[name].name}" for name in (*weights, *ranges) if not dtypes[name].is_floating]
    if wrong:
        raise InputError(f"Expected floating-point weights in {prefix}.index, got:{listing(wrong)}")
    steps = [STEP] if shapes.get(STEP) == () and dtypes[STEP].is_integer else []
    needed = sum((dtypes[name].size or 0) * math.prod(shapes[name]) for name in shapes)
    if needed > data_bytes:
        raise InputError(
            f"Expected at least {needed} bytes of values, as {prefix}.index says, got {data_bytes} bytes in "
            f"{prefix}.data-*: a shard is truncated. Copy it again from its source."
        )
    try:
        with np.errstate(over="ignore"):  # a double out of float's range becomes inf, which is reported later
            values = {name: np.asarray(reader.get_tensor(name)) for name in (*weights, *ranges, *steps)}
            floats = {name: values[name].astype(np.float32, copy=False) for name in (*weights, *ranges)}
    except damaged as error:
        raise InputError(
            f"Expected the values of {len(weights) + len(ranges)} variables, got a truncated or damaged "
            f"file: {prefix}.data-* ({error}). Copy it again from its source."
        ) from error
    scopes = [name.removesuffix("/min") for name in ranges if name.endswith("/min")]
    return TensorflowVariables(
        {name: floats[name] for name in weights},
        {scope: (floats[f"{scope}/min"], floats[f"{scope}/max"]) for scope in scopes},
        unused,
        int(values[STEP]) if steps else None,
    )


def classify(
    shapes: dict[str, tuple[int, ...]], *, source: str, headless: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Splits the names of a checkpoint into (weights, quantizer ranges, unused ones), each sorted.

    Raises:
        InputError: a name is none of the three, the question-answering head is absent (unless `headless`), or
            the ranges are not exactly those that quantized training of this many layers makes.
    """
    table = names.TABLES[family_of_variables(shapes)]
    weights = sorted(name for name in shapes if table.is_canonical(name))
    ranges = sorted(name for name in shapes if names.is_quant_range(name))
    unused = sorted(
        name for name in shapes if name in names.TENSORFLOW_UNUSED or names.is_optimizer_slot(name, shapes)
    )
    unknown = sorted(shapes.keys() - set(weights) - set(ranges) - set(unused))
    if any(name == "_CHECKPOINTABLE_OBJECT_GRAPH" or "/.ATTRIBUTES/" in name for name in shapes):
        raise InputError(
            "Expected the variables of a published checkpoint (bert/embeddings/...), got an object-based "
            "(TF2 or "
            f"Keras) checkpoint in {source}. Give the checkpoint that the model was made from."
        )
    if table is names.MOBILEBERT and any("/LayerNorm/" in n and n.startswith("bert/") for n in unknown):
        raise InputError(
            "Expected a MobileBERT with normalization_type no_norm (FakeLayerNorm variables), got a "
            f"MobileBERT with layer_norm (LayerNorm variables) in {source}. Use an _OPT checkpoint."
        )
    if not headless and not any(name.startswith("cls/squad/") for name in weights):
        heads = [task for prefix, task in OTHER_HEADS.items() if any(n.startswith(prefix) for n in shapes)]
        raise InputError(
            f"Expected a {table.title} fine-tuned for question answering (cls/squad/output_weights), got "
            f"{' and '.join(heads) or 'no such head'} in {source}. Fine-tune it on SQuAD first."
        )
    if unknown:
        raise InputError(
            f"Expected only variables of a {table.title} for question answering in {source}, got "
            f"{len(unknown)} others:{listing(unknown)}"
        )
    if ranges:
        _prove_ranges(ranges, weights, shapes, source)
    return tuple(weights), tuple(ranges), tuple(unused)


def _prove_ranges(
    ranges: list[str], weights: list[str], shapes: dict[str, tuple[int, ...]], source: str
) -> None:
    expected = names.quant_ranges(*names.depth(weights))
    missing, extra = sorted(expected - set(ranges)), sorted(set(ranges) - expected)
    misshapen = []
    for name in set(ranges) - set(extra):
        # A kernel's may have one for each of its outputs: the kit's own training offers that.
        kernel = shapes.get(names.quantized_kernel(name.rpartition("/")[0]) or "", ())
        if shapes[name] not in {(), kernel[-1:]}:
            found = f"{name}: {list(shapes[name])}"
            misshapen.append(f"{found}, expected [] or {list(kernel[-1:])}" if kernel else found)
    kinds = {"missing": missing, "extra": extra, "not scalar": sorted(misshapen)}
    if any(kinds.values()):
        found = "".join(f"\n  {len(found)} {kind}:{listing(found)}" for kind, found in kinds.items() if found)
        raise InputError(
            f"Expected the {len(expected)} min/max ranges of quantized training in {source}, got:{found}"
        )


def _data_bytes(prefix: Path) -> int:
    """Total size of the data shards; InputError where one is missing."""
    shards = {}
    for path in prefix.parent.iterdir():
        match = re.fullmatch(re.escape(prefix.name) + r"\.data-([0-9]{5})-of-([0-9]{5})", path.name)
        if match and path.is_file():
            shards.setdefault(int(match[2]), set()).add(int(match[1]))
    if not shards:
        raise InputError(
            f"Expected the values of {prefix}.index in {prefix.name}.data-00000-of-00001 beside it, got no "
            "such "
            "file. Copy the whole checkpoint, not only its index."
        )
    if len(shards) > 1:
        raise InputError(
            f"Expected the data shards of one checkpoint beside {prefix}.index, got sets of "
            f"{sorted(shards)} shards. "
            "Keep only the files that belong together."
        )
    ((count, found),) = shards.items()
    missing = [f"{prefix.name}.data-{i:05d}-of-{count:05d}" for i in range(count) if i not in found]
    if missing:
        raise InputError(
            f"Expected {count} data shards beside {prefix}.index, got {len(found)}; "
            f"missing:{listing(missing)}"
        )
    return sum((prefix.parent / f"{prefix.name}.data-{i:05d}-of-{count:05d}").stat().st_size for i in found)
