"""Trainings that prune: scores as PyTorch makes them, masks that hold in each step, in QAT, in the files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_export
from checkpoint_files import huggingface_name
from small_pruning import DENSE, HALF, KERNELS, STEPS, train_until, write_dense_data
from small_training import request, rows

pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")

import tensorflow as tf
from safetensors.numpy import load_file

from mobilebert_kit.build import export
from mobilebert_kit.checkpoints import load_checkpoint
from mobilebert_kit.delegates.tflite_file import read_tflite
from mobilebert_kit.targets import TARGETS
from mobilebert_kit.training.data import make_dataset
from mobilebert_kit.training.distillation import SpanLoss
from mobilebert_kit.training.inputs import TrainingInputs
from mobilebert_kit.training.model import TrainableModel
from mobilebert_kit.training.optimizer import AdamW
from mobilebert_kit.training.pruning.masks import make_masks
from mobilebert_kit.training.pruning.patterns import parse_pattern
from mobilebert_kit.training.pruning.plan import make_plan
from mobilebert_kit.training.pruning.pruner import Pruner
from mobilebert_kit.training.pruning.request import CRITERIA, PruningRequest
from mobilebert_kit.training.state import FOLDER, MODEL, PRUNING, SPARSITY, STATE
from mobilebert_kit.training.step import Step
from mobilebert_kit.training.trainer import Summary, train


def groups_of_four(kernel: np.ndarray) -> np.ndarray:
    """Zeros in each four inputs in a row of each output, of a kernel [in, out]."""
    inputs, outputs = kernel.shape
    return (kernel.T.reshape(outputs, inputs // 4, 4) == 0).sum(axis=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dense_data(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def pruned(data, tmp_path_factory) -> tuple[Path, Summary]:
    """The output folder of two epochs in which 2:4 grows to all encoder kernels, and what `train` told."""
    out = tmp_path_factory.mktemp("pruned") / "out"
    evaluation = str(data / "questions.json")
    asked = request(data, out, pruning=HALF, epochs=2, max_steps=STEPS, evaluation=evaluation)
    return out, train(asked)


def test_every_group_has_two_zeros(pruned):
    tensors = load_checkpoint(pruned[0] / MODEL).tensors
    for name in KERNELS:
        assert (groups_of_four(tensors[name]) == 2).all(), name
    for name in set(tensors) - set(KERNELS):  # embeddings and head, biases and norms
        assert tensors[name].all(), name


def test_sparsity_rises_as_the_schedule_says(pruned):
    """exp, from 0 to 0.5 in two prunings, after updates 3 and 5: 1 - 0.5 ** (k / 2), to half a group."""
    groups = sum(kernel.size // 4 for name, kernel in DENSE.items() if name in KERNELS)
    found = [row["sparsity"] for row in rows(pruned[0])]
    assert found == pytest.approx([0, 0, 1 - 0.5**0.5, 1 - 0.5**0.5, 0.5, 0.5], abs=1 / groups)
    assert found[-1] == 0.5


def test_what_it_tells(pruned):
    out, summary = pruned
    assert [row["step"] for row in summary.scores] == [0, 3, 6]  # the dense start first
    assert [row["sparsity"] for row in summary.scores][-1] == 0.5
    report = json.loads((out / PRUNING).read_text())
    assert (report["pattern"], report["sparsity"]) == ("2:4", 0.5)
    assert list(report["kernels"]) == KERNELS
    tensors = load_checkpoint(out / MODEL).tensors
    for name, row in report["kernels"].items():
        assert row["zeros"] == (tensors[name] == 0).sum()
        assert row["outputs_inputs"] == list(tensors[name].T.shape)
    kernels = sum(
        tensor.size for name, tensor in tensors.items() if name.endswith(("/kernel", "output_weights"))
    )
    zeros = sum(row["zeros"] for row in report["kernels"].values())
    assert report["matmul_sparsity"] == pytest.approx(zeros / kernels)
    sizes = report["bytes"]
    assert sizes["raw"] == 4 * sum(tensor.size for tensor in tensors.values())
    assert sizes["raw"] - sizes["sparse"] == pytest.approx(
        4 * zeros - zeros * 2 / 8, rel=0.1
    )  # a bit a weight
    assert tf.io.decode_png((out / SPARSITY).read_bytes()).shape[-1] == 4


def test_it_starts_from_the_dense_model(pruned, data, tmp_path):
    asked = small_export.request(data, "float", output_dir=tmp_path / "float")
    assert export(asked).float_score.f1 == pruned[1].scores[0]["f1"]


def test_transformers_reads_the_zeros(pruned):
    """The Hugging Face directory: [out, in], as the published patterns have it."""
    tensors = load_file(pruned[0] / MODEL / "model.safetensors")
    for name in KERNELS:
        weight = tensors[huggingface_name(name)]
        assert ((weight.reshape(len(weight), -1, 4) == 0).sum(axis=2) == 2).all()


def test_zeros_are_exact_in_the_files(pruned, data, tmp_path):
    """Dense layers are CONV_2D, filters [out, 1, 1, in]: all of the encoder's have zeros in each four inputs,
    whatever was folded into them; the embeddings' and the head's do not. (nnapi has one for each head.)"""
    weights = sum(DENSE[name].size for name in KERNELS)
    targets = ("float", "int8", "nnapi")
    export(small_export.request(data, *targets, checkpoint=pruned[0] / MODEL, output_dir=tmp_path / "out"))
    for target in targets:
        file = read_tflite(tmp_path / "out" / TARGETS[target].file_for(small_export.LENGTH)).main
        filters = [file.tensors[node.inputs[1]].data() for node in file.nodes if node.op == "CONV_2D"]
        groups = [(values.reshape(len(values), -1, 4) == 0).sum(axis=2) for values in filters]
        assert sum(4 * zeros.size for zeros in groups if (zeros >= 2).all()) == weights, target


@pytest.mark.parametrize("keep", [True, False])
def test_a_pruned_model_stays_pruned_in_further_training(pruned, data, tmp_path, keep):
    before = load_checkpoint(pruned[0] / MODEL).tensors
    train(request(data, tmp_path / "out", checkpoint=pruned[0] / MODEL, keep_zeros=keep))
    after = load_checkpoint(tmp_path / "out" / MODEL).tensors
    assert all((after[name] != before[name]).any() for name in KERNELS)
    kept = np.mean([(after[name] == 0)[before[name] == 0].mean() for name in KERNELS])
    assert kept == 1 if keep else kept < 0.4  # without a mask, what has no gradient behind a relu alone


def test_pruning_in_quantized_training(data, tmp_path):
    changes = {"pruning": HALF, "max_steps": STEPS, "qat_calibration_steps": 0}
    train(request(data, tmp_path / "out", qat=True, **changes))
    checkpoint = load_checkpoint(tmp_path / "out" / MODEL)
    assert checkpoint.quantized
    assert all((groups_of_four(checkpoint.tensors[name]) == 2).all() for name in KERNELS)


@pytest.mark.parametrize(
    ("changes", "excluded"),
    [
        ({"scope": "local", "schedule": "cubic", "criterion": "magnitude"}, ()),
        ({"criterion": "snip", "schedule": "linear", "exclude": ("embeddings", "cls/", "value")}, ("value",)),
    ],
)
def test_four_by_one(data, tmp_path, changes, excluded):
    """Blocks of four outputs are whole, the total is met, what is excluded stays dense."""
    pruning = PruningRequest(**{"target_sparsity": 0.8, "start_step": 1, "end_step": 3} | changes)
    train(request(data, tmp_path / "out", pruning=pruning, max_steps=4))
    tensors = load_checkpoint(tmp_path / "out" / MODEL).tensors
    zeros = total = 0
    for name in KERNELS:
        if any(word in name for word in excluded):
            assert (tensors[name] == 0).mean() < 0.05
            continue
        inputs, outputs = tensors[name].shape
        blocks = (tensors[name].reshape(inputs, outputs // 4, 4) == 0).sum(axis=2)
        assert set(np.unique(blocks)) <= {0, 4}
        zeros, total = zeros + 4 * (blocks == 4).sum(), total + tensors[name].size
    assert abs(zeros - 0.8 * total) <= 4


def test_it_goes_on_with_the_same_masks_and_scores(pruned, data, tmp_path, monkeypatch):
    """Stopped at step 4, between two prunings, with checkpoints after each second step."""
    evaluation = str(data / "questions.json")
    fields = {"pruning": HALF, "epochs": 2, "max_steps": STEPS, "evaluation": evaluation}
    train_until(4, request(data, tmp_path / "out", checkpoint_steps=2, **fields), monkeypatch)
    assert train(request(data, tmp_path / "out", checkpoint_steps=2, **fields)).resumed_at == 3
    whole, resumed = (load_file(out / FOLDER / STATE) for out in (pruned[0], tmp_path / "out"))
    assert {name.split("/")[1] for name in whole if name.startswith("optimizer/")} >= {"mask", "score"}
    assert whole.keys() == resumed.keys()
    assert all(np.array_equal(resumed[name], tensor) for name, tensor in whole.items())
    assert rows(tmp_path / "out") == rows(pruned[0])  # each step's loss, norm and sparsity


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_and_masks_of_a_step(criterion):
    """The update by hand, in NumPy: the score of the gradient before clipping and of the weight before the
    update; then AdamW; then the mask. A step that is not finite leaves all as it is."""
    chance = np.random.default_rng(0)
    start = {"a/kernel": chance.normal(size=(8, 4)), "a/bias": chance.normal(size=4)}
    variables = {name: tf.Variable(value, dtype=tf.float32) for name, value in start.items()}
    tensors = {name: variable.numpy() for name, variable in variables.items()}
    asked = PruningRequest(
        target_sparsity=0.5, pruning_pattern="2:4", criterion=criterion, start_step=0, end_step=2
    )
    plan = make_plan(asked, tensors, warmup=0, steps=4, steps_per_epoch=1)
    pruner = Pruner(variables, plan)
    optimizer = AdamW(variables, weight_decay=0.01, loss_scaling=True, pruner=pruner)
    score = np.zeros((8, 4), np.float32)
    for number in range(1, 5):
        before = variables["a/kernel"].numpy()
        gradients = [chance.normal(size=value.shape).astype(np.float32) * 9 for value in start.values()]
        score = np.float32(CRITERIA[criterion] or 0) * score + np.abs(before * gradients[0])
        given = [tf.constant(gradient) for gradient in gradients]
        optimizer.apply(given, tf.linalg.global_norm(given), tf.constant(0.01))
        state = {name: value.numpy() for name, value in optimizer.state().items()}
        if criterion == "magnitude":
            assert "score/a/kernel" not in state
            score = np.abs(variables["a/kernel"].numpy())
        else:
            np.testing.assert_array_equal(state["score/a/kernel"], score)
        after = variables["a/kernel"].numpy()
        assert ((after == 0) == ~state["mask/a/kernel"]).all()
        expected = plan.schedule.sparsity(number)
        assert pruner.prune(number, dict) == (expected is not None)
        if expected is not None:
            mask = make_masks({"a": score.T}, parse_pattern("2:4"), expected, scope="global", cap=0.98)["a"].T
            np.testing.assert_array_equal(optimizer.state()["mask/a/kernel"].numpy(), mask)
            np.testing.assert_array_equal(variables["a/kernel"].numpy(), np.where(mask, after, 0))
        frozen = {name: value.numpy() for name, value in pruner.state().items()}
        optimizer.apply(given, tf.constant(np.nan), tf.constant(0.01))
        for name, value in pruner.state().items():
            np.testing.assert_array_equal(value.numpy(), frozen[name])
    assert pruner.sparsity == 0.5


def test_snip_momentum_against_torch(data):
    """Five steps of the small model by transformers, autograd and torch.optim.AdamW on the same batches.

    Each kernel's scores to 1e-4 of their norm, after every step. A small rate: AdamW makes whole steps of
    gradients that are rounding alone (of the key's bias: softmax does not see it), in which two frameworks
    differ, and these would drive the two models apart.
    """
    torch = pytest.importorskip("torch", reason="no torch (extra [distill])")
    transformers = pytest.importorskip("transformers", reason="no transformers (extra [distill])")
    inputs = TrainingInputs(request(data, data / "unused", max_steps=5, epochs=5))
    tensors = inputs.checkpoint.tensors
    asked = PruningRequest(target_sparsity=0.5, start_step=4, end_step=5)
    plan = make_plan(asked, tensors, warmup=0, steps=5, steps_per_epoch=3)
    model = TrainableModel(inputs.config, tensors)
    pruner = Pruner(model.named_variables, plan)
    optimizer = AdamW(model.named_variables, weight_decay=0.01, beta2=0.9, pruner=pruner)
    strategy = tf.distribute.get_strategy()
    step = Step(model, optimizer, model.named_variables, SpanLoss(), strategy, accumulation=1, batch_size=4)
    theirs = transformers.MobileBertForQuestionAnswering.from_pretrained(data / "checkpoint").train()
    named = dict(theirs.named_parameters())
    decayed = [p for name, p in named.items() if not name.endswith(("bias", "LayerNorm.weight"))]
    others = [p for name, p in named.items() if name.endswith(("bias", "LayerNorm.weight"))]
    reference = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=1e-6,
        betas=(0.9, 0.9),
        eps=1e-6,
    )
    scores = {name: torch.zeros_like(named[huggingface_name(name)]) for name in plan.kernels}
    batches = [batch for epoch in range(2) for batch in make_dataset(inputs.features, inputs.order, epoch)]
    for number, batch in enumerate(batches[:5]):
        step(batch, 1e-6, number)
        arrays = {name: torch.from_numpy(value[0].numpy()).long() for name, value in batch.items()}
        theirs(
            input_ids=arrays["input_ids"],
            attention_mask=arrays["input_mask"],
            token_type_ids=arrays["segment_ids"],
            start_positions=arrays["start_positions"],
            end_positions=arrays["end_positions"],
        ).loss.backward()
        for name, score in scores.items():
            parameter = named[huggingface_name(name)]
            scores[name] = 0.9 * score + (parameter * parameter.grad).abs().detach()
        torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
        reference.step()
        reference.zero_grad()
        for name, score in scores.items():
            ours, other = pruner.scores[name].numpy().T, score.numpy()
            assert np.linalg.norm(ours - other) <= 1e-4 * np.linalg.norm(other), (number, name)


def test_two_of_four_against_tfmot():
    """tensorflow-model-optimization has this mask, of magnitudes and at its final sparsity alone."""
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_utils

    weights = np.random.default_rng(0).normal(size=(24, 32)).astype(np.float32)
    theirs = pruning_utils.generate_m_by_n_mask(weights, (2, 4)).numpy().reshape(weights.shape)
    ours = make_masks({"a": np.abs(weights)}, parse_pattern("2:4"), 0.5, scope="local", cap=0.98)["a"]
    assert np.array_equal(ours, theirs.astype(bool))
