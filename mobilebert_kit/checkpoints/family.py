"""Which family a checkpoint is of: by what its configuration says, else by the names of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mobilebert_kit.checkpoints.names import TABLES
from mobilebert_kit.errors import InputError

# Keys that one family's configurations have and no other's.
TELLING_KEYS = {
    "mobilebert": ("intra_bottleneck_size", "use_bottleneck", "trigram_input", "num_feedforward_networks"),
    "distilbert": ("dim", "n_layers", "n_heads", "hidden_dim"),
}


def family_of_settings(settings: Mapping[str, Any], source: object) -> str | None:
    """What a configuration says, by its model_type or by keys that one family alone has; None where neither.

    Raises:
        InputError: a model_type that this kit does not take.
    """
    model_type = settings.get("model_type")
    if model_type is None:
        return next((name for name, keys in TELLING_KEYS.items() if any(k in settings for k in keys)), None)
    if not isinstance(model_type, str) or model_type not in TABLES:
        titles = ", ".join(f"{table.title}ForQuestionAnswering" for table in TABLES.values())
        raise InputError(
            f"Expected model_type {', '.join(TABLES)} in {source}, got {model_type!r:.80}. This kit takes "
            f"{titles}."
        )
    return model_type


def family_of_tensors(names: Iterable[str]) -> str | None:
    """By the scope that Hugging Face names begin with; None where no family's does."""
    scopes = {name.partition(".")[0] for name in names}
    return next((name for name in TABLES if name in scopes), None)


def family_of_variables(names: Iterable[str]) -> str:
    """By canonical names: MobileBERT has NoNorm or bottlenecks, DistilBERT no token types."""
    names = list(names)
    if any("/bottleneck/" in name or "/FakeLayerNorm/" in name for name in names):
        return "mobilebert"
    if not any("/LayerNorm/" in name for name in names):
        return "mobilebert"  # what is left to say of it, its reader says
    return "bert" if "bert/embeddings/token_type_embeddings" in names else "distilbert"
