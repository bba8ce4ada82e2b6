"""Trainings of a small model, from flags to a checkpoint: what they learn, and that they go on as if never
stopped."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_export
from conftest import REPOSITORY
from small_export import CONFIG, LENGTH, questions, weights, windows, write_checkpoint
from small_training import ANSWERS, NO_DROPOUT, losses, request, rows, write_data

pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")

import tensorflow as tf

from mobilebert_kit.build import export
from mobilebert_kit.checkpoints import load_checkpoint, names
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.models.config import QUANTIZED_SCORE_CLIP
from mobilebert_kit.runtime.scoring import score_logits
from mobilebert_kit.training.inputs import TrainingInputs
from mobilebert_kit.training.optimizer import Schedule
from mobilebert_kit.training.state import CURVE, LAST_GOOD, MODEL
from mobilebert_kit.training.trainer import Summary, train
from tools.check_resume import Kill, finish, kill_at, weights_digest

INPUTS = ("input_ids", "input_mask", "segment_ids")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("training"))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("trained") / "out"
    evaluation = str(data / "questions.json")
    asked = request(
        data, out, evaluation=evaluation, epochs=30, max_steps=None, learning_rate=1e-2, warmup=0.2
    )
    return out, train(asked)


def test_it_learns(trained):
    """Nine windows with an answer each, seen 30 times. The loss starts near that of a guess among 96."""
    out, summary = trained
    assert summary.first_loss == pytest.approx(np.log(LENGTH), rel=0.2)
    assert summary.last_loss < 0.5 * summary.first_loss
    assert summary.steps == 30 * 3 == len(rows(out))
    scores = rows(out, "epoch")
    assert [row["step"] for row in scores] == list(range(3, 91, 3))
    assert scores[-1]["f1"] > scores[0]["f1"]
    assert summary.scores == scores
    assert tf.io.decode_png((out / CURVE).read_bytes()).shape[-1] == 4


def test_the_rate_of_the_steps(trained):
    rates = [row["rate"] for row in rows(trained[0])]
    assert np.argmax(rates) in (17, 18) and max(rates) == pytest.approx(1e-2)
    assert rates[0] == pytest.approx(1e-2 / 18) and rates[-1] == pytest.approx(1e-2 / 72)


def test_the_result_is_a_whole_checkpoint(trained, data):
    out, _ = trained
    checkpoint = load_checkpoint(out / MODEL)
    assert checkpoint.format == "huggingface" and not checkpoint.quantized
    inputs = TrainingInputs(request(data, out, checkpoint=out / MODEL))
    assert inputs.config == CONFIG
    assert inputs.dropout.attention == 0
    assert inputs.vocab == out / MODEL / "vocab.txt"
    before = load_checkpoint(data / "checkpoint").tensors
    assert not any(np.array_equal(checkpoint.tensors[name], value) for name, value in before.items())


def test_transformers_reads_the_result_and_scores_the_same(trained):
    """Its logits, through the evaluation's rules, give the EM and F1 of the last epoch."""
    torch = pytest.importorskip("torch", reason="no torch (extra [distill])")
    transformers = pytest.importorskip("transformers", reason="no transformers (extra [distill])")
    out, summary = trained
    model = transformers.MobileBertForQuestionAnswering.from_pretrained(out / MODEL).eval()
    made = windows()
    arrays = [torch.tensor(np.stack([getattr(window, name) for window in made])) for name in INPUTS]
    with torch.no_grad():
        outputs = model(arrays[0].long(), attention_mask=arrays[1], token_type_ids=arrays[2].long())
    answers = {question.id: ANSWERS[int(question.id[1])] for question in questions()}
    asked = [replace(question, answers=(answers[question.id],)) for question in questions()]
    score = score_logits(asked, made, outputs.start_logits.numpy(), outputs.end_logits.numpy())
    last = summary.scores[-1]
    assert (score.exact_match, score.f1) == (last["exact_match"], last["f1"])
    assert score.f1 > 50


def test_export_takes_the_result_and_scores_the_same(trained, data, tmp_path):
    out, summary = trained
    asked = small_export.request(data, "float", checkpoint=out / MODEL, output_dir=tmp_path / "float")
    score = export(asked).float_score
    assert (score.exact_match, score.f1) == (summary.scores[-1]["exact_match"], summary.scores[-1]["f1"])


def test_a_finished_run_is_left_alone(trained, data):
    out, summary = trained
    before = contents(out)
    evaluation = str(data / "questions.json")
    asked = request(
        data, out, evaluation=evaluation, epochs=30, max_steps=None, learning_rate=1e-2, warmup=0.2
    )
    again = train(asked)
    assert (again.resumed_at, again.scores, again.last_loss) == (90, summary.scores, summary.last_loss)
    assert contents(out) == before


def test_another_run_is_refused_and_nothing_lost(trained, data):
    before = contents(trained[0])
    with pytest.raises(InputError, match=r"learning_rate: 0\.01 there, 0\.001 asked for"):
        train(request(data, trained[0]))
    assert contents(trained[0]) == before


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory) -> Path:
    """The output folder of three steps with batches of four windows, in float32."""
    out = tmp_path_factory.mktemp("plain") / "out"
    train(request(data, out))
    return out


