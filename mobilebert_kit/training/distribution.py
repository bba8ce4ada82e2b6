"""On how many devices a run computes: tf.distribute's strategies, by name."""

from __future__ import annotations

import hashlib
import json
import os

import tensorflow as tf

from mobilebert_kit.errors import InputError


def make_strategy(name: str, batch_size: int) -> tf.distribute.Strategy:
    """none: one device. mirrored: all GPUs of this machine, or its logical CPU devices. multi_worker: the
    machines that the environment variable TF_CONFIG names, every one of which runs the same command.

    To be called before TensorFlow computes anything.

    Raises:
        InputError: no TF_CONFIG, or a batch that the replicas cannot share evenly.
    """
    if name == "none":
        strategy = tf.distribute.get_strategy()
    elif name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    else:
        _check_cluster()
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise InputError(
            f"Expected --batch_size to be a multiple of {replicas}, the number of devices that share a "
            f"batch, got {batch_size}."
        )
    return strategy


def is_first_worker(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files and scores."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_id


def prove_agreement(strategy: tf.distribute.Strategy, place: str) -> None:
    """InputError, on every worker, unless all workers are at the same `place`: settings and step, as a text.

    Workers that began at different steps would wait for each other for ever, or mix different weights.
    """
    token = int(hashlib.sha256(place.encode()).hexdigest()[:8], 16)
    add = tf.function(lambda: strategy.run(lambda: tf.constant(token, tf.int64)), autograph=False)
    total = int(strategy.reduce(tf.distribute.ReduceOp.SUM, add(), axis=None))
    if total != token * strategy.num_replicas_in_sync:
        raise InputError(
            "Expected all workers to train the same, got different settings, data or checkpoints. Give each "
            "the same command, and an --output_dir that all of them share."
        )


def _check_cluster() -> None:
    text = os.environ.get("TF_CONFIG", "")
    example = (
        'TF_CONFIG=\'{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", '
        '"index": 0}}\''
    )
    try:
        config = json.loads(text)
        workers, index = config["cluster"]["worker"], config["task"]["index"]
        whole = set(config["cluster"]) == {"worker"} and 0 <= index < len(workers)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise InputError(
            f"Expected --distribute multi_worker with the workers in TF_CONFIG, for example {example}, got "
            f"{text[:200]!r}."
        )
