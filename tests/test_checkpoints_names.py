"""The name tables against the published lists of variables, and against the model's own variables."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from checkpoint_files import SMALL, huggingface_name

from mobilebert_kit.checkpoints import names
from mobilebert_kit.checkpoints.tensorflow_format import classify
from mobilebert_kit.models.config import SIZES, MobileBertConfig

PUBLISHED = MobileBertConfig(**{key: default for key, (_, default) in SIZES.items()})


def published_variables(shared: Path, kind: str) -> dict[str, tuple[int, ...]]:
    lines = (shared / "data/mlcommons_checkpoint_index" / kind / "variables.txt").read_text().splitlines()
    return {name: tuple(ast.literal_eval(shape)) for name, shape in (line.split("\t") for line in lines)}


@pytest.mark.parametrize(("kind", "count", "ranges"), [("float", 1114, 0), ("quant", 4282, 3168)])
def test_published_variables_are_all_accounted_for(shared, kind, count, ranges):
    found = published_variables(shared, kind)
    assert len(found) == count
    weights, quant_ranges, unused = classify(found, source=kind)
    assert {name: found[name] for name in weights} == PUBLISHED.variable_shapes()
    assert len(quant_ranges) == ranges
    assert unused == ("global_step",)


def test_range_table_is_the_published_set(shared):
    found = published_variables(shared, "quant")
    ranges = {name for name in found if "FakeQuant" in name}
    assert names.quant_ranges(24, 4) == ranges
    assert len(ranges) == 66 * 24 * 2
    assert (
        len(names.quant_ranges(1, 1)) == (9 + 5 * 4 + 4 + 9) * 2
    )  # 9 dense (x2), 5 NoNorm (x4), 4 attention


@pytest.mark.parametrize("config", [PUBLISHED, SMALL], ids=["published", "small"])
def test_huggingface_mapping_is_a_bijection(config):
    canonical = list(config.variable_shapes())
    theirs = [huggingface_name(name) for name in canonical]
    assert len(set(theirs)) == len(canonical)
    mapped = [names.MOBILEBERT.from_huggingface(name) for name in theirs]
    assert [target for target, _ in mapped] == canonical
    assert [name for name, transpose in mapped if transpose] == [
        n for n in canonical if n.endswith("/kernel")
    ]


def test_rules_name_nothing_twice():
    assert (
        len({rule.huggingface for rule in names.MOBILEBERT.rules})
        == len({r.canonical for r in names.MOBILEBERT.rules})
        == len(names.MOBILEBERT.rules)
    )
    assert not any(names.MOBILEBERT.from_huggingface(name) for name in names.MOBILEBERT.unused)
    assert not any(names.MOBILEBERT.is_canonical(name) for name in names.TENSORFLOW_UNUSED)


@pytest.mark.parametrize(
    "name",
    [
        "bert/encoder/layer_00/intermediate/dense/kernel",
        "bert/encoder/layer_0/ffn_layer_/output/dense/kernel",
        "bert/encoder/layer_99999/intermediate/dense/kernel",
        "bert/encoder/layer_0/intermediate/dense/kernel\n",
        "xbert/embeddings/word_embeddings",
        "bert/embeddings/word_embeddings/",
    ],
)
def test_odd_names_are_not_canonical(name):
    assert not names.MOBILEBERT.is_canonical(name)


def test_table_against_transformers():
    transformers = pytest.importorskip("transformers", reason="no transformers (extra [distill])")
    pytest.importorskip("torch", reason="no torch (extra [distill])")
    config = transformers.MobileBertConfig(**{key: getattr(SMALL, key) for key in SIZES})
    theirs = transformers.MobileBertForQuestionAnswering(config).state_dict()
    shapes = SMALL.variable_shapes()
    mapped = {
        name: names.MOBILEBERT.from_huggingface(name)
        for name in theirs
        if name not in names.MOBILEBERT.unused
    }
    assert {target for target, _ in mapped.values()} == set(shapes)
    for name, (target, transpose) in mapped.items():
        shape = tuple(theirs[name].shape)
        assert (shape[::-1] if transpose else shape) == shapes[target]
