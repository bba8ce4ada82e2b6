"""How fast a training step is: the kit's against one with transformers' PyTorch MobileBERT.

    python tools/bench_training.py --output training.json

Both train the same full-size checkpoint with random weights on the same batch: forward, backward, gradients
clipped, AdamW. Each has a process of its own, so that the two libraries' threads do not meet; the processes
take turns, step by step, so that whatever else the machine does falls on both. A ratio is the median over the
rounds of PyTorch's time over the kit's in the same round. Windows are full: no padding.

PyTorch as transformers' own trainer has it: sdpa attention, fused AdamW. OMP_WAIT_POLICY=PASSIVE, because
waiting OpenMP threads that spin take the cores from the other process, and from PyTorch itself.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from benchmark_models import checkpoint_or_random
from benchmark_report import Requirement, publish

from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.main import run

LEAST_SPEED = 1.0  # times PyTorch's tokens per second
LOSS_TOLERANCE = 1e-4  # relative, before the first step and without dropout: the two must be the same model
MOST_PRUNING_TIME = 1.15  # times the kit's plain step
RATE, DECAY, LARGEST_NORM = 1e-6, 0.01, 1.0
KIT, QUANTIZED, PRUNING, TORCH = "kit", "kit, quantized", "kit, pruning", "transformers"

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Default: full size, random weights.")
_LENGTHS = flags.DEFINE_list("lengths", ["128", "384"], "Tokens of a window.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Windows of a step.", lower_bound=1)
_DROPOUT = flags.DEFINE_float("dropout", 0.1, "Of attention; 0.1 is the published one.", 0, 0.9)
_THREADS = flags.DEFINE_integer("threads", 2, "Of each process.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Steps that each takes, for each length.", lower_bound=3)
_QAT = flags.DEFINE_bool("qat", False, "Measure quantization-aware training too.")
_PRUNE = flags.DEFINE_bool("prune", False, "Measure training that prunes (snip_momentum, 4x1) too.")
_OUTPUT = flags.DEFINE_string("output", None, "Write everything to this JSON file too.")


@dataclass(frozen=True)
class Run:
    """What a process trains, and how."""

    model: str
    checkpoint: Path
    dropout: float
    threads: int


Batch = dict[str, np.ndarray]
# (loss without dropout and without an update, one training step that returns when it is done)
Trainer = tuple[Callable[[Batch], float], Callable[[Batch], None]]


def main() -> None:
    if not all(length.isdigit() and int(length) > 0 for length in _LENGTHS.value):
        raise InputError(f"Expected --lengths to be whole numbers like 128,384, got {_LENGTHS.value}.")
    names = [KIT, TORCH, *([QUANTIZED] if _QAT.value else []), *([PRUNING] if _PRUNE.value else [])]
    results = []
    with checkpoint_or_random(_CHECKPOINT.value) as checkpoint, ExitStack() as processes:
        workers = {
            name: processes.enter_context(started(Run(name, checkpoint, _DROPOUT.value, _THREADS.value)))
            for name in names
        }
        for length in map(int, _LENGTHS.value):
            batch = random_batch(_BATCH_SIZE.value, length)
            losses = {name: ask(worker, "loss", batch) for name, worker in workers.items()}
            if abs(losses[KIT] / losses[TORCH] - 1) > LOSS_TOLERANCE and not results:
                raise CheckFailed(f"Expected the same loss of both before the first step, got {losses}.")
            times = take_turns(workers, batch, _ROUNDS.value)
            results += [
                summarize(name, batch, seconds, times[TORCH], times[KIT]) for name, seconds in times.items()
            ]
    publish(
        f"One training step, batch {_BATCH_SIZE.value}, attention dropout {_DROPOUT.value:g}, "
        f"{_THREADS.value} threads, {_ROUNDS.value} rounds",
        ("tokens", "model", "median, s", "quartiles, s", "tokens/s", "times as fast as transformers"),
        [
            (
                result["length"],
                result["model"],
                f"{result['median_s']:.2f}",
                f"{result['lower_quartile_s']:.2f} - {result['upper_quartile_s']:.2f}",
                f"{result['tokens_per_s']:.0f}",
                f"{result['speed']:.2f}",
            )
            for result in results
        ],
        [
            Requirement(
                f"{result['length']} tokens, times as fast as transformers",
                result["speed"],
                LEAST_SPEED,
                at_least=True,
            )
            for result in results
            if result["model"] == KIT
        ]
        + [
            Requirement(
                f"{result['length']} tokens, a step that prunes, times a plain one",
                result["times_plain"],
                MOST_PRUNING_TIME,
            )
            for result in results
            if result["model"] == PRUNING
        ],
        {"results": results},
        _OUTPUT.value,
    )


def random_batch(size: int, length: int) -> Batch:
    """Full windows. A step's time does not depend on what is in them."""
    random = np.random.default_rng(length)
    segments = np.broadcast_to(np.arange(length) >= 16, (size, length))
    return {
        "input_ids": random.integers(1000, 30000, (size, length)).astype(np.int32),
        "input_mask": np.ones((size, length), np.int32),
        "segment_ids": segments.astype(np.int32),
        "start_positions": random.integers(16, length, size).astype(np.int32),
        "end_positions": random.integers(16, length, size).astype(np.int32),
    }


def take_turns(workers: dict[str, Connection], batch: Batch, rounds: int) -> dict[str, list[float]]:
    """Seconds of each one's steps, round by round, in another order each round; the first is not counted."""
    times: dict[str, list[float]] = {name: [] for name in workers}
    order = np.random.default_rng(0)
    for number in range(-1, rounds):
        for name in order.permutation(list(workers)):
            seconds = ask(workers[name], "step", batch)
            if number >= 0:
                times[name].append(seconds)
    return times


