"""The names of BERT and DistilBERT.

Canonical names are those of Google's TensorFlow checkpoints (google-research/bert, modeling.py). The two
transformations are of the OpenVINO zoo's small BERT, and named by this kit, after MobileBERT's.
Sources of the Hugging Face column: transformers, models/bert/modeling_bert.py and
models/distilbert/modeling_distilbert.py.
"""

from __future__ import annotations

from mobilebert_kit.checkpoints.name_table import (
    DENSE,
    LAYER,
    NORM,
    PRETRAINING_HEADS,
    TABLE,
    NameTable,
    rules,
)

_BERT_LAYER = "bert.encoder.layer.{layer}."
_DISTILBERT_LAYER = "distilbert.transformer.layer.{layer}."

BERT = NameTable(
    "BERT",
    rules(
        (
            *(
                (f"bert.embeddings.{x}_embeddings", f"bert/embeddings/{x}_embeddings", TABLE)
                for x in ("word", "position", "token_type")
            ),
            ("bert.embeddings.LayerNorm", "bert/embeddings/LayerNorm", NORM),
            ("bert.embeddings.embedding_transformation", "bert/embeddings/embedding_transformation", DENSE),
            *(
                (_BERT_LAYER + theirs, LAYER + theirs.replace(".", "/"), leaves)
                for theirs, leaves in (
                    ("attention.self.query", DENSE),
                    ("attention.self.key", DENSE),
                    ("attention.self.value", DENSE),
                    ("attention.output.dense", DENSE),
                    ("attention.output.LayerNorm", NORM),
                    ("intermediate.dense", DENSE),
                    ("output.dense", DENSE),
                    ("output.LayerNorm", NORM),
                )
            ),
            ("bert.encoder.output_transformation", "bert/encoder/output_transformation", DENSE),
        )
    ),
    frozenset(
        [
            "bert.embeddings.position_ids",
            "bert.embeddings.token_type_ids",
            "bert.pooler.dense.weight",
            "bert.pooler.dense.bias",
            *PRETRAINING_HEADS,
        ]
    ),
)

DISTILBERT = NameTable(
    "DistilBERT",
    rules(
        (
            *(
                (f"distilbert.embeddings.{x}_embeddings", f"bert/embeddings/{x}_embeddings", TABLE)
                for x in ("word", "position")
            ),
            ("distilbert.embeddings.LayerNorm", "bert/embeddings/LayerNorm", NORM),
            *(
                (_DISTILBERT_LAYER + theirs, LAYER + canonical, leaves)
                for theirs, canonical, leaves in (
                    ("attention.q_lin", "attention/self/query", DENSE),
                    ("attention.k_lin", "attention/self/key", DENSE),
                    ("attention.v_lin", "attention/self/value", DENSE),
                    ("attention.out_lin", "attention/output/dense", DENSE),
                    ("sa_layer_norm", "attention/output/LayerNorm", NORM),
                    ("ffn.lin1", "intermediate/dense", DENSE),
                    ("ffn.lin2", "output/dense", DENSE),
                    ("output_layer_norm", "output/LayerNorm", NORM),
                )
            ),
        )
    ),
    frozenset(
        [
            "distilbert.embeddings.position_ids",
            "vocab_transform.weight",
            "vocab_transform.bias",
            "vocab_layer_norm.weight",
            "vocab_layer_norm.bias",
            "vocab_projector.weight",
            "vocab_projector.bias",
        ]
    ),
)
