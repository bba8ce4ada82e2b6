"""A teacher: a model that answers the same questions, whose logits and inner states a student learns from.

a checkpoint of a family that the kit knows   runs in TensorFlow
another Hugging Face directory                runs through transformers (extra [distill])

Both read the student's windows, so both must have its vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf

from mobilebert_kit.checkpoints import Checkpoint, content_digest, load_checkpoint, prove_complete
from mobilebert_kit.comparison.huggingface import load_question_answering
from mobilebert_kit.errors import InputError
from mobilebert_kit.inputs import checkpoint_config
from mobilebert_kit.json_files import read_json_object
from mobilebert_kit.models.config import ModelConfig
from mobilebert_kit.models.forward import FORWARD_PASSES, question_answering
from mobilebert_kit.squad.tokenizer import load_vocab
from mobilebert_kit.training.loss import OUTPUTS
from mobilebert_kit.training.lowering import TrainingLowering
from mobilebert_kit.training.model import own_inputs

Batch = Mapping[str, np.ndarray]  # input_ids, input_mask, segment_ids: int32 [B, S]


def hidden_point(config: ModelConfig, layer: int) -> str:
    """Where the model shows what a layer puts out, [B, S, C]."""
    norm = "bottleneck/FakeLayerNorm" if config.family == "mobilebert" else "LayerNorm"
    return f"bert/encoder/layer_{layer}/output/{norm}"


def attention_point(layer: int) -> str:
    """Where the model shows a layer's attention probabilities, [B, heads, S, S]."""
    return f"bert/encoder/layer_{layer}/attention/self/probabilities"


class Teacher(Protocol):
    """What a student can learn from. `digest` is the same for the same weights."""

    digest: str
    layers: int
    width: int  # of its hidden states
    heads: int
    positions: int  # the longest window that it reads

    def __call__(self, batch: Batch, *, hidden: bool, attention: bool) -> dict[str, np.ndarray]:
        """float32: start_logits and end_logits [B, S], and where asked for hidden [B, layers, S, width], what
        each layer puts out, and attention [B, layers, heads, S, S], its probabilities."""
        ...


def load_teacher(path: str, vocab: Path) -> Teacher:
    """The teacher at `path`: a checkpoint as `load_checkpoint` takes it, or a directory for transformers.

    Args:
        vocab: the student's.
    Raises:
        InputError: no such model, another vocabulary, or transformers is not installed.
    """
    config = Path(path) / "config.json"
    family = "mobilebert"
    if config.is_file():
        family = str(read_json_object(config, "the teacher's configuration").get("model_type", family))
    teacher_vocab = Path(path) / "vocab.txt"
    known = family in FORWARD_PASSES
    if known:
        checkpoint = load_checkpoint(path)
        teacher_vocab = checkpoint.vocab_path or teacher_vocab
    _prove_same_vocabulary(teacher_vocab, vocab)
    return KitTeacher(checkpoint) if known else TransformersTeacher(path)


def _prove_same_vocabulary(teacher: Path, student: Path) -> None:
    if not teacher.is_file():
        raise InputError(
            f"Expected the teacher's vocabulary beside it, got no {teacher}. Put its vocab.txt there: both "
            "must read the same tokens."
        )
    theirs, own = load_vocab(teacher), load_vocab(student)
    if theirs == own:
        return
    other = next((token for token in own if theirs.get(token) != own[token]), "one that only the teacher has")
    raise InputError(
        f"Expected a teacher with the student's vocabulary ({len(own)} tokens of {student}), got another of "
        f"{len(theirs)} tokens in {teacher}: they differ first in {other!r}. Choose a teacher with the same "
        "vocab.txt."
    )


class KitTeacher:
    """A checkpoint of the kit, without dropout."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.quantized:
            raise InputError(
                "Expected a float model as teacher, got a checkpoint with the ranges of quantized training. "
                "Name the float model that it should be as good as."
            )
        config = checkpoint_config(checkpoint)
        prove_complete(checkpoint.tensors, config.variable_shapes(), source="the teacher")
        self.digest = checkpoint.digest
        self.layers, self.width = config.num_hidden_layers, config.hidden_size
        self.heads, self.positions = config.num_attention_heads, config.max_position_embeddings
        self._config = config
        self._weights = {name: tf.constant(tensor) for name, tensor in checkpoint.tensors.items()}
        self._run = tf.function(self._forward, autograph=False)

    def _forward(self, batch: Mapping[str, tf.Tensor], wanted: Sequence[str]) -> dict[str, tf.Tensor]:
        seen: dict[str, tf.Tensor] = {}

        def keep(tensor: tf.Tensor, point: str) -> tf.Tensor:
            seen[point] = tensor
            return tensor

        ops = TrainingLowering(self._config, self._weights, observe=keep)
        logits = question_answering(self._config, ops, **own_inputs(self._config, batch))
        layers = range(self.layers)
        inner = {
            "hidden": [seen[hidden_point(self._config, layer)] for layer in layers],
            "attention": [seen[attention_point(layer)] for layer in layers],
        }
        found = {**logits, **{name: tf.stack(tensors, axis=1) for name, tensors in inner.items()}}
        return {name: found[name] for name in wanted}  # the graph computes no others

    def __call__(self, batch: Batch, *, hidden: bool, attention: bool) -> dict[str, np.ndarray]:
        wanted = (*OUTPUTS, *(("hidden",) if hidden else ()), *(("attention",) if attention else ()))
        outputs = self._run({name: tf.constant(values) for name, values in batch.items()}, wanted)
        return {name: tensor.numpy() for name, tensor in outputs.items()}


class TransformersTeacher:
    """Any *ForQuestionAnswering of transformers, in float32 on the CPU, or on the GPU that torch finds."""

    def __init__(self, path: str) -> None:
        self._torch, self._model = load_question_answering(path)
        config = self._model.config
        self.layers, self.width = config.num_hidden_layers, config.hidden_size
        self.heads, self.positions = config.num_attention_heads, config.max_position_embeddings
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._model.to(self._device)
        weights = {name: tensor.cpu().numpy() for name, tensor in self._model.state_dict().items()}
        settings = hashlib.sha256(repr(sorted(config.to_diff_dict().items())).encode()).hexdigest()
        self.digest = hashlib.sha256((content_digest(weights) + settings).encode()).hexdigest()
        self._names = {"input_ids": "input_ids", "attention_mask": "input_mask"}
        if getattr(config, "type_vocab_size", 0):  # DistilBERT has no token types
            self._names["token_type_ids"] = "segment_ids"

    def __call__(self, batch: Batch, *, hidden: bool, attention: bool) -> dict[str, np.ndarray]:
        torch = self._torch
        inputs = {
            theirs: torch.from_numpy(np.asarray(batch[own], np.int64)).to(self._device)
            for theirs, own in self._names.items()
        }
        with torch.inference_mode():
            outputs = self._model(**inputs, output_hidden_states=hidden, output_attentions=attention)
            found = {"start_logits": outputs.start_logits, "end_logits": outputs.end_logits}
            if hidden:
                found["hidden"] = torch.stack(outputs.hidden_states[1:], dim=1)  # the first is the embeddings
            if attention:
                found["attention"] = torch.stack(outputs.attentions, dim=1)
        return {name: tensor.float().cpu().numpy() for name, tensor in found.items()}
