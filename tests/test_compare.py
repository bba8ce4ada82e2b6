"""python -m mobilebert_kit.compare and its readers: what is fed, what is refused, and the numbers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace as Stub

import numpy as np
import pytest
import small_export as small
import tiny_question_model as tiny
from without_tensorflow import run_light

from mobilebert_kit.comparison.agreement import agreement, best_spans, logit_differences
from mobilebert_kit.comparison.batches import window_shape
from mobilebert_kit.comparison.models import common_length, common_vocab, open_model
from mobilebert_kit.errors import CheckFailed, InputError
from mobilebert_kit.runtime.binding import bind_inputs, bind_outputs
from mobilebert_kit.runtime.segments import require_segments

QUESTIONS, WINDOWS = small.questions(), small.windows()
ALL_INPUTS = ("input_ids", "input_mask", "segment_ids")
ARRAYS = {name: np.stack([getattr(window, name) for window in WINDOWS]) for name in ALL_INPUTS}
# Start and end logits of deviation 1, from sums of some ten products a layer, rounded at 6e-8 each.
ROUNDING = 1e-5

# What only another kind of model needs.
OTHERS = ("tensorflow", "tf_keras", "keras", "torch", "transformers", "onnxruntime", "openvino")


def compare(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_light("mobilebert_kit.compare", *arguments, forbidden=OTHERS)


def one_bias_more(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of the start logits, which the first row gives."""
    name = "cls/squad/output_bias"
    return tensors | {name: tensors[name] + np.array([1, 0], np.float32)}


@pytest.fixture(scope="module")
def mobilebert(tmp_path_factory):
    """A folder with one small MobileBERT as `checkpoint`, .tflite and SavedModel, and `biased`, another."""
    from mobilebert_kit.build import export

    folder = tmp_path_factory.mktemp("compare")
    small.write_checkpoint(folder / "checkpoint")
    small.write_checkpoint(folder / "biased", one_bias_more(small.weights()))
    small.write_squad(folder / "questions.json")
    export(small.request(folder, "float", keep_saved_model=True))
    return folder


@pytest.fixture(scope="module")
def paths(mobilebert):
    return {
        "transformers": mobilebert / "checkpoint",
        "TFLite": next((mobilebert / "out").glob("*.tflite")),
        "SavedModel": next((mobilebert / "out").rglob("saved_model.pb")).parent,
        "biased": mobilebert / "biased",
    }


@pytest.fixture(scope="module")
def tinies(tmp_path_factory):
    """tiny_question_model as .tflite: as it is, with other names and dtype, with one value changed."""
    folder = tmp_path_factory.mktemp("tinies")
    tiny.write_vocab(folder)
    small.write_squad(folder / "questions.json")
    content = tiny.write_model(folder / "tiny.tflite", small.LENGTH).read_bytes()
    names = {
        "input_ids": "ids", "input_mask": "attention_mask", "segment_ids": "token_type_ids",
        "start_logits": "output_s", "end_logits": "output_e",
    }  # fmt: skip
    tiny.write_model(folder / "renamed.tflite", small.LENGTH, names=names, dtype="int64")
    start_of, _, _ = tiny.tables(small.LENGTH)
    changed = start_of.copy()
    changed[tiny.VOCAB.index("paris")] += 16
    assert content.count(start_of.tobytes()) == 1
    (folder / "changed.tflite").write_bytes(content.replace(start_of.tobytes(), changed.tobytes()))
    return folder


@pytest.mark.parametrize(("first", "second"), [("transformers", "TFLite"), ("SavedModel", "transformers")])
def test_one_model_in_two_forms_agrees(paths, first, second):
    pytest.importorskip("transformers", reason="no transformers (extra [distill])")
    models = [open_model(paths[kind]) for kind in (first, second)]
    assert [model.kind for model in models] == [first, second]
    assert all(set(model.inputs) == set(ALL_INPUTS) for model in models)
    assert common_length(models, None) == small.LENGTH
    found = agreement(models, QUESTIONS, WINDOWS)
    assert 0 < found.max_logit_difference < ROUNDING
    assert (found.same_spans, found.same_answers, found.first_differing) == (100, 100, ())
    assert found.scores[0].predictions == found.scores[1].predictions


