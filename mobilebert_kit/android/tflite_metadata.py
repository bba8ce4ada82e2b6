"""The metadata of a .tflite: what its tensors are called and mean, and which vocabulary it wants.

TensorFlow Lite's Task Library reads it (BertQuestionAnswerer), and so do Android Studio and model viewers.
The schema: tflite-support, tensorflow_lite_support/metadata/metadata_schema.fbs. Its own writer wants
protobuf 3, and TensorFlow 2.21 wants 6; so the handful of tables that are needed are written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import flatbuffers

IDENTIFIER = b"M001"
METADATA_NAME = "TFLITE_METADATA"  # of the model's buffer that holds it
MIN_PARSER_VERSION = "1.1.0"  # the first with BertTokenizerOptions

_VOCABULARY = 5  # enum AssociatedFileType
_FEATURE_PROPERTIES = 1  # union ContentProperties
_BERT_TOKENIZER_OPTIONS = 4  # union ProcessUnitOptions

# By the kit's own names: the model's may be another contract's.
DESCRIPTIONS = {
    "input_ids": "Ids of the wordpieces: [CLS] question [SEP] context [SEP], then zeros.",
    "input_mask": "1 for a wordpiece, 0 for padding.",
    "segment_ids": "1 for the context and the last [SEP], 0 for everything else.",
    "start_logits": "For each wordpiece, how likely the answer starts there. Not normalized.",
    "end_logits": "For each wordpiece, how likely the answer ends there. Not normalized.",
}


@dataclass(frozen=True)
class TensorText:
    """What the metadata says of one tensor. The Task Library finds a tensor by this name."""

    name: str
    description: str


@dataclass(frozen=True)
class ModelText:
    """What the metadata says of a model; `inputs` and `outputs` in the order of the file."""

    name: str
    description: str
    version: str
    author: str
    license: str
    vocabulary: str  # the associated file's name
    inputs: Sequence[TensorText]
    outputs: Sequence[TensorText]


def metadata_bytes(text: ModelText) -> bytes:
    """The ModelMetadata, as bytes for the model's buffer."""
    builder = _Builder()
    vocabulary = builder.table(
        {
            0: builder.text(text.vocabulary),
            1: builder.text("WordPiece, lower case."),
            2: _VOCABULARY,
        }
    )
    options = builder.table({0: builder.vector([vocabulary])})
    tokenizer = builder.table({0: _BERT_TOKENIZER_OPTIONS, 1: options})
    graph = builder.table(
        {
            2: builder.vector([builder.tensor(tensor) for tensor in text.inputs]),
            3: builder.vector([builder.tensor(tensor) for tensor in text.outputs]),
            5: builder.vector([tokenizer]),
        }
    )
    root = builder.table(
        {
            0: builder.text(text.name),
            1: builder.text(text.description),
            2: builder.text(text.version),
            3: builder.vector([graph]),
            4: builder.text(text.author),
            5: builder.text(text.license),
            7: builder.text(MIN_PARSER_VERSION),
        }
    )
    return builder.finish(root)


class _Offset(int):
    """Where something that was written lies; a plain int is an enum's value."""


class _Builder:
    """flatbuffers' builder, with tables as {slot: value}; slots are the fields' positions in the schema."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1024)

    def text(self, value: str) -> _Offset:
        return _Offset(self._builder.CreateString(value))

    def table(self, fields: dict[int, int]) -> _Offset:
        self._builder.StartObject(max(fields, default=-1) + 1)
        for slot, value in fields.items():
            if isinstance(value, _Offset):
                self._builder.PrependUOffsetTRelativeSlot(slot, value, 0)
            else:
                self._builder.PrependUint8Slot(slot, value, 0)
        return _Offset(self._builder.EndObject())

    def vector(self, offsets: Sequence[_Offset]) -> _Offset:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return _Offset(self._builder.EndVector())

    def tensor(self, text: TensorText) -> _Offset:
        feature = self.table({0: _FEATURE_PROPERTIES, 1: self.table({})})
        return self.table({0: self.text(text.name), 1: self.text(text.description), 3: feature})

    def finish(self, root: _Offset) -> bytes:
        self._builder.Finish(root, file_identifier=IDENTIFIER)
        return bytes(self._builder.Output())
