"""Learning from a teacher: what it says, that it is kept, and what a student makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import small_bert
from small_export import CONFIG, LENGTH, weights, windows, write_checkpoint
from small_training import NO_DROPOUT, losses, request, write_data
from tiny_question_model import VOCAB, write_vocab

pytest.importorskip("tf_keras", reason="tf_keras is not installed (extra [training])")

import tensorflow as tf

from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.training.data import make_dataset
from mobilebert_kit.training.distillation import DistillationLoss, Lessons, layer_map
from mobilebert_kit.training.inputs import TrainingInputs
from mobilebert_kit.training.lowering import Dropout
from mobilebert_kit.training.model import INPUTS, TrainableModel
from mobilebert_kit.training.state import FOLDER, MODEL
from mobilebert_kit.training.teacher import attention_point, hidden_point, load_teacher
from mobilebert_kit.training.trainer import train

LOGITS = ("start_logits", "end_logits")
WIDTH, HEADS = CONFIG.hidden_size, 2 * CONFIG.num_attention_heads


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Another MobileBERT of the same size."""
    folder = tmp_path_factory.mktemp("teachers") / "mobilebert"
    return write_checkpoint(folder, weights(seed=7), **NO_DROPOUT)


@pytest.fixture(scope="module", params=["bert", "distilbert", "electra"])
def transformers_teacher(request, tmp_path_factory):
    """A Hugging Face directory of twice as many layers and heads, and the model itself. The kit runs all but
    the last, which is left to transformers."""
    transformers = pytest.importorskip("transformers", reason="no transformers (extra [distill])")
    import torch

    torch.manual_seed(3)
    sizes = {"vocab_size": len(VOCAB), "max_position_embeddings": 128}
    layers = 2 * CONFIG.num_hidden_layers
    if request.param == "bert":
        config = transformers.BertConfig(
            hidden_size=WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            intermediate_size=48,
            **sizes,
        )
        model = transformers.BertForQuestionAnswering(config)
    elif request.param == "electra":
        config = transformers.ElectraConfig(
            embedding_size=8,
            hidden_size=WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            intermediate_size=48,
            **sizes,
        )
        model = transformers.ElectraForQuestionAnswering(config)
    else:
        config = transformers.DistilBertConfig(
            dim=WIDTH, n_layers=layers, n_heads=HEADS, hidden_dim=48, **sizes
        )
        model = transformers.DistilBertForQuestionAnswering(config)
    folder = tmp_path_factory.mktemp("teachers") / request.param
    model.eval().save_pretrained(folder)
    write_vocab(folder)
    return folder, model


def batch() -> dict[str, np.ndarray]:
    return {name: np.stack([getattr(window, name) for window in windows()[:3]]) for name in INPUTS}


def test_a_kit_teacher_says_what_the_model_says(teacher):
    found = load_teacher(str(teacher), teacher / "vocab.txt")(batch(), hidden=True, attention=True)
    seen = {}
    model = TrainableModel(CONFIG, weights(seed=7))
    model(batch(), observe=lambda tensor, point: seen.setdefault(point, tensor))
    expected = model(batch())
    for name in LOGITS:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5)
    for layer in range(CONFIG.num_hidden_layers):
        np.testing.assert_allclose(found["hidden"][:, layer], seen[hidden_point(CONFIG, layer)], atol=1e-5)
        np.testing.assert_allclose(found["attention"][:, layer], seen[attention_point(layer)], atol=1e-5)


def test_a_teacher_says_what_transformers_says(transformers_teacher):
    """Its own call, by names that the model takes: DistilBERT has no token types."""
    import torch

    folder, model = transformers_teacher
    found = load_teacher(str(folder), folder / "vocab.txt")(batch(), hidden=True, attention=True)
    inputs = {
        "input_ids": torch.from_numpy(batch()["input_ids"]).long(),
        "attention_mask": torch.from_numpy(batch()["input_mask"]).long(),
    }
    if model.config.model_type != "distilbert":
        inputs["token_type_ids"] = torch.from_numpy(batch()["segment_ids"]).long()
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True)
    real = batch()["input_mask"].astype(bool)  # what padding says differs between the ways to mask it
    for name in LOGITS:
        np.testing.assert_allclose(found[name][real], outputs[name].numpy()[real], rtol=0, atol=1e-5)
    assert found["hidden"].shape == (3, 2 * CONFIG.num_hidden_layers, LENGTH, WIDTH)
    last = outputs.hidden_states[-1].numpy()
    np.testing.assert_allclose(found["hidden"][:, -1][real], last[real], rtol=0, atol=1e-5)
    sums = found["attention"].sum(-1)
    np.testing.assert_allclose(sums[:, 0, 0][real], 1, rtol=0, atol=1e-5)