def test_a_bias_is_the_difference(paths):
    """Every start logit is 1 larger, and no span another."""
    pytest.importorskip("transformers", reason="no transformers (extra [distill])")
    found = agreement([open_model(paths[kind]) for kind in ("transformers", "biased")], QUESTIONS, WINDOWS)
    assert found.max_logit_difference == pytest.approx(1, abs=ROUNDING)
    assert found.mean_logit_difference == pytest.approx(0.5, abs=ROUNDING)
    assert found.logits == 2 * sum(len(window.tokens) for window in WINDOWS)
    assert found.same_spans == 100


@pytest.mark.parametrize("family", ["Bert", "DistilBert"])
def test_transformers_is_fed_all_that_it_takes(tmp_path, family):
    transformers = pytest.importorskip("transformers", reason="no transformers (extra [distill])")
    import torch

    torch.manual_seed(3)
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    if family == "DistilBert":
        names = ("n_layers", "dim", "n_heads", "hidden_dim")
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(tiny.VOCAB),
        max_position_embeddings=128,
        initializer_range=0.3,
        **dict(zip(names, (2, 24, 2, 20), strict=True)),
    )
    made = getattr(transformers, f"{family}ForQuestionAnswering")(config).eval()
    made.save_pretrained(tmp_path / "whole")
    made.base_model.save_pretrained(tmp_path / "headless")

    names = {"input_ids": "input_ids", "attention_mask": "input_mask", "token_type_ids": "segment_ids"}
    if family == "DistilBert":
        del names["token_type_ids"]
    tensors = {theirs: torch.from_numpy(ARRAYS[own]).long() for theirs, own in names.items()}
    with torch.no_grad():
        expected = made(**tensors)
    model = open_model(tmp_path / "whole")
    require_segments([model, model])
    assert model.inputs == {own: theirs for theirs, own in names.items()}
    for ours, theirs in zip(model.logits(WINDOWS), (expected.start_logits, expected.end_logits), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=ROUNDING)
    with pytest.raises(InputError, match="fine-tuned for question answering"):
        open_model(tmp_path / "headless")


