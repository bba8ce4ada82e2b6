"""Engines that the kit does not run, or not so: each as mobilebert_kit.runtime.engine.Engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobilebert_kit.runtime.binding import bind_inputs, bind_outputs


class OnnxRuntime:
    """ONNX Runtime as an app opens it, by its defaults.

    The kit's OnnxModel asks for exact int8 kernels; the default ones saturate on x86 without VNNI.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # no notices
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = bind_inputs([node.name for node in self._session.get_inputs()], path)
        self._outputs = bind_outputs([node.name for node in self._session.get_outputs()], path)

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """By the kit's names: int32 [S] -> float32 [1, S]."""
        feed = {theirs: inputs[own][None] for own, theirs in self.inputs.items()}
        logits = self._session.run(list(self._outputs.values()), feed)
        return dict(zip(self._outputs, logits, strict=True))


class PyTorch:
    """transformers' model in eager mode, float32, with PyTorch's own fused attention."""

    def __init__(self, path: Path, *, threads: int) -> None:
        from mobilebert_kit.comparison.huggingface import load_question_answering

        self._torch, self._model = load_question_answering(path)
        self._model.set_attn_implementation("sdpa")
        self._torch.set_num_threads(threads)
        self.inputs = {
            "input_ids": "input_ids", "input_mask": "attention_mask", "segment_ids": "token_type_ids"
        }  # fmt: skip

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """By the kit's names: int32 [S] -> float32 [1, S]."""
        tensors = {
            theirs: self._torch.from_numpy(inputs[own].astype(np.int64))[None]
            for own, theirs in self.inputs.items()
        }
        with self._torch.inference_mode():
            out = self._model(**tensors)
        return {"start_logits": out.start_logits.numpy(), "end_logits": out.end_logits.numpy()}
