"""A training run: its folder, its loop, its checkpoints, scores and result.

output_dir/metrics.jsonl, curve.png    the course, as it goes
output_dir/training/                   what resuming needs: state.py
output_dir/model/                      the result, when all is done: result.py
output_dir/pruning.json, sparsity.png  of a run that prunes: how sparse each kernel is, pruning/report.py
output_dir/last_good/                  instead of it, the weights before a loss that is no number
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from mobilebert_kit.errors import CheckFailed
from mobilebert_kit.runtime.scoring import Score, score_logits
from mobilebert_kit.training.curve import Metrics, draw_curve
from mobilebert_kit.training.data import make_dataset
from mobilebert_kit.training.distillation import Lessons
from mobilebert_kit.training.distribution import is_first_worker, make_strategy, prove_agreement
from mobilebert_kit.training.inputs import TrainingInputs
from mobilebert_kit.training.lowering import Dropout
from mobilebert_kit.training.model import INPUTS, TrainableModel
from mobilebert_kit.training.optimizer import AdamW
from mobilebert_kit.training.precision import activation_dtype
from mobilebert_kit.training.pruning.pruner import Pruner
from mobilebert_kit.training.pruning.refit import refit
from mobilebert_kit.training.pruning.report import write_report
from mobilebert_kit.training.quantized_start import centered_start, initial_ranges
from mobilebert_kit.training.request import TrainingRequest
from mobilebert_kit.training.result import write_result
from mobilebert_kit.training.state import CURVE, FOLDER, LAST_GOOD, METRICS, MODEL, RunFolder, State
from mobilebert_kit.training.step import Batch, Outcome, Step

_EVALUATION_BATCH = 16
_DRAW_SECONDS = 30  # at most one picture in so much time: it takes a second
_LISTED = 20  # question ids of a batch that an error names
_WEIGHTS, _OPTIMIZER = "model/", "optimizer/"  # prefixes of a state's tensors


@dataclass(frozen=True)
class Summary:
    """What `train` prints."""

    model: Path
    steps: int
    resumed_at: int  # the step; 0 for a new run
    first_loss: float  # mean over the first tenth of the steps
    last_loss: float  # over the last tenth
    scores: list[dict[str, Any]]  # the epochs' rows of metrics.jsonl; empty without --eval
    seconds: float


def train(request: TrainingRequest) -> Summary:
    """Trains, or goes on training, until the result is in `output_dir`/model.

    Raises:
        InputError: an input or output folder that cannot be used.
        CheckFailed: the loss is no number; the last good weights are in `output_dir`/last_good.
    """
    began = time.monotonic()
    strategy = make_strategy(request.distribute, request.batch_size)
    inputs = TrainingInputs(request)
    dtype = activation_dtype(request.mixed_precision, quantized=request.qat)
    first = is_first_worker(strategy)
    folder = RunFolder(request.output_dir, inputs.settings)
    _ = inputs.evaluation, inputs.schedule  # bad data is told before anything is written
    with folder.opened(writes=first):
        metrics = Metrics(folder.path / METRICS, writes=first)
        if folder.finished:
            resumed_at = inputs.schedule.total
            metrics.resume(resumed_at)
        else:
            lessons = _lessons(inputs, folder, writes=first)
            with strategy.scope():
                trainer = Trainer(inputs, lessons, strategy, folder, metrics, dtype)
            resumed_at = trainer.run(writes=first)
    losses = [row["loss"] for row in metrics.of("step")] or [math.nan]  # of a run whose file was taken away
    tenth = max(1, len(losses) // 10)
    return Summary(
        model=folder.path / MODEL,
        steps=inputs.schedule.total,
        resumed_at=resumed_at,
        first_loss=float(np.mean(losses[:tenth])),
        last_loss=float(np.mean(losses[-tenth:])),
        scores=metrics.of("epoch"),
        seconds=time.monotonic() - began,
    )


def _lessons(inputs: TrainingInputs, folder: RunFolder, *, writes: bool) -> Lessons | None:
    """What the teacher says, if there is one; kept on disk by the process that writes files."""
    if inputs.teacher is None:
        return None
    request = inputs.request
    return Lessons(
        inputs.teacher,
        inputs.features,
        inputs.config,
        hidden=bool(request.hidden_weight),
        attention=bool(request.attention_weight),
        folder=(request.teacher_cache or folder.path / FOLDER) if writes else None,
    )


class Trainer:
    """The model, its optimizer and the loop over the steps. Made in the scope of `strategy`."""

    def __init__(
        self,
        inputs: TrainingInputs,
        lessons: Lessons | None,
        strategy: tf.distribute.Strategy,
        folder: RunFolder,
        metrics: Metrics,
        dtype: tf.DType,
    ) -> None:
        request = inputs.request
        self.inputs, self.folder, self.metrics = inputs, folder, metrics
        self._lessons, self._strategy = lessons, strategy
        self._drawn = -math.inf
        self._sparsity: dict[str, float] = {}  # of what is being pruned; empty where nothing is
        self._last_score: list[str] = []  # as the bar tells it; empty before the first
        self.model = TrainableModel(
            inputs.config,
            {**inputs.checkpoint.tensors, **inputs.checkpoint.range_variables},
            qat_weights=request.qat_weights if request.qat else None,
            dropout=inputs.dropout,
            seed=request.seed,
            compute_dtype=dtype.name,
        )
        trained = {name: v for name, v in self.model.named_variables.items() if v.trainable}
        self.pruner: Pruner | None = None
        if inputs.pruning or request.keep_zeros:
            self.pruner = Pruner(trained, inputs.pruning)
        self.optimizer = AdamW(
            trained,
            weight_decay=request.weight_decay,
            beta2=request.adam_beta2,
            loss_scaling=dtype == tf.float16,
            pruner=self.pruner,
        )
        self.step = Step(
            self.model,
            self.optimizer,
            trained,
            inputs.loss,
            strategy,
            accumulation=request.accumulation,
            batch_size=request.batch_size,
        )
        shape = tf.TensorSpec([None, request.max_seq_length], tf.int32)
        self._predict = tf.function(
            lambda inputs: self.model(inputs, training=False, step=0),
            input_signature=[dict.fromkeys(INPUTS, shape)],
            autograph=False,
        )

    def run(self, *, writes: bool) -> int:
        """From the last checkpoint to the result; returns the step of that checkpoint.

        Args:
            writes: whether this process is the one that writes files and scores.
        """
        order, schedule, request = self.inputs.order, self.inputs.schedule, self.inputs.request
        per_epoch = order.steps_per_epoch
        resumed_at = number = self._restore()
        if number == 0 and self._unranged:
            self._start_quantized()
        if self.inputs.pruning:
            self._sparsity = {"sparsity": self.pruner.sparsity}
        prove_agreement(self._strategy, f"{self.folder.digest} {number}")
        self.metrics.resume(number)
        with tqdm(total=schedule.total, initial=number, unit="step", disable=None if writes else True) as bar:
            while True:
                if writes and self._to_score(number):
                    self._score(number, bar)
                if number == schedule.total:
                    break
                if number == 0:
                    self._prune(number)
                epoch, place = divmod(number, per_epoch)
                for batch in make_dataset(self.inputs.features, order, epoch, place):
                    if self._lessons is not None:
                        batch = self._lessons.teach(batch)
                    rate = schedule.rate(number)
                    outcome = self.step(batch, rate, number)
                    if not outcome.finite:
                        self._stop(number, outcome, batch, writes=writes)
                    number += 1
                    self._prune(number)
                    self._count(number, rate, outcome, bar)
                    last = number % per_epoch == 0 or number == schedule.total
                    if writes and (last or number % request.checkpoint_steps == 0):
                        tensors = self._tensors()
                        if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
                            self._stop(number - 1, outcome, batch, writes=writes)
                        self.folder.save(State(number, tensors))
                    if last:
                        break
        if writes:
            self._draw()
            if self.inputs.pruning:
                write_report(self.folder.path, self.inputs.pruning, self.model.tensors())
            self._write_result(MODEL, number, self.model.tensors())
        return resumed_at

    def _prune(self, number: int) -> None:
        """New masks after `number` updates, where it is time for them."""
        if self.pruner is not None and self.pruner.prune(number, self._refit):
            self._sparsity["sparsity"] = self.pruner.sparsity

    def _refit(self, masks: Mapping[str, np.ndarray]) -> None:
        batches = self._first_batches(self.inputs.pruning.refit_steps)
        for name, value in refit(self.model, masks, batches).items():
            self.model.named_variables[name].assign(value)

    @property
    def _unranged(self) -> bool:
        """Whether there are quantizers whose ranges nobody has trained yet."""
        return self.model.quantizers is not None and not self.inputs.checkpoint.ranges

    def _start_quantized(self) -> None:
        """From the float model, as it is on the first steps' windows."""
        count = self.inputs.request.qat_calibration_steps
        if not count:
            return  # as published: ranges of -6 and 6
        batches = self._first_batches(count)
        variables = self.model.named_variables
        for start in (centered_start, initial_ranges):  # in this order: centred values have other ranges
            for name, value in start(self.inputs.config, variables, batches).items():
                variables[name].assign(value)

    def _first_batches(self, steps: int) -> list[dict[str, tf.Tensor]]:
        """Of the first `steps` steps of the data: int32 [B, S] by the names of INPUTS."""
        return [
            {name: step[name][part] for name in INPUTS}
            for step in make_dataset(self.inputs.features, self.inputs.order, 0).take(steps)
            for part in range(self.inputs.request.accumulation)
        ]

    # Checkpoints

    def _variables(self) -> dict[str, tf.Variable]:
        named = {_WEIGHTS + name: variable for name, variable in self.model.named_variables.items()}
        return named | {_OPTIMIZER + name: variable for name, variable in self.optimizer.state().items()}

    def _tensors(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(variable.numpy()) for name, variable in self._variables().items()}

    def _restore(self) -> int:
        state = self.folder.load()
        if state is None:
            return 0
        variables = self._variables()
        self.folder.prove_fits(state, {name: tuple(each.shape) for name, each in variables.items()})
        for name, variable in variables.items():
            variable.assign(state.tensors[name])
        return state.step

    def _write_result(self, name: str, step: int, tensors: dict[str, np.ndarray]) -> None:
        scores = [row for row in self.metrics.of("epoch") if row["step"] == step]
        write_result(
            self.folder.path / name,
            tensors,
            self.inputs.config,
            dropout=Dropout.from_settings(self.inputs.checkpoint.settings),
            vocab=self.inputs.vocab,
            step=step,
            about={
                "command": self.inputs.request.command,
                "settings": self.folder.settings,
                "score": scores[-1] if scores else None,
            },
        )

    # What a run tells

    def _count(self, number: int, rate: float, outcome: Outcome, bar: tqdm) -> None:
        self.metrics.add(
            {
                "kind": "step",
                "step": number,
                "epoch": round(number / self.inputs.order.steps_per_epoch, 4),
                "loss": outcome.loss,
                "rate": rate,
                "gradient_norm": outcome.norm,
                **self._sparsity,
            }
        )
        told = [f"sparsity {value:.4f}" for value in self._sparsity.values()]
        told += [f"loss {outcome.loss:.3f}", f"rate {rate:.2e}", *self._last_score]
        bar.set_postfix_str(", ".join(told), refresh=False)
        bar.update()

    def _to_score(self, number: int) -> bool:
        """Whether an epoch ended (or the run did) with step `number`, and has no score yet. A run that prunes
        is scored before its first step too: that is what it is compared with."""
        ends = number == self.inputs.schedule.total or number % self.inputs.order.steps_per_epoch == 0
        wanted = ends and (number > 0 or self.inputs.pruning is not None)
        return wanted and all(row["step"] != number for row in self.metrics.of("epoch"))

    def _score(self, number: int, bar: tqdm) -> None:
        if self.inputs.evaluation is not None:
            bar.set_postfix_str("scoring")
            score = self.evaluate()
            epoch = number / self.inputs.order.steps_per_epoch
            row = {
                "kind": "epoch",
                "step": number,
                "epoch": round(epoch, 4),
                "exact_match": score.exact_match,
                "f1": score.f1,
                "questions": score.questions,
                "seconds": round(score.seconds, 3),
                **self._sparsity,
            }
            self.metrics.add(row)
            self._last_score = [f"F1 {score.f1:.2f}"]
            if not bar.disable:
                bar.write(f"epoch {epoch:g}: EM {score.exact_match:.2f}, F1 {score.f1:.2f}")
        if time.monotonic() - self._drawn > _DRAW_SECONDS:
            self._draw()

    def evaluate(self) -> Score:
        """EM and F1 of the model as it is, on the evaluation's questions, padded to the full length."""
        began = time.monotonic()
        evaluation = self.inputs.evaluation
        windows = evaluation.windows
        logits = np.zeros((2, len(windows), self.inputs.request.max_seq_length), np.float32)
        for first in range(0, len(windows), _EVALUATION_BATCH):
            part = windows[first : first + _EVALUATION_BATCH]
            batch = {name: np.stack([getattr(window, name) for window in part]) for name in INPUTS}
            outputs = self._predict({name: tf.constant(value) for name, value in batch.items()})
            logits[0, first : first + len(part)] = outputs["start_logits"].numpy()
            logits[1, first : first + len(part)] = outputs["end_logits"].numpy()
        return score_logits(evaluation.questions, windows, logits[0], logits[1], began=began)

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        draw_curve(self.folder.path / CURVE, self.metrics.of("step"), self.metrics.of("epoch"))

    def _stop(self, number: int, outcome: Outcome, batch: Batch, *, writes: bool) -> None:
        """Raises CheckFailed for a step whose loss, gradient or weights are no numbers."""
        rows = np.unique(batch["rows"].numpy())
        ids = list(dict.fromkeys(self.inputs.features.question_ids[row] for row in rows))
        named = ", ".join(ids[:_LISTED]) + (f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else "")
        state = self.folder.load()
        kept = "There is no earlier checkpoint of this run"
        if state is not None and writes:
            tensors = {
                name.removeprefix(_WEIGHTS): value
                for name, value in state.tensors.items()
                if name.startswith(_WEIGHTS)
            }
            self._write_result(LAST_GOOD, state.step, tensors)
            place = self.folder.path / LAST_GOOD
            kept = f"The weights after step {state.step}, the last good ones, are in {place}"
        raise CheckFailed(
            f"Expected numbers as loss, gradient and weights, got loss {outcome.loss} and gradient norm "
            f"{outcome.norm} in step {number + 1} of {self.inputs.schedule.total} (epoch "
            f"{number // self.inputs.order.steps_per_epoch + 1}), whose batch is of questions {named}.\n"
            f"{kept}. Start anew in another --output_dir with a lower --learning_rate or a longer --warmup, "
            "with --mixed_precision none, or without these questions; --checkpoint takes the last good "
            "weights."
        )