def saved_model(folder: Path, names: tuple[str, ...], key: str = "serving_default") -> Path:
    """Takes any batch and length; its start logits are the sum of its inputs, its end logits half of that."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, name) for name in names])
    def answer(*inputs):
        total = tf.cast(tf.add_n(inputs), tf.float32)
        return {"start_logits": total, "end_logits": total / 2}

    module = tf.Module()
    module.answer = answer
    tf.saved_model.save(module, str(folder), signatures={key: answer})
    return folder


def test_a_saved_model_without_segments_is_refused(tmp_path):
    whole = open_model(saved_model(tmp_path / "whole", ALL_INPUTS))
    start, end = whole.logits(WINDOWS)
    np.testing.assert_array_equal(start, sum(ARRAYS.values()))
    np.testing.assert_array_equal(end, start / 2)
    without = open_model(saved_model(tmp_path / "without", ("input_ids", "attention_mask")))
    for models in ([whole, without], [without, whole], [without, without]):
        with pytest.raises(InputError, match="segment_ids would be left out"):
            require_segments(models)
    with pytest.raises(InputError, match="serving_default, got other"):
        open_model(saved_model(tmp_path / "other", ALL_INPUTS, "other"))


@pytest.mark.parametrize(
    ("families", "refused"),
    [
        (("distilbert", None), False),  # what a DistilBERT was exported to
        (("distilbert", "distilbert"), False),
        (("distilbert", "bert"), True),
        ((None, None), True),
        (("bert", None), True),
    ],
)
def test_only_a_family_without_segments_may_lack_them(tmp_path, families, refused):
    models = []
    for number, family in enumerate(families):
        (tmp_path / str(number)).mkdir()
        if family:
            (tmp_path / str(number) / "config.json").write_text(json.dumps({"model_type": family}))
        path = tmp_path / str(number) / "model.onnx"
        path.touch()
        models.append(Stub(path=path, inputs={"input_ids": "ids", "input_mask": "mask"}))
    if refused:
        with pytest.raises(InputError, match="segment_ids would be left out"):
            require_segments(models)
    else:
        require_segments(models)


def test_names():
    assert bind_inputs(["mask", "segment_ids", "ids"], Path("m")) == {
        "input_ids": "ids", "input_mask": "mask", "segment_ids": "segment_ids",
    }  # fmt: skip
    assert bind_outputs(["output_e", "output_s", "hidden"], Path("m")) == {
        "end_logits": "output_e", "start_logits": "output_s",
    }  # fmt: skip
    for names, message in (
        (("input_ids", "attention_mask", "token_type_ids", "position_ids"), "got position_ids in m"),
        (("args_0", "args_1", "args_2"), "args_0, args_1, args_2"),
        (("input_ids", "ids", "input_mask"), "one tensor for input_ids, got input_ids and ids"),
        (("input_ids", "segment_ids"), "input_mask or attention_mask or mask"),
    ):
        with pytest.raises(InputError, match=message):
            bind_inputs(names, Path("m"))
    with pytest.raises(InputError, match="end_logits or output_e"):
        bind_outputs(["Identity", "start_logits"], Path("m"))


def test_shapes():
    assert window_shape({"a": [1, 384], "b": [1, 384]}, Path("m")) == (1, 384)
    assert window_shape({"a": ["batch", "sequence"], "b": [None, None]}, Path("m")) == (8, None)
    for shapes in ({"a": [2, 384]}, {"a": [1, 384], "b": [1, 128]}, {"a": [384]}, {"a": []}):
        with pytest.raises(InputError, match=r"Expected inputs \[1, S\]"):
            window_shape(shapes, Path("m"))


def test_lengths():
    free, short, long = (Stub(path=Path(str(size)), sequence_length=size) for size in (None, 128, 384))
    assert common_length([free, free], None) == 384 and common_length([free, free], 100) == 100
    assert common_length([free, short], None) == 128 and common_length([short, short], 128) == 128
    for models, wanted in (([short, long], None), ([short, short], 384)):
        with pytest.raises(InputError, match="one sequence length"):
            common_length(models, wanted)


def test_vocabularies(tmp_path):
    models = [Stub(path=tmp_path / name / "model.onnx") for name in ("a", "b")]
    for model in models:
        model.path.parent.mkdir()
    with pytest.raises(InputError, match="--vocab"):
        common_vocab(models, None)
    tiny.write_vocab(tmp_path / "b")
    expected = {token: number for number, token in enumerate(tiny.VOCAB)}
    assert common_vocab(models, None) == expected
    (tmp_path / "a" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
    with pytest.raises(InputError, match="two that differ"):
        common_vocab(models, None)
    assert common_vocab(models, str(tmp_path / "b" / "vocab.txt")) == expected


def brute_force(window, start: np.ndarray, end: np.ndarray) -> tuple[int, int]:
    context = range(window.doc_offset, len(window.tokens) - 1)
    return max(
        ((i, j) for i in context for j in context if 0 <= j - i < 30),
        key=lambda span: float(start[span[0]]) + float(end[span[1]]),
    )


def test_best_spans_and_what_counts():
    rng = np.random.default_rng(5)
    start, end = rng.normal(size=(2, len(WINDOWS), small.LENGTH)).astype(np.float32)
    found = list(zip(*best_spans(WINDOWS, start, end), strict=True))
    assert found == [brute_force(*row) for row in zip(WINDOWS, start, end, strict=True)]

    # Padding never counts, the question not where it is masked, the context always.
    other = start.copy()
    for row, window in enumerate(WINDOWS):
        other[row, len(window.tokens) :] += 7
        other[row, : window.doc_offset] = -10000
    assert logit_differences(WINDOWS, (start, end), (other, end)).max() == 0
    other[0, WINDOWS[0].doc_offset] = -10000
    assert logit_differences(WINDOWS, (start, end), (other, end)).max() > 9000


def test_a_model_that_gives_no_numbers_fails():
    for bad in (np.nan, np.inf):
        model = Stub(path=Path("broken.onnx"))
        given = np.zeros((2, len(WINDOWS), small.LENGTH), np.float32)
        given[0, 1, WINDOWS[1].doc_offset] = bad
        model.logits = lambda _, given=given: given
        with pytest.raises(CheckFailed, match=r"in 1 of 9 windows, the first of question q01: broken.onnx"):
            agreement([model, model], QUESTIONS, WINDOWS)


def test_other_names_are_the_same_model(tinies, tmp_path):
    output = tmp_path / "result.json"
    common = (tinies / "tiny.tflite", tinies / "renamed.tflite", "--dataset", tinies / "questions.json")
    limits = ("--max_logit_diff", 0, "--max_f1_diff", 0, "--min_same_spans", 100)
    done = compare(*common, *limits, "--output", output)
    assert done.returncode == 0, done.stderr
    assert "fed ids, attention_mask, token_type_ids" in done.stdout
    assert "100.00% of 9 windows" in done.stdout
    result = json.loads(output.read_text(encoding="utf-8"))
    assert (result["max_logit_difference"], result["same_answers"], result["failed"]) == (0, 100, [])
    assert result["models"][1]["inputs"]["segment_ids"] == "token_type_ids"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_changed_value_is_found(tinies, tmp_path):
    output = tmp_path / "result.json"
    done = compare(
        tinies / "tiny.tflite", tinies / "changed.tflite", "--dataset", tinies / "questions.json",
        "--max_logit_diff", 15.5, "--min_same_spans", 99.5, "--max_f1_diff", 100, "--output", output,
    )  # fmt: skip
    assert done.returncode == 3
    result = json.loads(output.read_text(encoding="utf-8"))
    differing, paris = [], tiny.VOCAB.index("paris")
    for window in WINDOWS:
        start, end = tiny.logits(window.input_ids, window.input_mask, window.segment_ids)
        hit = window.input_ids == paris
        spans = [brute_force(window, logits, end) for logits in (start, start + 16 * hit)]
        if spans[0] != spans[1]:
            differing.append(window.qas_id)
    assert 0 < len(differing) < len(WINDOWS)
    assert result["max_logit_difference"] == 16
    changed_logits = (ARRAYS["input_ids"] == paris).sum()
    assert result["mean_logit_difference"] == pytest.approx(16 * changed_logits / result["logits"])
    assert result["same_spans"] == pytest.approx(100 * (1 - len(differing) / len(WINDOWS)))
    assert [window["question_id"] for window in result["first_differing"]] == differing[:5]
    assert len(result["failed"]) == 2 and "--max_logit_diff 15.5" in done.stderr
    assert all(window["question_id"] in done.stdout for window in result["first_differing"])


def test_onnx(tmp_path):
    pytest.importorskip("onnxruntime", reason="no onnxruntime (extra [onnx])")
    onnx = pytest.importorskip("onnx", reason="no onnx (extra [onnx_export])")
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Sum", ["ids", "mask", "token_type_ids"], ["start_logits"]),
        helper.make_node("Neg", ["start_logits"], ["end_logits"]),
    ]
    tensors = [
        helper.make_tensor_value_info(name, types.FLOAT, ["batch", "sequence"])
        for name in ("ids", "mask", "token_type_ids", "start_logits", "end_logits")
    ]
    graph = helper.make_graph(nodes, "answer", tensors[:3], tensors[3:])
    onnx.save(
        helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]),
        tmp_path / "m.onnx",
    )
    model = open_model(tmp_path / "m.onnx")
    assert model.sequence_length is None
    start, end = model.logits(WINDOWS)
    np.testing.assert_array_equal(start, sum(ARRAYS.values()))
    np.testing.assert_array_equal(end, -start)
    (tmp_path / "bad.onnx").write_bytes(b"none")
    with pytest.raises(InputError, match="onnxruntime can load"):
        open_model(tmp_path / "bad.onnx")


def test_bad_models(tmp_path, tinies):
    (tmp_path / "empty").mkdir()
    for name in ("garbage", "both"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_bytes(b"none")
    (tmp_path / "both" / "model.safetensors").touch()
    (tmp_path / "model.ckpt.index").touch()
    (tmp_path / "text.tflite").write_text("none")
    (tmp_path / "words.txt").write_text("none")
    for name, message in (
        ("empty", "one without saved_model.pb"),
        ("garbage", "a SavedModel that TensorFlow can load"),
        ("both", "both of the latter"),
        ("model.ckpt", "Export it first"),
        ("text.tflite", "Expected a .tflite model"),
        ("words.txt", "another kind of file"),
        ("absent.onnx", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            open_model(tmp_path / name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tiny.tflite"], "Expected A B and flags"),
        (["tiny.tflite", "tiny.tflite", "--max_f1_diff", "nan"], "max_f1_diff"),
        (["tiny.tflite", "tiny.tflite", "--max_seq_length", "80"], "--max_seq_length"),
        (["tiny.tflite", "m.onnx"], "mobilebert_kit[onnx]"),
        (["tiny.tflite", "m.xml"], "mobilebert_kit[openvino]"),
    ],
)
def test_bad_input(tinies, words, message):
    for name in ("m.onnx", "m.xml", "m.bin"):
        (tinies / name).touch()
    files = (tinies / word if "." in word else word for word in words)
    done = compare(*files, "--dataset", tinies / "questions.json")
    assert done.returncode == 2 and message in done.stderr and done.stderr.startswith("error: ")
    assert done.stdout == ""