def steps(inputs: TrainingInputs) -> Iterator[dict[str, tf.Tensor]]:
    return iter(make_dataset(inputs.features, inputs.order, 0))


def lessons(inputs: TrainingInputs, folder=None, **inner: bool) -> Lessons:
    wanted = {"hidden": False, "attention": False} | inner
    return Lessons(inputs.teacher, inputs.features, inputs.config, folder=folder, **wanted)


def test_lessons_are_of_their_windows(data, teacher, tmp_path):
    """Token by token: in every batch what the teacher says of that window alone; nothing where padded."""
    inputs = TrainingInputs(request(data, tmp_path, teacher=str(teacher), batch_size=2, accumulation=2))
    taught = lessons(inputs)
    for step in steps(inputs):
        told = taught.teach(step)
        for place in np.ndindex(2, 2):
            alone = {name: step[name].numpy()[place][None] for name in INPUTS}
            expected = inputs.teacher(alone, hidden=False, attention=False)
            real = alone["input_mask"][0].astype(bool)
            for name in LOGITS:
                found = told[f"teacher_{name}"].numpy()[place]
                np.testing.assert_allclose(found[real], expected[name][0][real], rtol=0, atol=1e-5)
                assert not found[~real].any()


def test_lessons_are_kept(data, teacher, tmp_path, monkeypatch):
    """In a file: a second run does not ask the teacher, and one whose file is half full asks for the rest."""
    inputs = TrainingInputs(request(data, tmp_path, teacher=str(teacher)))
    (first, second, *_) = steps(inputs)
    kept = lessons(inputs, tmp_path)
    expected = kept.teach(first)

    calls = []
    monkeypatch.setattr(type(inputs.teacher), "__call__", lambda *_, **__: calls.append(1) or 1 / 0)
    again = lessons(inputs, tmp_path)
    for name, value in again.teach(first).items():
        np.testing.assert_array_equal(value, expected[name])
    assert not calls
    with pytest.raises(ZeroDivisionError):
        again.teach(second)

    (file,) = tmp_path.glob("teacher_logits_*.npy")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="Delete it"):
        lessons(inputs, tmp_path)


def test_inner_states_come_from_the_mapped_layers(data, transformers_teacher, tmp_path):
    """Twice as many layers: the second of each pair teaches; twice as many heads: neighbours' mean does."""
    folder, _ = transformers_teacher
    asked = request(data, tmp_path, teacher=str(folder), hidden_weight=1.0, attention_weight=1.0)
    inputs = TrainingInputs(asked)
    step = next(steps(inputs))
    told = lessons(inputs, hidden=True, attention=True).teach(step)
    one = {name: step[name].numpy()[0] for name in INPUTS}
    expected = inputs.teacher(one, hidden=True, attention=True)
    np.testing.assert_array_equal(told["teacher_hidden"][0], expected["hidden"][:, 1::2])
    maps = expected["attention"][:, 1::2]
    np.testing.assert_allclose(
        told["teacher_attention"][0], (maps[:, :, ::2] + maps[:, :, 1::2]) / 2, atol=1e-7
    )


def test_layer_map():
    assert layer_map(24, 24) == list(range(24))
    assert layer_map(6, 12) == [1, 3, 5, 7, 9, 11]
    assert layer_map(4, 6) == [1, 2, 4, 5]
    assert layer_map(4, 2) == [0, 0, 1, 1]


def test_loss_is_the_sum_of_its_parts():
    """By hand: cross-entropy and KL of two tokens, and one of padding that takes no part in the KL."""
    outputs = {name: tf.constant([[0.0, 1.0, 9.0]]) for name in LOGITS}
    told = {f"teacher_{name}": tf.constant([[2.0, 0.0, 0.0]]) for name in LOGITS}
    batch = {"input_mask": tf.constant([[1, 1, 0]]), **told}
    batch |= {"start_positions": tf.constant([1]), "end_positions": tf.constant([0])}
    p = 1 / (1 + np.exp([-1.0, 1.0]))  # logits 2 and 0, temperature 2
    q = 1 / (1 + np.exp([0.5, -0.5]))
    divergence = 4 * np.sum(p * np.log(p / q))
    own = np.array([0.0, 1.0, 9.0]) - np.log(np.exp([0.0, 1.0, 9.0]).sum())
    labels = -(own[1] + own[0]) / 2
    for weight in (0.0, 0.3, 1.0):
        loss = DistillationLoss(CONFIG, weight, 0.0, 0.0, 2.0)
        assert loss.points == ()
        assert float(loss(outputs, batch)) == pytest.approx(
            weight * divergence + (1 - weight) * labels, rel=1e-5
        )


