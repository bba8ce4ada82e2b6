"""Prune a fine-tuned model: train it on while ever more of its weights become zero.

python -m mobilebert_kit.prune --checkpoint DIR --dataset train-v1.1.json --eval dev-v1.1.json \\
    --target_sparsity 0.5 --pruning_pattern 2:4 --distill_loss_weight 1 --output_dir D

D/model is the result, which `export --checkpoint D/model` takes; D/pruning.json and D/sparsity.png tell how
sparse each kernel is. Killed at any moment, the same command goes on and ends at the same weights. The names
of neural-compressor's run_qa_no_trainer.py work too (--model_name_or_path, --num_train_epochs, ...).
"""

from __future__ import annotations

from dataclasses import replace

from absl import flags

from mobilebert_kit.checkpoint_flags import CHECKPOINT
from mobilebert_kit.errors import InputError
from mobilebert_kit.main import run
from mobilebert_kit.training.pruning.masks import SCOPES
from mobilebert_kit.training.pruning.request import (
    CRITERIA,
    EXCLUDED,
    MAX_SPARSITY_PER_LAYER,
    PruningRequest,
)
from mobilebert_kit.training.pruning.schedule import SCHEDULES
from mobilebert_kit.training.request import TrainingRequest
from mobilebert_kit.training_flags import (
    DISTILL_LOSS_WEIGHT,
    EVAL,
    SEED,
    TEACHER,
    TEACHER_CACHE,
    start_tensorflow,
    told_model,
    training_request,
)

_DO_PRUNE = flags.DEFINE_bool("do_prune", True, "--nodo_prune: the dense fine-tune with the same flags.")
_TARGET_SPARSITY = flags.DEFINE_float("target_sparsity", 0.8, "Share of zeros, of all that may be pruned.")
_PATTERN = flags.DEFINE_string(
    "pruning_pattern",
    "4x1",
    "NxM: blocks of N outputs x M inputs become zero whole (1x1: single weights); N:M: N of each M inputs.",
)
_CRITERION = flags.DEFINE_enum(
    "criterion",
    "snip_momentum",
    list(CRITERIA),
    "What goes first: weights of little |W * gradient|, averaged over the steps or of the last one, or of "
    "little |W|.",
)
_SCHEDULE = flags.DEFINE_enum("schedule", "exp", list(SCHEDULES), "How sparsity rises.")
_SCOPE = flags.DEFINE_enum("scope", "global", list(SCOPES), "One threshold for all kernels, or one for each.")
_START_STEP = flags.DEFINE_integer("start_step", None, "Default: when the learning rate has warmed up.")
_END_STEP = flags.DEFINE_integer("end_step", None, "Default: --cooldown_epochs before the end.")
_FREQUENCY = flags.DEFINE_integer(
    "pruning_frequency", None, "Steps from pruning to pruning. Default: a 40th of the way from start to end."
)
_COOLDOWN_EPOCHS = flags.DEFINE_integer("cooldown_epochs", 0, "At the end, in which nothing more is pruned.")
_NUM_WARMUP_STEPS = flags.DEFINE_integer(
    "num_warmup_steps", None, "In which the learning rate rises, instead of --warmup."
)
_ADAM_BETA2 = flags.DEFINE_float(
    "adam_beta2", None, "Of AdamW. Default: 0.9 where it prunes, as published, else 0.999."
)
_EXCLUDE = flags.DEFINE_list("exclude", list(EXCLUDED), "Parts of the names of variables that stay dense.")
_MAX_SPARSITY_PER_LAYER = flags.DEFINE_float(
    "max_sparsity_per_layer", MAX_SPARSITY_PER_LAYER, "No kernel gets a larger share of zeros."
)
_REFIT_STEPS = flags.DEFINE_integer(
    "refit_steps",
    0,
    "At each pruning fit what stays of a kernel anew, so that on the windows of the first so many steps its "
    "layer's outputs change least. 0: leave it as it is.",
)
_SEEDS = flags.DEFINE_list(
    "seeds", None, "Several, as 1,2,3: a run for each in --output_dir/seed_N. Default: --seed alone."
)

