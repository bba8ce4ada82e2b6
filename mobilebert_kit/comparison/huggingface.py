"""A Hugging Face directory, run by transformers: any model of its with a head for question answering."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mobilebert_kit.comparison.batches import BATCH, Logits, explained, run_batches
from mobilebert_kit.contract import ALIASES, MLPERF
from mobilebert_kit.errors import InputError
from mobilebert_kit.runtime.binding import bind_inputs
from mobilebert_kit.squad.windows import Window

_KNOWN = [alias for name in MLPERF.input_names for alias in ALIASES[name]]


def load_question_answering(path: str | Path) -> tuple[ModuleType, Any]:
    """(torch, the *ForQuestionAnswering in `path`): float32, on the CPU, for evaluation.

    No code of the model's own is run, no file comes from a hub.

    Raises:
        InputError: transformers or torch is not installed, it cannot load that, or would make up the head.
    """
    try:
        import torch
        from transformers import AutoModelForQuestionAnswering, logging
    except ImportError as error:
        raise InputError(
            f"Expected transformers and torch to be installed, to run {path}, got: {error}. Install: "
            "pip install 'mobilebert_kit[distill]'."
        ) from error
    logging.set_verbosity_error()  # what matters of its report on loading is checked below
    logging.disable_progress_bar()
    with explained(f"a model for question answering that transformers can load in {path}"):
        model, report = AutoModelForQuestionAnswering.from_pretrained(
            str(path),
            dtype=torch.float32,
            attn_implementation="eager",  # as the papers write it; the others do not tell their probabilities
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if report["missing_keys"]:
        raise InputError(
            f"Expected a model fine-tuned for question answering in {path}, got none of its "
            f"{sorted(report['missing_keys'])[0]}: transformers would make it up."
        )
    return torch, model.eval()


class HuggingFaceModel:
    """Runs in PyTorch, float32, on the CPU. No code of the model's own, no file from a hub."""

    kind = "transformers"
    sequence_length = None  # any, up to the model's positions

    def __init__(self, path: Path) -> None:
        self.path = path
        self._torch, self._model = load_question_answering(path)
        # Its other parameters are no inputs of a window: labels, masks of heads, what to return.
        parameters = inspect.signature(self._model.forward).parameters
        self.inputs = bind_inputs([name for name in _KNOWN if name in parameters], path)

    def logits(self, windows: Sequence[Window]) -> Logits:
        return run_batches(windows, self.inputs, self._run, size=BATCH, path=self.path)

    def _run(self, feed: dict[str, np.ndarray]) -> Logits:
        tensors = {name: self._torch.from_numpy(values.astype(np.int64)) for name, values in feed.items()}
        with self._torch.inference_mode():
            outputs = self._model(**tensors)
        return outputs.start_logits.numpy(), outputs.end_logits.numpy()
