"""Write a Hugging Face directory of a MobileBERT with random weights, of any size: for benchmarks and tests.

python tools/random_checkpoint.py --output_dir D
python tools/random_checkpoint.py --output_dir D --num_hidden_layers 6 --hidden_size 384 --hidden_act relu6
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from random_weights import write_random_checkpoint

import mobilebert_kit
from mobilebert_kit.errors import InputError
from mobilebert_kit.main import run
from mobilebert_kit.models.config import ACTIVATIONS, SIZES, MobileBertConfig

DEMO_VOCAB = Path(mobilebert_kit.__file__).parent / "demo_checkpoint" / "vocab.txt"

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "A folder that does not exist yet.", required=True)
_VOCAB = flags.DEFINE_string(
    "vocab", str(DEMO_VOCAB), "Vocabulary to copy; its lines are the model's vocab_size."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the weights.", lower_bound=0)
_ACT = flags.DEFINE_enum("hidden_act", "relu", list(ACTIVATIONS), "The activation.")
_SIZES = {
    key: flags.DEFINE_integer(key, default, "As in config.json.", lower_bound=1, upper_bound=largest)
    for key, (largest, default) in SIZES.items()
    if key != "vocab_size"
}


def main() -> None:
    vocab = Path(_VOCAB.value)
    if not vocab.is_file():
        raise InputError(f"Expected a vocabulary at {vocab}, got no such file. Name one with --vocab.")
    config = MobileBertConfig(
        vocab_size=vocab.read_text(encoding="utf-8").count("\n"),
        hidden_act=_ACT.value,
        **{key: flag.value for key, flag in _SIZES.items()},
    )
    write_random_checkpoint(Path(_OUTPUT_DIR.value), config, vocab, _SEED.value)
    print(f"{_OUTPUT_DIR.value}: {config.parameter_count:,} parameters")


if __name__ == "__main__":
    run(main)