def test_accumulation_is_a_larger_batch(data, plain, tmp_path):
    """The same windows in each step: the sum's order alone differs, so some units in the last place."""
    train(request(data, tmp_path / "four", batch_size=1, accumulation=4))
    assert losses(tmp_path / "four") == pytest.approx(losses(plain), rel=2e-6)


def test_dropout_follows_from_the_seed(data, tmp_path):
    write_checkpoint(tmp_path / "dropping", attention_probs_dropout_prob=0.3)
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        changes = {"checkpoint": tmp_path / "dropping", "seed": seed, "batch_size": 9, "max_steps": 1}
        train(request(data, tmp_path / name, **changes))
    assert losses(tmp_path / "one") == losses(tmp_path / "same")
    assert losses(tmp_path / "one") != losses(tmp_path / "other")  # a batch of all windows, in another order


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision(data, plain, tmp_path, precision):
    """Near float32: activations with 8 and 11 bits, 14 layers of rounding, of a loss of about 4.5."""
    train(request(data, tmp_path / precision, mixed_precision=precision))
    found, expected = losses(tmp_path / precision), losses(plain)
    assert found == pytest.approx(expected, rel=2e-2)
    assert found != expected
    assert (
        load_checkpoint(tmp_path / precision / MODEL).tensors["cls/squad/output_weights"].dtype == np.float32
    )


@pytest.mark.parametrize("qat_weights", ["per_tensor", "per_channel"])
def test_quantized_training(data, tmp_path, qat_weights):
    """The result is the published layout, with all ranges; and a start for further quantized training."""
    published = {"qat": True, "qat_weights": qat_weights, "qat_calibration_steps": 0}
    train(request(data, tmp_path / "out", **published))
    checkpoint = load_checkpoint(tmp_path / "out" / MODEL)
    assert checkpoint.format == "tf1" and checkpoint.step == 3
    assert set(checkpoint.ranges) == names.quantizers(
        CONFIG.num_hidden_layers, CONFIG.num_feedforward_networks
    )
    kernels = [name for name in checkpoint.ranges if names.quantized_kernel(name)]
    for name in kernels:
        low, high = checkpoint.ranges[name]
        kernel = checkpoint.tensors[names.quantized_kernel(name)]
        largest = np.abs(kernel).max(axis=0 if qat_weights == "per_channel" else None)
        assert low.shape == high.shape == largest.shape
        # The range is of the kernel before the last update, which moves each weight by 1e-3 at most.
        np.testing.assert_allclose(high, largest, rtol=0, atol=1.1e-3)
        np.testing.assert_allclose(-low, largest, rtol=0, atol=1.1e-3)
    # Activations: after three steps of an average that keeps 0.999, near the published start of 6. Only the
    # masked scores' lower end stays: it is -6.
    ends = np.array([checkpoint.ranges[name] for name in checkpoint.ranges if name not in kernels])
    assert (ends != [-6, 6]).any(axis=1).all() and (np.abs(ends - [-6, 6]) < 0.3).all()

    again = request(data, tmp_path / "again", checkpoint=tmp_path / "out" / MODEL, qat=True)
    config = TrainingInputs(again).config
    assert (config.hidden_act, config.mask_semantics) == ("relu6", "multiplicative")
    assert config.score_clip == QUANTIZED_SCORE_CLIP
    with pytest.raises(InputError, match="--qat"):
        train(replace(again, qat=False, output_dir=tmp_path / "float"))
    if qat_weights == "per_tensor":
        train(again)
        assert losses(tmp_path / "again")[0] < losses(tmp_path / "out")[0]


def test_a_pretrained_start_gets_a_head(data, tmp_path):
    """Without cls/squad or qa_outputs: normal, 0.02, of the seed. Then it is trained like any other."""
    tensors = {name: value for name, value in weights().items() if not name.startswith("cls/")}
    write_checkpoint(tmp_path / "pretrained", tensors, **NO_DROPOUT)
    heads = []
    for seed in (1, 1, 2):
        asked = request(data, tmp_path / "out", checkpoint=tmp_path / "pretrained", seed=seed)
        heads.append(TrainingInputs(asked).checkpoint.tensors["cls/squad/output_weights"])
    assert heads[0].shape == (2, CONFIG.hidden_size) and np.std(heads[0]) == pytest.approx(0.02, rel=0.3)
    assert (heads[0] == heads[1]).all() and (heads[0] != heads[2]).all()
    train(asked)
    assert len(load_checkpoint(tmp_path / "out" / MODEL).tensors) == len(weights())
    with pytest.raises(InputError, match="question answering"):
        load_checkpoint(tmp_path / "pretrained")  # export still refuses it