def summarize(
    name: str, batch: Batch, seconds: list[float], reference: list[float], plain: list[float]
) -> dict[str, Any]:
    """Median, quartiles, tokens a second; speed relative to the reference's, time to a plain step's."""
    lower, median, upper = np.percentile(seconds, (25, 50, 75))
    size, length = batch["input_ids"].shape
    return {
        "model": name,
        "length": length,
        "batch_size": size,
        "median_s": round(float(median), 3),
        "lower_quartile_s": round(float(lower), 3),
        "upper_quartile_s": round(float(upper), 3),
        "tokens_per_s": round(float(size * length / median), 1),
        "speed": round(float(np.median(np.divide(reference, seconds))), 3),
        "times_plain": round(float(np.median(np.divide(seconds, plain))), 3),
        "seconds": [round(value, 3) for value in seconds],
    }


@contextmanager
def started(job: Run) -> Iterator[Connection]:
    """A process that serves `ask`, until the end of the `with`."""
    os.environ.update(
        OMP_WAIT_POLICY="PASSIVE",
        OMP_NUM_THREADS=str(job.threads),
        HF_HUB_OFFLINE="1",
        CUDA_VISIBLE_DEVICES="-1",
    )
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(job, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(timeout=30)
        if process.is_alive():
            process.terminate()


def ask(worker: Connection, what: str, batch: Batch) -> float:
    """The "loss" of the batch, or the seconds of a "step" on it."""
    try:
        worker.send((what, batch))
        return worker.recv()
    except EOFError as error:
        raise CheckFailed(
            "Expected both processes to train, got one that ended; its error is above."
        ) from error


def serve(job: Run, parent: Connection) -> None:
    """The process: answers until the other end is closed."""
    loss, step = (torch_trainer if job.model == TORCH else kit_trainer)(job)
    while True:
        try:
            what, batch = parent.recv()
        except EOFError:
            return
        if what == "loss":
            parent.send(loss(batch))
            continue
        began = time.perf_counter()
        step(batch)
        parent.send(time.perf_counter() - began)


def kit_trainer(job: Run) -> Trainer:
    """The kit's own step."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(job.threads)
    tf.config.threading.set_inter_op_parallelism_threads(job.threads)
    from mobilebert_kit.checkpoints import load_checkpoint
    from mobilebert_kit.models.config import resolve_config
    from mobilebert_kit.training.distillation import SpanLoss
    from mobilebert_kit.training.lowering import Dropout
    from mobilebert_kit.training.model import TrainableModel
    from mobilebert_kit.training.optimizer import AdamW
    from mobilebert_kit.training.pruning.plan import make_plan
    from mobilebert_kit.training.pruning.pruner import Pruner
    from mobilebert_kit.training.pruning.request import PruningRequest
    from mobilebert_kit.training.quantizers import quantized_config
    from mobilebert_kit.training.step import Step

    loaded = load_checkpoint(job.checkpoint)
    config = resolve_config(loaded.settings, loaded.tensors, loaded.format)
    quantized = job.model == QUANTIZED
    model = TrainableModel(
        quantized_config(config) if quantized else config,
        loaded.tensors,
        qat_weights="per_tensor" if quantized else None,
        dropout=Dropout(0.0, job.dropout),
    )
    variables = {name: model.named_variables[name] for name in config.variable_shapes()}

    loss = SpanLoss()
    steps: dict[int, Step] = {}
    pruner = None
    if job.model == PRUNING:
        plan = make_plan(PruningRequest(), loaded.tensors, warmup=0, steps=10**6, steps_per_epoch=10**6)
        pruner = Pruner(variables, plan)
    optimizer = AdamW(variables, weight_decay=DECAY, pruner=pruner)

    def step(batch: Batch) -> None:
        size, length = batch["input_ids"].shape
        if length not in steps:
            steps[length] = Step(
                model,
                optimizer,
                variables,
                loss,
                tf.distribute.get_strategy(),
                accumulation=1,
                batch_size=size,
            )
        steps[length]({name: tf.constant(value[None]) for name, value in batch.items()}, RATE, 0)

    def evaluate(batch: Batch) -> float:
        return float(loss(model(batch), batch))

    return evaluate, step


def torch_trainer(job: Run) -> Trainer:
    """transformers' model, PyTorch's optimizer."""
    import torch
    from transformers import MobileBertForQuestionAnswering

    torch.set_num_threads(job.threads)
    model = MobileBertForQuestionAnswering.from_pretrained(
        job.checkpoint, dtype=torch.float32, attention_probs_dropout_prob=job.dropout, hidden_dropout_prob=0.0
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)

    def loss(batch: Batch) -> torch.Tensor:
        tensors = {name: torch.from_numpy(value.astype(np.int64)) for name, value in batch.items()}
        return model(
            input_ids=tensors["input_ids"],
            attention_mask=tensors["input_mask"],
            token_type_ids=tensors["segment_ids"],
            start_positions=tensors["start_positions"],
            end_positions=tensors["end_positions"],
        ).loss

    def step(batch: Batch) -> None:
        model.train()
        loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimizer.step()
        optimizer.zero_grad()

    def evaluate(batch: Batch) -> float:
        model.eval()
        with torch.no_grad():
            return loss(batch).item()

    return evaluate, step


if __name__ == "__main__":
    run(main)
