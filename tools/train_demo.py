"""Makes the demo checkpoint: a small MobileBERT, distilled from a BERT that answers questions.

    python tools/train_demo.py --teacher DIR --train train-v1.1.json --eval dev-v1.1.json --output_dir D

Training MobileBERT on SQuAD's labels alone stays near F1 11, so knowledge is transferred, as the MobileBERT
paper (Sun et al., 2020) does it, in two stages, each with a budget of minutes:

  1  blocks apart: block l reproduces the teacher's hidden state l and its attention from the teacher's hidden
     state l-1; towards the end from what the block before it makes
  2  the whole: the teacher's logits and the labels as well; by the middle, the hidden states have lost all
     weight and the gradient, at first kept within a block, passes from block to block unhindered. From then
     on the teacher's logits are remembered, and it no longer runs

The student has a block for each of the teacher's layers, the teacher's width between them and its vocabulary:
with MiniLM's 6 layers of 384, 8.9 million parameters, 17.9 MB as float16.

It needs the kit with its extra [distill] (torch, transformers), SQuAD v1.1, and a teacher: a Hugging Face
directory of a BertForQuestionAnswering with its vocab.txt. The shipped checkpoint's is all-MiniLM-L6-v2,
fine-tuned on SQuAD v1.1 (dev F1 77.6). In 15 and 67 minutes on two shared CPU cores with AVX512-BF16, which
read 6,000 to 8,000 tokens a second when left alone, the student saw 23 million tokens and reached F1 76.2.
Every few minutes --output_dir gets

  latest/      the model: config.json, model.safetensors (float16), vocab.txt
  ckpt/        what resuming needs: the same command goes on from there
  train.log    a line a minute; losses are named in it
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Threads that spin while they wait are ruinous where other programs want the same cores: on two shared cores
# 500 tokens/s against 5,900. OpenMP reads this once, so it stands before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from demo_distillation import Distiller, Teacher, forward_gap, initialise, student_config
from demo_windows import Evaluation, load_training_windows
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BertForQuestionAnswering, MobileBertForQuestionAnswering

from mobilebert_kit.errors import KitError

# A step that takes longer was suspended or starved, and does not count as training time.
LONGEST_STEP = 10.0  # seconds
INITIAL_BATCHES = 8  # of the teacher's hidden states, for the initial weights
WARM_UP = 0.03  # of a stage
LARGEST_GRADIENT = {1: 5.0, 2: 2.0}  # by stage; longer ones are cut to this norm

# (window numbers of a batch, part of the stage that is over) -> the loss, and its parts by name
LossFunction = Callable[[np.ndarray, float], tuple[Tensor, dict[str, Tensor]]]


def parse_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--teacher", required=True, type=Path, help="directory of a BertForQuestionAnswering, with vocab.txt")
    add("--train", required=True, help="SQuAD v1.1 JSON to learn from")
    add("--exclude_ids", help="JSON list of ids of --train to leave out")
    add("--eval", required=True, help="SQuAD v1.1 JSON to score on")
    add("--eval_questions", type=int, default=150, help="the first N of --eval, while training")
    add("--eval_minutes", type=float, default=10, help="minutes between scores")
    add("--output_dir", required=True, type=Path)
    add("--checkpoint_minutes", type=float, default=5)
    add("--stage1_minutes", type=float, default=15)
    add("--stage2_minutes", type=float, default=85)
    add("--deadline", help="HH:MM, local time: stage 2 shrinks, and its schedule with it, to end then")
    add("--stage1_lr", type=float, default=1.5e-3, help="peak learning rate")
    add("--stage2_lr", type=float, default=6e-4, help="peak learning rate")
    add("--batch_tokens", type=int, default=4096, help="tokens of a batch, padding included")
    add("--attention_weight", type=float, default=0.1, help="of the attention losses")
    add("--attention_share", type=float, default=0.25, help="part of a batch that has them")
    add("--own_from", type=float, default=0.6, help="stage 1: from here on blocks read also their own")
    add("--own_until", type=float, default=0.9, help="stage 1: from here on they read nothing else")
    # All layers read the embeddings: after stage 1 their gradient is several times that of any block.
    add("--embedding_rate", type=float, default=0.3, help="stage 2: of the embeddings, relative")
    add("--label_weight", type=float, default=0.5, help="stage 2: of the labels; the logits have 1")
    add("--feature_until", type=float, default=0.5, help="stage 2: until here hidden states count, ever less")
    add("--temperature", type=float, default=2.0, help="stage 2: of the logits")
    add("--weight_decay", type=float, default=0.01, help="of the dense layers")
    add("--threads", type=int, default=2)
    add("--device", default="cpu", help="tried with cpu only")
    add("--seed", type=int, default=0)
    return parser.parse_args()


class Training:
    """A student in training, and all that a checkpoint of it holds."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.flags, self.folder = flags, flags.output_dir
        self.folder.mkdir(parents=True, exist_ok=True)
        device, vocab = torch.device(flags.device), flags.teacher / "vocab.txt"
        self.windows = load_training_windows(
            self.folder / "windows.npz", flags.train, flags.exclude_ids, vocab, device
        )
        self.evaluation = Evaluation(flags.eval, flags.eval_questions, vocab, device)
        self.log(f"{len(self.windows)} windows, {len(self.windows.ids)} tokens")

        bert = BertForQuestionAnswering.from_pretrained(flags.teacher, dtype=torch.float32).eval().to(device)
        self.teacher = Teacher(bert, torch.bfloat16)
        self.student = MobileBertForQuestionAnswering(student_config(bert))
        variances = self._initialise(bert)
        self.student.to(device)
        self.distiller = Distiller(self.student, variances.to(device), torch.bfloat16, flags.temperature)
        ids, types, mask, _ = self.windows.gather(np.arange(4))
        gap = forward_gap(self.student, ids, types, mask)
        self.log(
            f"{sum(p.numel() for p in self.student.parameters())} parameters, off transformers by {gap:.1e}"
        )
        if not gap < 1e-3:
            raise AssertionError(f"expected transformers' logits, got ones that are off by {gap}")

        self.state = {"stage": 1, "seconds": 0.0, "step": 0, "epoch": 0, "batch": 0, "tokens": 0}
        self.state["alone"] = False  # the teacher does not run any more: its logits are remembered
        self.optimizer = self._new_optimizer()
        # The teacher's logits of every token that it has read; the last row is for padding.
        self.logits = torch.zeros((len(self.windows.ids) + 1, 2), dtype=torch.float16, device=device)
        self.known = np.zeros(len(self.windows), bool)
        self._resume()

    def _initialise(self, bert: BertForQuestionAnswering) -> Tensor:
        exact = Teacher(bert, torch.float32)
        batches = []
        for rows in self.windows.batches(self.flags.batch_tokens, self.flags.seed + 10**6)[:INITIAL_BATCHES]:
            ids, types, mask, _ = self.windows.gather(rows)
            hidden = [state.cpu() for state in exact(ids, types, mask)[0]]
            batches.append((ids.cpu(), types.cpu(), mask.cpu(), hidden))
        counts = torch.bincount(self.windows.ids, minlength=bert.config.vocab_size).cpu()
        return initialise(self.student, bert.cpu(), counts, batches, self.flags.seed)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        groups: dict[str, list[nn.Parameter]] = {"embeddings": [], "dense": [], "vectors": []}
        for name, parameter in self.student.named_parameters():
            kind = "embeddings" if ".embeddings." in name else "dense" if parameter.ndim == 2 else "vectors"
            groups[kind].append(parameter)
        slower = self.flags.embedding_rate if self.state["stage"] == 2 else 1.0
        options = {
            "embeddings": {"weight_decay": 0.0, "rate": slower},
            "dense": {"weight_decay": self.flags.weight_decay, "rate": 1.0},
            "vectors": {"weight_decay": 0.0, "rate": 1.0},
        }
        return torch.optim.AdamW(
            [{"params": groups[kind]} | options[kind] for kind in groups],
            lr=0.0,
            betas=(0.9, 0.98),
            fused=True,
        )

    def log(self, text: str) -> None:
        line = f"{time.strftime('%H:%M:%S')} {text}"
        print(line, flush=True)
        with open(self.folder / "train.log", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    # ---- files

    def save(self) -> None:
        """ckpt/ and latest/, each written beside and put in place whole."""

        def write_state(folder: Path) -> None:
            model, optimizer = self.student.state_dict(), self.optimizer.state_dict()
            torch.save({"model": model, "optimizer": optimizer, "state": self.state}, folder / "state.pt")
            np.savez(folder / "teacher_logits.npz", logits=self.logits.cpu().numpy(), known=self.known)

        def write_model(folder: Path) -> None:
            self.student.config.architectures = [type(self.student).__name__]
            self.student.config.save_pretrained(folder)
            tensors = {
                name: tensor.to(torch.float16).cpu().contiguous()
                for name, tensor in self.student.state_dict().items()
            }
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
            (folder / "model.safetensors").chmod(0o644)
            shutil.copyfile(self.flags.teacher / "vocab.txt", folder / "vocab.txt")

        for name, write in (("ckpt", write_state), ("latest", write_model)):
            new, old = self.folder / f"{name}.new", self.folder / f"{name}.old"
            for left_over in (new, old):
                shutil.rmtree(left_over, ignore_errors=True)
            new.mkdir()
            write(new)
            if (self.folder / name).exists():
                (self.folder / name).rename(old)
            new.rename(self.folder / name)
            shutil.rmtree(old, ignore_errors=True)

    def _resume(self) -> None:
        # save() leaves only ckpt.old when it is killed between its two renames.
        source = next((path for name in ("ckpt", "ckpt.old") if (path := self.folder / name).exists()), None)
        if source is None:
            self.save()
            return
        saved = torch.load(source / "state.pt", map_location=self.flags.device, weights_only=True)
        self.student.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.state |= saved["state"]
        with np.load(source / "teacher_logits.npz") as file:
            self.logits, self.known = torch.from_numpy(file["logits"]).to(self.flags.device), file["known"]
        self.log(f"resumed at {self.state}")

    # ---- the loop

    def run(self) -> None:
        for stage, losses in ((1, self._losses_of_blocks), (2, self._losses_of_whole)):
            if self.state["stage"] != stage:
                continue
            self._run_stage(losses)
            self._score()
            if stage == 1:
                self.log(
                    f"stage 1 took {self.state['seconds'] / 60:.1f} minutes, {self.state['tokens']} tokens"
                )
                self.state |= {"stage": 2, "seconds": 0.0, "epoch": self.state["epoch"] + 1, "batch": 0}
                self.optimizer = self._new_optimizer()
            self.save()
        self.log(f"finished: {self.state}")

    def _run_stage(self, losses_of: LossFunction) -> None:
        state, flags = self.state, self.flags
        plan = self._plan()
        report: list[dict[str, float]] = []
        since = {"log": 0.0, "score": 0.0, "save": 0.0}  # seconds of training
        logged_tokens, clock = state["tokens"], time.monotonic()
        while (done := self._done()) < 1:
            alone = state["stage"] == 2 and not self._teaching(done)
            if state["batch"] >= len(plan) or alone != state["alone"]:
                state |= {"epoch": state["epoch"] + 1, "batch": 0, "alone": alone}
                plan = self._plan()
            report.append(self._step(losses_of, plan[state["batch"]], done))

            now = time.monotonic()
            step_seconds, clock = min(now - clock, LONGEST_STEP), now
            state["seconds"] += step_seconds
            since = {name: seconds + step_seconds for name, seconds in since.items()}
            if since["log"] >= 60:
                means = " ".join(f"{name} {np.mean([r[name] for r in report]):.3f}" for name in report[0])
                speed = (state["tokens"] - logged_tokens) / since["log"]
                self.log(
                    f"stage {state['stage']} {100 * done:.1f}% step {state['step']} {speed:.0f} tokens/s "
                    f"rate {self._learning_rate(done):.2e} {means}"
                )
                report, logged_tokens, since["log"] = [], state["tokens"], 0.0
            if since["score"] >= 60 * flags.eval_minutes:
                self._score()
                since["score"], clock = 0.0, time.monotonic()
            if since["save"] >= 60 * flags.checkpoint_minutes:
                self.save()
                since["save"], clock = 0.0, time.monotonic()

    def _step(self, losses_of: LossFunction, rows: np.ndarray, done: float) -> dict[str, float]:
        """One batch: gradient, update, count; returns the losses for the log."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(done) * group["rate"]
        loss, losses = losses_of(rows, done)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        largest = LARGEST_GRADIENT[self.state["stage"]]
        gradient = nn.utils.clip_grad_norm_(self.student.parameters(), largest)
        if torch.isfinite(gradient):
            self.optimizer.step()
        else:
            self.log("skipped a step: its gradient is not finite")
        self.state["step"] += 1
        self.state["batch"] += 1
        self.state["tokens"] += int(self.windows.lengths[rows].sum())
        return {name: float(value.detach()) for name, value in losses.items()} | {"gradient": float(gradient)}

    def _learning_rate(self, done: float) -> float:
        """Warm-up, then half a cosine to 0."""
        peak = self.flags.stage1_lr if self.state["stage"] == 1 else self.flags.stage2_lr
        if done < WARM_UP:
            return peak * done / WARM_UP
        return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - WARM_UP) / (1 - WARM_UP))))

    def _plan(self) -> list[np.ndarray]:
        """The batches of this epoch; without the teacher, of windows whose logits are known."""
        among = np.flatnonzero(self.known) if self.state["alone"] else None
        return self.windows.batches(self.flags.batch_tokens, self.flags.seed + self.state["epoch"], among)

    def _teaching(self, done: float) -> float:
        """Stage 2: the weight of the teacher's hidden states."""
        return max(0.0, 1 - done / self.flags.feature_until)

    def _done(self) -> float:
        """The part of the stage's time that is over."""
        seconds = self.state["seconds"]
        if self.state["stage"] == 1:
            return seconds / (60 * self.flags.stage1_minutes)
        budget = 60 * self.flags.stage2_minutes
        if self.flags.deadline:
            hour, minute = map(int, self.flags.deadline.split(":"))
            now = time.localtime()
            left = 3600 * (hour - now.tm_hour) + 60 * (minute - now.tm_min) - now.tm_sec
            budget = min(budget, seconds + max(left, 0))
        return seconds / budget if budget else 1.0

    def _score(self) -> None:
        metrics, peaks = self.evaluation.score(self.distiller.predict)
        self.log(
            f"{self.flags.eval_questions} questions: EM {metrics.exact_match:.1f} F1 {metrics.f1:.1f}; "
            f"largest magnitude of each hidden state: {' '.join(f'{peak:.1f}' for peak in peaks)}"
        )

    def _losses_of_blocks(self, rows: np.ndarray, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        flags = self.flags
        ids, types, mask, place = self.windows.gather(rows)
        attention_rows = max(1, int(len(rows) * flags.attention_share))
        heads = self.student.config.num_attention_heads
        hidden, attention, logits = self.teacher(ids, types, mask, attention_rows, heads)
        self._remember(rows, place, logits)
        share = (done - flags.own_from) / (flags.own_until - flags.own_from)
        random = np.random.default_rng((flags.seed, self.state["step"]))
        own_rows = torch.from_numpy(random.random(len(rows)) < share).to(ids.device)
        features, maps = self.distiller.blocks_apart(ids, types, mask, hidden, attention, own_rows)
        losses = {f"h{number}": value for number, value in enumerate(features)}
        return features.sum() + flags.attention_weight * maps.sum(), losses | {"attention": maps.mean()}

    def _losses_of_whole(self, rows: np.ndarray, done: float) -> tuple[Tensor, dict[str, Tensor]]:
        flags = self.flags
        ids, types, mask, place = self.windows.gather(rows)
        teaching = self._teaching(done)
        hidden, attention = None, []
        if teaching:
            attention_rows = max(1, int(len(rows) * flags.attention_share))
            heads = self.student.config.num_attention_heads
            hidden, attention, logits = self.teacher(ids, types, mask, attention_rows, heads)
            self._remember(rows, place, logits)
        else:
            logits = self.logits[place].float()
        labels = self.windows.labels[torch.from_numpy(rows).to(ids.device)]
        features, maps, logit, label = self.distiller.whole(
            ids, types, mask, hidden, attention, logits, labels, gate=1 - teaching
        )
        loss = logit + flags.label_weight * label + teaching * (features + flags.attention_weight * maps)
        return loss, {"logits": logit, "labels": label, "features": features, "attention": maps}

    def _remember(self, rows: np.ndarray, place: Tensor, logits: Tensor) -> None:
        self.logits[place], self.known[rows] = logits.half(), True


def main() -> None:
    flags = parse_flags()
    torch.set_num_threads(flags.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(flags.seed)
    Training(flags).run()


if __name__ == "__main__":
    try:
        main()
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
