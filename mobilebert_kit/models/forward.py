"""The forward pass of a configuration: each family's own file has it once, for every lowering."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobilebert_kit.models import bert, mobilebert

if TYPE_CHECKING:
    import tensorflow as tf

    from mobilebert_kit.lowering.cpu import CpuLowering
    from mobilebert_kit.models.config import ModelConfig

# By `config.family`. The one place where families part.
FORWARD_PASSES = {
    "mobilebert": mobilebert.question_answering,
    "bert": bert.question_answering,
    "distilbert": bert.question_answering,
}


def question_answering(config: ModelConfig, ops: CpuLowering, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """int32 [B, S] input_ids, input_mask, and segment_ids where the family has them -> {"end_logits",
    "start_logits"}, float32 [B, S] each."""
    return FORWARD_PASSES[config.family](config, ops, **inputs)
