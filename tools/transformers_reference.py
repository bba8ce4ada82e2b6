"""Logits of a Hugging Face directory by transformers: the independent implementation ours is held against.

    python tools/transformers_reference.py DIRECTORY inputs.npz outputs.npz

A process of its own, so that torch and TensorFlow need not share one. The arrays: input_ids, input_mask and
segment_ids, int [N, S]; start_logits and end_logits, float32 [N, S]; per layer, over unmasked tokens,
hidden_deviation [L + 1] (the embeddings first) and attention_perplexity [L] (not of a small BERT).
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mobilebert_kit.errors import CheckFailed, InputError

REQUIRED = ("torch", "transformers")


def missing_packages() -> list[str]:
    """Those of REQUIRED that this Python does not have."""
    return [name for name in REQUIRED if importlib.util.find_spec(name) is None]


def reference_logits(directory: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that this file's docstring names, computed in a process of this Python.

    Raises:
        InputError: torch or transformers is not installed.
        CheckFailed: transformers fails on the directory.
    """
    if missing := missing_packages():
        raise InputError(f"Expected {' and '.join(missing)} to be installed, got none. Install '.[distill]'.")
    with tempfile.TemporaryDirectory() as scratch:
        arguments = (str(Path(directory).resolve()), f"{scratch}/inputs.npz", f"{scratch}/outputs.npz")
        np.savez(arguments[1], **inputs)
        result = subprocess.run(
            [sys.executable, __file__, *arguments],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"},
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if result.returncode:
            raise CheckFailed(f"Expected transformers to run {directory}, got:\n{result.stderr[-2000:]}")
        with np.load(arguments[2]) as outputs:
            return dict(outputs)


def _load(directory: str) -> object:
    import torch
    from transformers import AutoConfig, AutoModelForQuestionAnswering

    config = AutoConfig.from_pretrained(directory)
    if (
        config.model_type == "bert"
        and getattr(config, "output_size", config.hidden_size) != config.hidden_size
    ):
        from small_bert_reference import SmallBert

        return SmallBert(Path(directory)).eval()
    # eager: the attention as it is written in the paper, and the one that returns its probabilities
    return AutoModelForQuestionAnswering.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def _compute(directory: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import torch

    model = _load(directory)
    names = {"input_ids": "input_ids", "attention_mask": "input_mask", "token_type_ids": "segment_ids"}
    takes = inspect.signature(model.forward).parameters  # a DistilBERT no token_type_ids
    start, end, hidden, perplexity = [], [], [], []
    with torch.no_grad():
        for row in range(len(inputs["input_ids"])):
            tensors = {
                theirs: torch.from_numpy(inputs[ours][row : row + 1].astype(np.int64))
                for theirs, ours in names.items()
                if theirs in takes
            }
            out = model(**tensors, output_hidden_states=True, output_attentions=True)
            start.append(out.start_logits[0].numpy())
            end.append(out.end_logits[0].numpy())
            kept = tensors["attention_mask"][0].bool()
            hidden.append([state[0, kept].std().item() for state in out.hidden_states])
            entropy = [
                -(p * p.clamp_min(1e-30).log()).sum(-1)[0, :, kept].mean() for p in out.attentions or ()
            ]
            perplexity.append([value.exp().item() for value in entropy])
    return {
        "start_logits": np.stack(start).astype(np.float32),
        "end_logits": np.stack(end).astype(np.float32),
        "hidden_deviation": np.mean(hidden, axis=0),
        "attention_perplexity": np.mean(perplexity, axis=0),
    }


if __name__ == "__main__":
    with np.load(sys.argv[2]) as arrays:
        given = dict(arrays)
    np.savez(sys.argv[3], **_compute(sys.argv[1], given))
