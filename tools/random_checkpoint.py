"""Write a Hugging Face directory of a model with random weights, of any size: for benchmarks and tests.

python tools/random_checkpoint.py --output_dir D
python tools/random_checkpoint.py --output_dir D --num_hidden_layers 6 --hidden_size 384 --hidden_act relu6
python tools/random_checkpoint.py --output_dir D --model_type bert --sparsity 0.854
python tools/random_checkpoint.py --output_dir D --model_type bert --hidden_size 512 --embedding_size 1024 ...

Sizes that are not given are those of the published model: MobileBERT, bert-base, distilbert-base.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from random_weights import ARCHITECTURES, write_random_checkpoint

import mobilebert_kit
from mobilebert_kit.errors import InputError
from mobilebert_kit.main import run
from mobilebert_kit.models import bert_config, mobilebert_config
from mobilebert_kit.models.config import BertConfig, MobileBertConfig, ModelConfig

DEMO_VOCAB = Path(mobilebert_kit.__file__).parent / "demo_checkpoint" / "vocab.txt"
# Family -> the configuration's class, what reads a config.json of it.
CONFIGS = {"mobilebert": MobileBertConfig, "bert": BertConfig, "distilbert": BertConfig}
LARGEST = {
    **{key: limits[0] for key, limits in mobilebert_config.SIZES.items()},
    **{key: limits[0] for key, limits in bert_config.SIZES.items()},
    "output_size": bert_config.SIZES["hidden_size"][0],
}

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "A folder that does not exist yet.", required=True)
_FAMILY = flags.DEFINE_enum("model_type", "mobilebert", list(ARCHITECTURES), "The family.")
_VOCAB = flags.DEFINE_string(
    "vocab", str(DEMO_VOCAB), "Vocabulary to copy; its lines are the model's vocab_size."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the weights.", lower_bound=0)
_SPARSITY = flags.DEFINE_float(
    "sparsity", 0.0, "Share of zeros in each kernel of the encoder.", lower_bound=0.0, upper_bound=0.99
)
_ACT = flags.DEFINE_string("hidden_act", None, "As in config.json. Default: the published model's.")
_SIZES = {
    key: flags.DEFINE_integer(key, None, "As in config.json.", lower_bound=1, upper_bound=largest)
    for key, largest in LARGEST.items()
    if key != "vocab_size"
}


def main() -> None:
    vocab = Path(_VOCAB.value)
    if not vocab.is_file():
        raise InputError(f"Expected a vocabulary at {vocab}, got no such file. Name one with --vocab.")
    config = asked_config(vocab.read_text(encoding="utf-8").count("\n"))
    write_random_checkpoint(Path(_OUTPUT_DIR.value), config, vocab, _SEED.value, _SPARSITY.value)
    print(f"{_OUTPUT_DIR.value}: {config.parameter_count:,} parameters")


def asked_config(vocab_size: int) -> ModelConfig:
    """The published model's configuration, but for what the flags say.

    Raises:
        InputError: a size that the family does not have, or that no model has.
    """
    given = {key: flag.value for key, flag in _SIZES.items() if flag.value is not None}
    if _ACT.value is not None:
        given["hidden_act"] = _ACT.value
    kind = CONFIGS[_FAMILY.value]
    foreign = sorted(given.keys() - kind.__dataclass_fields__.keys())
    if foreign:
        raise InputError(f"Expected sizes that a {_FAMILY.value} has, got {', '.join(foreign)}.")
    raw = {"model_type": _FAMILY.value, "vocab_size": vocab_size, **given}
    return kind.from_huggingface(raw, source="the flags")


if __name__ == "__main__":
    run(main)