def test_what_is_no_number_stops_the_run(data, tmp_path, monkeypatch):
    """The fourth update throws the weights out of float's range; the checkpoint of the third stays."""
    out = tmp_path / "out"
    monkeypatch.setattr(Schedule, "rate", lambda self, step: 1e-3 if step < 3 else 3e38)
    with pytest.raises(CheckFailed) as caught:
        train(request(data, out, max_steps=9, checkpoint_steps=3))
    message = str(caught.value)
    assert "in step 5 of 9 (epoch 2)" in message and len(losses(out)) == 4
    inputs = TrainingInputs(request(data, out))
    second_of_epoch = inputs.order.epoch(1)[0][1]
    ids = {inputs.features.question_ids[row] for row in second_of_epoch.ravel()}
    assert ids == {question.id for question in questions() if question.id in message}
    assert "--learning_rate" in message and str(out / LAST_GOOD) in message
    assert not (out / MODEL).exists()
    good = load_checkpoint(out / LAST_GOOD).tensors
    monkeypatch.undo()
    monkeypatch.setattr(Schedule, "rate", lambda self, step: 1e-3)
    train(request(data, tmp_path / "three", max_steps=3))
    for name, value in load_checkpoint(tmp_path / "three" / MODEL).tensors.items():
        np.testing.assert_allclose(good[name], value, rtol=0, atol=1e-6)


def test_no_number_in_the_first_step(data, tmp_path):
    """Weights that overflow at once: there is nothing to keep, and it is said."""
    tensors = weights()
    tensors["cls/squad/output_weights"][:] = 3e38
    write_checkpoint(tmp_path / "checkpoint", tensors, **NO_DROPOUT)
    with pytest.raises(CheckFailed, match=r"in step 1 of 3(.|\n)*no earlier checkpoint"):
        train(request(data, tmp_path / "out", checkpoint=tmp_path / "checkpoint"))
    assert not (tmp_path / "out" / MODEL).exists() and not (tmp_path / "out" / LAST_GOOD).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"batch_size": 0}, "--batch_size"),
        ({"accumulation": 0}, "--accumulation"),
        ({"max_steps": 0}, "--max_steps"),
        ({"checkpoint_steps": 0}, "--checkpoint_steps"),
        ({"learning_rate": float("nan")}, "--learning_rate"),
        ({"learning_rate": -1e-3}, "--learning_rate"),
        ({"warmup": 10.0}, "--warmup"),
        ({"weight_decay": -0.1}, "--weight_decay"),
        ({"seed": -1}, "--seed"),
        ({"qat_weights": "per_channel"}, "--qat"),
        ({"qat": True, "mixed_precision": "float16"}, "--mixed_precision"),
        ({"qat": True, "activation": "relu"}, "relu6"),
        ({"qat": True, "mask": "additive"}, "multiplicative"),
        ({"max_seq_length": 64}, "--max_seq_length"),
        ({"max_seq_length": 129}, "--max_seq_length"),
        ({"buckets": "96,64"}, "--buckets"),
        ({"train_questions": 10}, "10 questions"),
        ({"distribute": "multi_worker"}, "TF_CONFIG"),
        ({"config": "other.json"}, "another one"),
        ({"dataset": "unusable.json"}, "a window that holds its answer"),
        ({"vocab": "no_vocab.txt"}, "vocab"),
    ],
)
def test_bad_input_is_told_and_writes_nothing(data, tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    other = replace(CONFIG, hidden_size=32)
    Path("other.json").write_text(json.dumps(other.to_dict()))
    long = " ".join(["red"] * 120)
    qa = {"id": "long", "question": "What was red ?", "answers": [{"text": long, "answer_start": 0}]}
    paragraphs = [{"context": long, "qas": [qa]}]
    Path("unusable.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    with pytest.raises(InputError, match=message):
        train(request(data, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def command(*flags: object) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "mobilebert_kit.train", *map(str, flags)]
    return subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--dataset", "a.json"],
        ["--dataset", "a.json", "--output_dir", "o", "--mixed_precision", "int4"],
        ["--dataset", "a.json", "--output_dir", "o", "--warmup", "10"],
        ["--dataset", "a.json", "--output_dir", "o", "--checkpoint", "nowhere/at/all"],
    ],
)
def test_wrong_flags_end_with_2(flags):
    result = command(*flags)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr


def test_killed_at_random_moments_it_ends_at_the_same_weights(data, tmp_path):
    """A checkpoint at each step, killed three times on its way. tools/check_resume.py does more of this."""
    write_checkpoint(tmp_path / "dropping")  # with dropout, which must go on as well
    flags = ["--checkpoint", tmp_path / "dropping", "--dataset", data / "questions.json", "--batch_size", 4]
    flags += ["--eval", data / "questions.json", "--max_seq_length", LENGTH, "--epochs", 4]
    flags = [*map(str, flags), "--learning_rate", "1e-3", "--checkpoint_steps", "1"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(flags, whole)
    chance = random.Random(os.urandom(8))
    moments = [Kill(line, chance.uniform(0, 0.2)) for line in sorted(chance.sample(range(15), 3))]
    for moment in moments:
        kill_at(flags, killed, moment)
    finish(flags, killed)
    assert weights_digest(killed) == weights_digest(whole), moments
    assert losses(killed) == losses(whole)
    assert [row["f1"] for row in rows(killed, "epoch")] == [row["f1"] for row in rows(whole, "epoch")]
    assert "it/s" not in killed.with_suffix(".log").read_text()  # no bar where there is no terminal
