"""Fine-tune a MobileBERT on questions in the form of SQuAD v1.1, in float or with partial quantization.

python -m mobilebert_kit.train --dataset train-v1.1.json --eval dev-v1.1.json --output_dir D
python -m mobilebert_kit.train --checkpoint DIR --dataset train-v1.1.json --output_dir D --qat

D/model is the result, which `export --checkpoint D/model` takes. Killed at any moment, the same command goes
on and ends at the same weights.
"""

from __future__ import annotations

from mobilebert_kit.main import run
from mobilebert_kit.training_flags import start_tensorflow, told_model, training_request


def main() -> None:
    request = training_request("mobilebert_kit.train")
    start_tensorflow()
    from mobilebert_kit.training.trainer import train

    summary = train(request)
    print(told_model(summary))
    print(f"  loss {summary.first_loss:.3f} -> {summary.last_loss:.3f}")
    for row in summary.scores:
        print(
            f"  epoch {row['epoch']:g}: EM {row['exact_match']:.2f}, F1 {row['f1']:.2f} on "
            f"{row['questions']} questions"
        )


if __name__ == "__main__":
    run(main)
