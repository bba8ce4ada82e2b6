"""The model as tf_keras trains it: variables under their canonical names, arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tf_keras

from mobilebert_kit.checkpoints.integrity import prove_complete
from mobilebert_kit.checkpoints.names import is_quant_range
from mobilebert_kit.contract import SEGMENTS
from mobilebert_kit.errors import InputError
from mobilebert_kit.lowering.cpu import Observe, unobserved
from mobilebert_kit.models.config import ModelConfig
from mobilebert_kit.models.forward import question_answering
from mobilebert_kit.training.lowering import NO_DROPOUT, Dropout, TrainingLowering
from mobilebert_kit.training.quantizers import (
    FakeQuantizers,
    QuantizedTrainingLowering,
    constant,
    prove_quantizable,
)

INPUTS = ("input_ids", "input_mask", SEGMENTS)  # of a batch; not every model reads the last


def own_inputs(config: ModelConfig, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Of a batch, what a model of `config` reads: int32 [B, S] by name."""
    names = [name for name in INPUTS if config.has_segments or name != SEGMENTS]
    return {name: tf.cast(batch[name], tf.int32) for name in names}


class TrainableModel(tf_keras.Model):
    """A model for question answering with its variables.

    Args:
        tensors: canonical name -> float array, all of `config.variable_shapes()`; quantizer ranges beside
            them are loaded where `qat_weights` is given, and refused where it is not.
        qat_weights: None for a float model; "per_tensor" or "per_channel" for one with fake quantizers.
        dropout, seed: of training, see TrainingLowering.
        compute_dtype: "float32", or "bfloat16" or "float16" for mixed precision: variables, softmax and
            logits stay float32. (float16 needs loss scaling.)
    Raises:
        InputError: tensors of another configuration or not finite, or a configuration that quantized
            training does not know.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, np.ndarray],
        *,
        qat_weights: str | None = None,
        dropout: Dropout = NO_DROPOUT,
        seed: int = 0,
        compute_dtype: str = "float32",
    ):
        super().__init__(name=config.family, dtype="float32")
        if not 0 <= seed < 2**31:
            raise InputError(f"Expected a seed from 0 to {2**31 - 1}, got {seed}.")
        ranges = {name: value for name, value in tensors.items() if is_quant_range(name)}
        floats = {name: value for name, value in tensors.items() if name not in ranges}
        shapes = config.variable_shapes()
        prove_complete(floats, shapes, source="the tensors to train")
        if ranges and qat_weights is None:
            raise InputError(
                f"Expected no quantizer ranges for a float model, got {len(ranges)}. Train with --qat, or "
                "leave the ranges out to go on in float."
            )
        if qat_weights is not None:
            prove_quantizable(config)
        self.config, self.dropout, self.seed = config, dropout, seed
        self.activation_dtype = compute_dtype
        self.named_variables: dict[str, tf.Variable] = {
            name: self.add_weight(name=name, shape=shape, initializer=constant(floats[name]))
            for name, shape in shapes.items()
        }
        self.quantizers: FakeQuantizers | None = None
        if qat_weights is not None:
            self.quantizers = FakeQuantizers(config, self.add_weight, weights=qat_weights, ranges=ranges)
            self.named_variables.update(self.quantizers.variables)
        self.built = True

    def call(
        self,
        inputs: Mapping[str, tf.Tensor],
        training: bool | None = None,
        step: int | tf.Tensor = 0,
        observe: Observe = unobserved,
    ) -> dict[str, tf.Tensor]:
        """Start and end logits, {"end_logits", "start_logits"}, float32 [B, S] each.

        Args:
            inputs: "input_ids", "input_mask", and "segment_ids" where the model has segments, int32 [B, S]
                each; S at most max_position_embeddings. Other keys are ignored.
            training: whether to drop values and to update quantizer ranges.
            step: decides which values are dropped, together with the model's seed. Another number for every
                call of a run: for accumulated batches and for replicas too.
            observe: sees every tensor of the forward pass by its point, fake-quantized already, and may
                replace it; hidden states and attention for distillation are at `hidden_point` and
                `attention_point` of teacher.py.
        Raises:
            InputError: windows longer than the model has positions.
        """
        own = own_inputs(self.config, inputs)
        most, length = self.config.max_position_embeddings, own["input_ids"].shape[1] or 0
        if length > most:
            raise InputError(f"Expected windows of at most {most} tokens, got {length}.")
        training = bool(training)
        options = {
            "observe": observe,
            "dropout": self.dropout if training else NO_DROPOUT,
            "seed": self.seed,
            "step": step,
            "dtype": self.activation_dtype,
        }
        if self.quantizers is None:
            ops = TrainingLowering(self.config, self.named_variables, **options)
        else:
            ops = QuantizedTrainingLowering(
                self.config, self.named_variables, quantizers=self.quantizers, training=training, **options
            )
        return question_answering(self.config, ops, **own)

    def tensors(self) -> dict[str, np.ndarray]:
        """Canonical name -> float32 array of every variable, quantizer ranges included."""
        return {name: variable.numpy() for name, variable in self.named_variables.items()}

    def assign(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Sets every variable, in place.

        Raises:
            InputError: other names or shapes than `tensors()` has, or values that are not finite.
        """
        shapes = {name: tuple(variable.shape) for name, variable in self.named_variables.items()}
        prove_complete(tensors, shapes, source="the tensors to assign")
        for name, variable in self.named_variables.items():
            variable.assign(tensors[name])