def test_a_student_that_is_its_teacher_has_nothing_to_learn(data, tmp_path):
    asked = request(data, tmp_path / "out", teacher=str(data / "checkpoint"), hidden_weight=1.0)
    train(asked)
    assert losses(tmp_path / "out")[0] < 1e-6  # later ones: Adam makes a step of every rounding error


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_dropout_is_all_that_a_bert_could_learn_of_itself(data, tmp_path, family):
    """Of its own logits, hidden states and attention; the result has the rates that the checkpoint had."""
    folder = small_bert.write_checkpoint(tmp_path / family, small_bert.CONFIGS[family])
    asked = {"checkpoint": folder, "teacher": str(folder), "hidden_weight": 1.0, "attention_weight": 1.0}
    for name, dropout in (("with", None), ("without", 0.0)):
        train(request(data, tmp_path / name, dropout=dropout, **asked))
    assert losses(tmp_path / "with")[0] > 1e-2
    assert losses(tmp_path / "without")[0] < 1e-6
    settings = json.loads((tmp_path / "without" / MODEL / "config.json").read_text())
    assert Dropout.from_settings(settings) == Dropout(0.1, 0.1)


@pytest.mark.parametrize(
    "weights",
    [
        {"distill_loss_weight": 1.0},
        {"distill_loss_weight": 0.0, "hidden_weight": 1.0, "attention_weight": 1.0},
    ],
)
def test_a_student_approaches_its_teacher(data, teacher, tmp_path, weights):
    asked = request(data, tmp_path / "out", teacher=str(teacher), max_steps=60, learning_rate=1e-2, **weights)
    train(asked)
    found = losses(tmp_path / "out")
    assert np.mean(found[-3:]) < 0.7 * np.mean(found[:3])
    assert list((tmp_path / "out" / FOLDER).glob("teacher_logits_*.npy"))
    assert (tmp_path / "out" / MODEL).exists()


def test_a_teacher_without_numbers_is_told(data, tmp_path):
    tensors = weights(seed=7)
    tensors["cls/squad/output_weights"][:] = 3e38
    folder = write_checkpoint(tmp_path / "overflows", tensors)
    with pytest.raises(CheckFailed, match="teacher's logits"):
        train(request(data, tmp_path / "out", teacher=str(folder)))


def other_vocab(folder):
    (folder / "vocab.txt").write_text("\n".join([*VOCAB[:-1], "zebra"]) + "\n")


def no_vocab(folder):
    (folder / "vocab.txt").unlink()


def no_head(folder):
    write_checkpoint(folder, {k: v for k, v in weights().items() if not k.startswith("cls/")})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_vocab, "'zebra'|vocabulary"),
        (no_vocab, "vocabulary beside it"),
        (no_head, "question answering"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(data, tmp_path, spoil, message):
    folder = write_checkpoint(tmp_path / "teacher", weights(seed=7))
    spoil(folder)
    with pytest.raises(InputError, match=message):
        train(request(data, tmp_path / "out", teacher=str(folder)))
    assert not (tmp_path / "out").exists()


def test_a_teacher_of_other_shapes_is_refused(data, tmp_path):
    transformers = pytest.importorskip("transformers", reason="no transformers (extra [distill])")
    sizes = {"vocab_size": len(VOCAB), "num_hidden_layers": 1, "intermediate_size": 8}
    config = transformers.BertConfig(
        hidden_size=9, num_attention_heads=3, max_position_embeddings=80, **sizes
    )
    folder = tmp_path / "teacher"
    transformers.BertForQuestionAnswering(config).save_pretrained(folder)
    write_vocab(folder)
    for changes, message in (
        ({}, "80 positions"),
        ({"max_seq_length": 80, "hidden_weight": 1.0}, "--hidden_weight"),
        ({"max_seq_length": 80, "attention_weight": 1.0}, "--attention_weight"),
        ({"max_seq_length": 80, "distill_loss_weight": -0.5}, "--distill_loss_weight"),
        ({"max_seq_length": 80, "temperature": 0.0}, "--temperature"),
        ({"max_seq_length": 80, "dropout": 1.0}, "--dropout"),
    ):
        with pytest.raises(InputError, match=message):
            train(request(data, tmp_path / "out", teacher=str(folder), **changes))
    transformers.BertModel(config).save_pretrained(folder)
    with pytest.raises(InputError, match="fine-tuned for question answering"):
        train(request(data, tmp_path / "out", teacher=str(folder), max_seq_length=80))
    with pytest.raises(InputError, match="Expected --teacher"):
        request(data, tmp_path / "out", hidden_weight=1.0)
