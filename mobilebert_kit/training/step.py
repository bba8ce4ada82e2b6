"""One update as one tf.function: forward and backward of each batch, the mean over replicas, AdamW.

global batch [accumulation, batch_size, L]
  each replica: its share of every batch -> gradients, summed over the batches
  all replicas: gradients added up -> clipped -> one update of the mirrored variables (optimizer.py)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from mobilebert_kit.training.model import INPUTS
from mobilebert_kit.training.optimizer import AdamW

Batch = dict[str, Any]  # tf.Tensor, or with several replicas a tf.distribute.DistributedValues


class Loss(Protocol):
    """Of a batch, a float32 scalar: the mean over its windows."""

    points: Sequence[str]  # what it reads of the model's inside: see TrainableModel.call, observe

    def __call__(self, outputs: Mapping[str, tf.Tensor], batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """`outputs` are the logits by name, and the tensors at `points` by point."""
        ...


class Outcome(NamedTuple):
    """Of one step: the mean loss, and the gradient's norm before clipping."""

    loss: float
    norm: float
    finite: bool  # loss and, without loss scaling, norm are numbers


class Step:
    """The update of `model` by `optimizer`, both made in the scope of `strategy`.

    Args:
        accumulation: batches of an update.
        batch_size: windows of a batch, all replicas together; a multiple of their number.
    """

    def __init__(
        self,
        model: Any,
        optimizer: AdamW,
        variables: Mapping[str, tf.Variable],
        loss: Loss,
        strategy: tf.distribute.Strategy,
        *,
        accumulation: int,
        batch_size: int,
    ) -> None:
        self._model, self._optimizer, self._loss, self._strategy = model, optimizer, loss, strategy
        self._variables = list(variables.values())
        self._accumulation = accumulation
        self._replicas = strategy.num_replicas_in_sync
        self._share = batch_size // self._replicas
        # Nothing here is for autograph to convert, which would take half of the time before the first step.
        self._update = tf.function(self._global_step, autograph=False)

    def __call__(self, batch: Batch, rate: float, number: int) -> Outcome:
        """Updates the weights by the global batch.

        Args:
            batch: see data.make_dataset.
            rate: the learning rate.
            number: of this step in the run, from 0: dropout follows from it.
        """
        loss, norm = self._update(
            self._distributed(batch), tf.constant(rate, tf.float32), tf.constant(number, tf.int64)
        )
        loss, norm = float(loss), float(norm)
        finite = bool(tf.math.is_finite(loss)) and (
            self._optimizer.loss_scaling or bool(tf.math.is_finite(norm))
        )
        return Outcome(loss, norm, finite)

    def _distributed(self, batch: Batch) -> Batch:
        """Each replica's windows of every batch; all workers read the same batches and keep their own."""
        if self._replicas == 1:
            return batch

        def part(context: tf.distribute.experimental.ValueContext) -> Batch:
            first = context.replica_id_in_sync_group * self._share
            return {name: value[:, first : first + self._share] for name, value in batch.items()}

        return self._strategy.experimental_distribute_values_from_function(part)

    def _global_step(self, batch: Batch, rate: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        loss, norm, gradients = self._strategy.run(self._replica_step, args=(batch, number))
        norm = self._strategy.reduce(tf.distribute.ReduceOp.MEAN, norm, axis=None)  # the same on all
        self._optimizer.apply(gradients, norm, rate)
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, loss, axis=None), norm

    def _replica_step(self, batch: Batch, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        context = tf.distribute.get_replica_context()
        first = number * (self._accumulation * self._replicas)
        place = tf.cast(context.replica_id_in_sync_group, tf.int64) * self._accumulation

        loss, gradients = tf.zeros([]), []
        # Unrolled: with several replicas, the quantizers' moving averages may not be in a loop.
        for index in range(self._accumulation):
            part = {name: value[index] for name, value in batch.items()}
            with tf.control_dependencies([loss, *gradients]):  # one batch in memory at a time
                more, found = self._gradients(part, first + place + index)
            loss += more
            gradients = [a + b for a, b in zip(gradients, found, strict=True)] if gradients else found
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        if self._optimizer.loss_scaling:
            gradients = [gradient / self._optimizer.scale for gradient in gradients]
        return loss, tf.linalg.global_norm(gradients), gradients

    def _gradients(
        self, batch: Mapping[str, tf.Tensor], draw: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Of this batch's part of the step's loss, times the optimizer's scale; dense tensors."""
        inner: dict[str, tf.Tensor] = {}

        def observe(tensor: tf.Tensor, point: str) -> tf.Tensor:
            if point in self._loss.points:
                inner[point] = tensor
            return tensor

        with tf.GradientTape() as tape:
            windows = {name: batch[name] for name in INPUTS}
            outputs = self._model(windows, training=True, step=draw, observe=observe)
            loss = self._loss({**outputs, **inner}, batch) / (self._accumulation * self._replicas)
            scaled = loss * self._optimizer.scale if self._optimizer.loss_scaling else loss
        gradients = tape.gradient(scaled, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return loss, [tf.convert_to_tensor(gradient) for gradient in gradients]
