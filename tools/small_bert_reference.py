"""The small BERT of the OpenVINO zoo in PyTorch, of transformers' parts, as it has no class for it.

    embeddings of 1024 ─ Linear ─ BertEncoder of 512 ─ Linear ─ 1024 ─ Linear to 2

The modules lie where the names of a checkpoint's tensors say.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import BertConfig
from transformers.modeling_outputs import QuestionAnsweringModelOutput
from transformers.models.bert.modeling_bert import BertEmbeddings, BertEncoder


class SmallBert(torch.nn.Module):
    """Takes what a BertForQuestionAnswering takes; its config.json has `embedding_size` and `output_size`."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        config = BertConfig.from_pretrained(directory, attn_implementation="eager")
        wide = BertConfig.from_pretrained(directory, hidden_size=config.embedding_size)
        self.bert = torch.nn.Module()
        self.bert.embeddings = BertEmbeddings(wide)
        self.bert.embeddings.embedding_transformation = torch.nn.Linear(
            config.embedding_size, config.hidden_size
        )
        self.bert.encoder = BertEncoder(config)
        self.bert.encoder.output_transformation = torch.nn.Linear(config.hidden_size, config.output_size)
        self.qa_outputs = torch.nn.Linear(config.output_size, 2)
        self.load_state_dict(load_file(directory / "model.safetensors"))

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor, **_: object
    ) -> QuestionAnsweringModelOutput:
        x = self.bert.embeddings(input_ids, token_type_ids)
        states = [self.bert.embeddings.embedding_transformation(x)]
        masked = (1.0 - attention_mask[:, None, None].float()) * torch.finfo(torch.float32).min
        for layer in self.bert.encoder.layer:
            states.append(layer(states[-1], masked))
        start, end = self.qa_outputs(self.bert.encoder.output_transformation(states[-1])).unbind(-1)
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=end, hidden_states=tuple(states))
