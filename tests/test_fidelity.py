"""The float .tflite against transformers' MobileBertForQuestionAnswering, both of the same saved directory.

Independent of the kit from end to end: transformers makes the model, names and saves its weights, and
computes the logits; the kit loads the directory, lowers, converts and runs. All positions are compared,
padding too: its logits are never read, but they depend on the same unmasked keys in both, so that a
difference there would be one in the mask. torch runs in a process of its own, of the same Python.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mobilebert_kit.checkpoints import load_checkpoint, prove_complete
from mobilebert_kit.contract import MLPERF
from mobilebert_kit.models.config import resolve_config
from mobilebert_kit.runtime.interpreter import Interpreter
from tools.transformers_reference import missing_packages, reference_logits

pytestmark = pytest.mark.skipif(
    bool(missing_packages()), reason=f"not installed: {' '.join(missing_packages())} (needs Python 3.11)"
)

# Logits of deviation 1 sum some hundred products a layer, rounded at 6e-8 each, in another order: about 1e-6.
TOLERANCE = 1e-5
INPUTS = 20
# No two widths of a model agree, and most are no powers of two, so that a swapped axis cannot go unseen.
KEYS = (
    "num_hidden_layers",
    "hidden_size",
    "embedding_size",
    "intra_bottleneck_size",
    "num_attention_heads",
    "intermediate_size",
    "num_feedforward_networks",
    "vocab_size",
    "max_position_embeddings",
)
SIZES = (
    ("relu", (1, 48, 20, 60, 3, 56, 1, 499, 70), 40),
    ("relu6", (2, 96, 36, 50, 5, 72, 2, 511, 64), 64),
    ("relu", (3, 160, 28, 84, 7, 132, 4, 523, 130), 101),
)

# transformers' own initialisation gives logits of 1e-2 without a single bias: here everything is random.
# Run in a process of its own; saves model.safetensors in one folder and pytorch_model.bin in another.
MAKE = """
import json, sys, torch
from transformers import MobileBertConfig, MobileBertForQuestionAnswering
torch.manual_seed(0)
model = MobileBertForQuestionAnswering(MobileBertConfig(**json.loads(sys.argv[1]))).eval()
with torch.no_grad():
    for name, p in model.named_parameters():
        if "LayerNorm.weight" in name:
            p.normal_(0.7, 0.1)
        elif name.endswith("bias"):
            p.normal_(0.0, 0.1)
        elif "embeddings." in name and "transformation" not in name:
            p.normal_(0.0, 1.0)
        else:
            p.normal_(0.0, p.shape[1] ** -0.5)
model.save_pretrained(sys.argv[2])
model.config.save_pretrained(sys.argv[3])
torch.save(model.state_dict(), sys.argv[3] + "/pytorch_model.bin")
"""


@pytest.mark.parametrize(("activation", "sizes", "length"), SIZES)
def test_float_model_gives_transformers_logits(
    activation: str, sizes: tuple[int, ...], length: int, tmp_path: Path
) -> None:
    settings = {"hidden_act": activation, **dict(zip(KEYS, sizes, strict=True))}
    safetensors, torch_file = tmp_path / "safetensors", tmp_path / "torch_file"
    subprocess.run(
        [sys.executable, "-c", MAKE, json.dumps(settings), str(safetensors), str(torch_file)], check=True
    )
    assert (safetensors / "model.safetensors").is_file() and (torch_file / "pytorch_model.bin").is_file()
    inputs = random_inputs(settings["vocab_size"], length)
    theirs = reference_logits(safetensors, inputs)
    assert theirs["start_logits"].std() > 0.3 and theirs["end_logits"].std() > 0.3
    for directory in (safetensors, torch_file):
        ours = float_logits(directory, inputs, length, tmp_path / "float.tflite")
        for name in MLPERF.output_names:
            difference = np.abs(ours[name] - theirs[name])
            assert difference[inputs["input_mask"] == 1].max() <= TOLERANCE, f"{name} of tokens, {directory}"
            assert difference.max() <= TOLERANCE, f"{name} of padding, {directory}"


def random_inputs(vocab_size: int, length: int) -> dict[str, np.ndarray]:
    """int32 [INPUTS, length]: without padding, with one token of it, and so on down to two tokens."""
    rng = np.random.default_rng(1)
    used = np.linspace(length, 2, INPUTS).astype(int)
    used[1] = length - 1
    question = np.array([rng.integers(1, n) for n in used])
    place = np.arange(length)
    mask = place < used[:, None]
    return {
        "input_ids": np.where(mask, rng.integers(0, vocab_size, mask.shape), 0).astype(np.int32),
        "input_mask": mask.astype(np.int32),
        "segment_ids": (mask & (place >= question[:, None])).astype(np.int32),
    }


def float_logits(
    directory: Path, inputs: dict[str, np.ndarray], length: int, file: Path
) -> dict[str, np.ndarray]:
    """What the kit makes of `directory`: loaded, converted to `file`, run."""
    from mobilebert_kit.models.serving import serving_module
    from mobilebert_kit.quantize.conversion import convert
    from mobilebert_kit.targets import FLOAT

    checkpoint = load_checkpoint(directory)
    config = resolve_config(checkpoint.settings, checkpoint.tensors, checkpoint.format)
    prove_complete(checkpoint.tensors, config.variable_shapes())
    module = serving_module(
        config, checkpoint.tensors, lowering=FLOAT.lowering_class(), contract=MLPERF, sequence_length=length
    )
    file.write_bytes(convert(module, FLOAT.recipe))
    model = Interpreter(file)
    rows = [model.run(**{name: values[i] for name, values in inputs.items()}) for i in range(INPUTS)]
    return {name: np.concatenate([row[name] for row in rows]) for name in MLPERF.output_names}