# neural-compressor's run_qa_no_trainer.py: its name -> the kit's.
_ALIASES = {
    "model_name_or_path": "checkpoint",
    "teacher_model_name_or_path": "teacher",
    "train_file": "dataset",
    "validation_file": "eval",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "accumulation",
    "num_train_epochs": "epochs",
    "max_train_steps": "max_steps",
    "cooldown_epoch": "cooldown_epochs",
}
for _theirs, _own in _ALIASES.items():
    flags.DEFINE_alias(_theirs, _own)
_DATASET_NAME = flags.DEFINE_string(
    "dataset_name",
    None,
    "Of the datasets library, as squad: its train split for --dataset, the other for --eval.",
)
_CHECKPOINTING_STEPS = flags.DEFINE_string(
    "checkpointing_steps", None, "--checkpoint_steps; or epoch: at each epoch's end, as always."
)
flags.DEFINE_integer("doc_stride", 128, "Of the windows: always 128.", lower_bound=128, upper_bound=128)
flags.DEFINE_integer(
    "per_device_eval_batch_size", 16, "Has no effect: no score depends on it.", lower_bound=1
)


def main() -> None:
    requests = seeded(pruning_training())
    start_tensorflow()
    from mobilebert_kit.training.pruning.table import told_cost
    from mobilebert_kit.training.trainer import train

    summaries = []
    for request in requests:
        summaries.append(train(request))
        print(told_model(summaries[-1]), flush=True)
    print("\n".join(told_cost([request.output_dir for request in requests], summaries)))


def pruning_training() -> TrainingRequest:
    """What the flags ask for, with the first seed."""
    pruning = None
    if _DO_PRUNE.value:
        pruning = PruningRequest(
            target_sparsity=_TARGET_SPARSITY.value,
            pruning_pattern=_PATTERN.value,
            criterion=_CRITERION.value,
            schedule=_SCHEDULE.value,
            scope=_SCOPE.value,
            start_step=_START_STEP.value,
            end_step=_END_STEP.value,
            pruning_frequency=_FREQUENCY.value,
            cooldown_epochs=_COOLDOWN_EPOCHS.value,
            exclude=tuple(_EXCLUDE.value),
            max_sparsity_per_layer=_MAX_SPARSITY_PER_LAYER.value,
            refit_steps=_REFIT_STEPS.value,
        )
    beta2 = _ADAM_BETA2.value
    if beta2 is None:
        beta2 = 0.9 if pruning else 0.999
    changes: dict[str, object] = {
        "pruning": pruning,
        "num_warmup_steps": _NUM_WARMUP_STEPS.value,
        "adam_beta2": beta2,
        **_teaching(),
    }
    if _DATASET_NAME.value:
        changes |= {"dataset": _DATASET_NAME.value, "evaluation": EVAL.value or _DATASET_NAME.value}
    if _CHECKPOINTING_STEPS.value not in (None, "epoch"):
        changes["checkpoint_steps"] = _whole("checkpointing_steps", _CHECKPOINTING_STEPS.value)
    return training_request("mobilebert_kit.prune", **changes)


def _teaching() -> dict[str, object]:
    """The teacher and its weight. As published: none without --distill_loss_weight, else the dense start."""
    weight = DISTILL_LOSS_WEIGHT.value
    teacher = TEACHER.value or (CHECKPOINT.value if weight else None)
    return {"teacher": teacher, "distill_loss_weight": 1.0 if weight is None else weight}


def seeded(request: TrainingRequest) -> list[TrainingRequest]:
    """A request for each of --seeds, in a folder of its own where they are several."""
    seeds = [_whole("seeds", seed) for seed in _SEEDS.value or [str(SEED.value)]]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"Expected different --seeds, got {','.join(map(str, seeds))}.")
    if len(seeds) == 1:
        return [replace(request, seed=seeds[0])]
    folder = request.output_dir
    cache = request.teacher_cache if TEACHER_CACHE.value or not request.teacher else folder / "teacher"
    return [
        replace(request, seed=seed, output_dir=folder / f"seed_{seed}", teacher_cache=cache) for seed in seeds
    ]


def _whole(flag: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 10:
        raise InputError(f"Expected whole numbers for --{flag}, got {text!r:.80}.")
    return int(text)


if __name__ == "__main__":
    run(main)
