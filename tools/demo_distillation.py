"""The mathematics of the demo's distillation: the teacher, the student, its initial weights, the losses.

    teacher          h0 --layer 1--> h1 --layer 2--> h2 ... h6 --> start and end logits

    blocks apart     h0 --block 1--> ~h1    h1 --block 2--> ~h2        every block learns on its own
    whole      ids-> s0 --block 1--> s1 ------block 2-----> s2 ... s6 --> logits ~ the teacher's, the labels

The student is transformers' MobileBertForQuestionAnswering as far as parameters and their names go. Its
forward pass is written again here, because blocks are fed one by one, attention scores are wanted from
inside, and bfloat16 without autocast is what makes two CPU cores enough. `forward_gap` compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertForQuestionAnswering, MobileBertConfig, MobileBertForQuestionAnswering

MASKED = -10000.0  # added to attention scores and logits of padding
PAD_ID = 0
WORD_SIZE = 0.3  # root mean square of the initial word embeddings: large against Adam's first steps


def student_config(teacher: BertForQuestionAnswering) -> MobileBertConfig:
    """The published structure: a block for each teacher layer, its width between them, bottleneck 128."""
    return MobileBertConfig(
        vocab_size=teacher.config.vocab_size,
        hidden_size=teacher.config.hidden_size,
        num_hidden_layers=teacher.config.num_hidden_layers,
        max_position_embeddings=teacher.config.max_position_embeddings,
        embedding_size=128,
        intra_bottleneck_size=128,
        intermediate_size=512,
        num_attention_heads=4,
        num_feedforward_networks=4,
        hidden_act="relu",
        normalization_type="no_norm",
        trigram_input=True,
        use_bottleneck=True,
        use_bottleneck_attention=False,
        key_query_shared_bottleneck=True,
        classifier_activation=False,
        # A student that never sees its data three times does not overfit.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def padding_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, S] bool -> [B, 1, 1, S], to be added to attention scores."""
    return ((~mask).to(dtype) * MASKED)[:, None, None, :]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, S, C] -> [B, heads, S, C / heads]."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def attention_scores(queries: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """[B, heads, S, S]. Written out: on a CPU two plain products beat fused attention at these lengths."""
    return (queries * queries.shape[-1] ** -0.5) @ keys.transpose(2, 3) + bias


class Teacher:
    """A frozen BertForQuestionAnswering in one dtype: query, key and value as one product, no dropout."""

    def __init__(self, bert: BertForQuestionAnswering, dtype: torch.dtype) -> None:
        def cast(module: nn.Module) -> tuple[Tensor, Tensor]:
            return module.weight.detach().to(dtype), module.bias.detach().to(dtype)

        self._config = bert.config
        embeddings = bert.bert.embeddings
        self._tables = [
            getattr(embeddings, f"{name}_embeddings").weight.detach().to(dtype)
            for name in ("word", "position", "token_type")
        ]
        self._embedding_norm = cast(embeddings.LayerNorm)
        self._layers = []
        for layer in bert.bert.encoder.layer:
            attention = layer.attention
            parts = [cast(getattr(attention.self, name)) for name in ("query", "key", "value")]
            self._layers.append(
                (
                    [torch.cat(tensors) for tensors in zip(*parts, strict=True)],
                    cast(attention.output.dense),
                    cast(attention.output.LayerNorm),
                    cast(layer.intermediate.dense),
                    cast(layer.output.dense),
                    cast(layer.output.LayerNorm),
                )
            )
        self._head = cast(bert.qa_outputs)

    @torch.no_grad()
    def __call__(
        self, ids: Tensor, types: Tensor, mask: Tensor, attention_rows: int = 0, head_groups: int = 1
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """-> hidden states, layers + 1 of [B, S, C]; attention probabilities; logits [B, S, 2].

        The probabilities, [attention_rows, head_groups, S, S] a layer, are of the first rows of the batch,
        and the mean over each group of neighbouring heads; none for 0 rows.
        """
        word, position, token_type = self._tables
        width, heads = word.shape[1], self._config.num_attention_heads
        bias = padding_bias(mask, word.dtype)

        def norm(x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
            return F.layer_norm(x, (width,), *weights, self._config.layer_norm_eps)

        x = F.embedding(ids, word) + position[: ids.shape[1]] + F.embedding(types, token_type)
        x = norm(x, self._embedding_norm)
        hidden, attention = [x], []
        for qkv, attention_output, attention_norm, up, down, output_norm in self._layers:
            q, k, v = (split_heads(part, heads) for part in F.linear(x, *qkv).split(width, -1))
            probabilities = attention_scores(q, k, bias).softmax(-1)
            if attention_rows:
                some = probabilities[:attention_rows].float()
                attention.append(some.unflatten(1, (head_groups, heads // head_groups)).mean(2))
            context = (probabilities @ v).transpose(1, 2).flatten(2)
            x = norm(F.linear(context, *attention_output) + x, attention_norm)
            x = norm(F.linear(F.gelu(F.linear(x, *up)), *down) + x, output_norm)
            hidden.append(x)
        return hidden, attention, F.linear(x, *self._head).float()


def dense(x: Tensor, layer: nn.Linear) -> Tensor:
    """In x's dtype; the parameters, and with them their gradients, stay float32."""
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def no_norm(x: Tensor, norm: nn.Module) -> Tensor:
    return x * norm.weight.to(x.dtype) + norm.bias.to(x.dtype)


def embed(student: MobileBertForQuestionAnswering, ids: Tensor, types: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, S] -> [B, S, C]: trigrams in the order next, this, previous token; zeros beyond the ends."""
    embeddings = student.mobilebert.embeddings
    word = F.embedding(ids, embeddings.word_embeddings.weight, padding_idx=PAD_ID).to(dtype)
    following, previous = F.pad(word[:, 1:], (0, 0, 0, 1)), F.pad(word[:, :-1], (0, 0, 1, 0))
    x = dense(torch.cat([following, word, previous], -1), embeddings.embedding_transformation)
    x = x + embeddings.position_embeddings.weight[: ids.shape[1]].to(dtype)
    x = x + F.embedding(types, embeddings.token_type_embeddings.weight).to(dtype)
    return no_norm(x, embeddings.LayerNorm)


def run_block(layer: nn.Module, x: Tensor, bias: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """One MobileBERT block: [B, S, C] -> [B, S, C] and its masked attention scores [B, heads, S, S]."""

    def feed_forward(y: Tensor, part: nn.Module) -> Tensor:
        return no_norm(
            dense(F.relu(dense(y, part.intermediate.dense)), part.output.dense) + y, part.output.LayerNorm
        )

    bottleneck, attention, output = layer.bottleneck, layer.attention, layer.output
    inner = no_norm(dense(x, bottleneck.input.dense), bottleneck.input.LayerNorm)
    shared = no_norm(dense(x, bottleneck.attention.dense), bottleneck.attention.LayerNorm)
    q, k = (split_heads(dense(shared, part), heads) for part in (attention.self.query, attention.self.key))
    v = split_heads(dense(x, attention.self.value), heads)
    scores = attention_scores(q, k, bias)
    context = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    y = no_norm(dense(context, attention.output.dense) + inner, attention.output.LayerNorm)
    for part in layer.ffn:
        y = feed_forward(y, part)
    y = feed_forward(y, layer)
    return no_norm(dense(y, output.bottleneck.dense) + x, output.bottleneck.LayerNorm), scores


def feature_loss(student: Tensor, teacher: Tensor, mask: Tensor, variance: Tensor) -> Tensor:
    """Mean squared error over real tokens, in units of the teacher layer's variance."""
    squared = (student.float() - teacher.float()).square().mean(-1)
    return (squared * mask).sum() / (mask.sum() * variance)


def attention_loss(scores: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL(teacher || student) of the teacher's rows, mean over heads and real query positions."""
    rows, heads = teacher.shape[:2]
    cross = -(teacher * scores[:rows].float().log_softmax(-1)).sum(-1)
    entropy = -(teacher * (teacher + 1e-9).log()).sum(-1)
    real = mask[:rows, None, :]
    return ((cross - entropy) * real).sum() / (real.sum() * heads)


def logit_loss(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """KL of start and of end positions at a temperature, times its square: gradients keep their size."""
    fill = (~mask).float()[:, :, None] * MASKED
    own = ((student + fill) / temperature).log_softmax(1)
    wanted = ((teacher + fill) / temperature).softmax(1)
    return temperature**2 * F.kl_div(own, wanted, reduction="none").sum(1).mean()


def label_loss(logits: Tensor, spans: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy with the true start and end, [B, 2]."""
    logits = logits + (~mask).float()[:, :, None] * MASKED
    return (F.cross_entropy(logits[:, :, 0], spans[:, 0]) + F.cross_entropy(logits[:, :, 1], spans[:, 1])) / 2


class Distiller:
    """The student's forward passes with their losses. `variances` [layers + 1] are the teacher's."""

    def __init__(
        self,
        student: MobileBertForQuestionAnswering,
        variances: Tensor,
        dtype: torch.dtype,
        temperature: float,
    ) -> None:
        self.student, self._variances, self._dtype, self._temperature = student, variances, dtype, temperature
        self._blocks = student.mobilebert.encoder.layer
        self._heads = student.config.num_attention_heads

    def blocks_apart(
        self,
        ids: Tensor,
        types: Tensor,
        mask: Tensor,
        hidden: Sequence[Tensor],
        attention: Sequence[Tensor],
        own_rows: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Feature losses [layers + 1] and attention losses [layers].

        A block reads the teacher's hidden state or, in `own_rows` [B] of the batch, what the block before it
        made; no gradient goes from block to block.
        """
        bias = padding_bias(mask, self._dtype)
        x = embed(self.student, ids, types, self._dtype)
        features, maps = [feature_loss(x, hidden[0], mask, self._variances[0])], []
        for number, layer in enumerate(self._blocks):
            x = torch.where(own_rows[:, None, None], x.detach(), hidden[number])
            x, scores = run_block(layer, x, bias, self._heads)
            features.append(feature_loss(x, hidden[number + 1], mask, self._variances[number + 1]))
            maps.append(attention_loss(scores, attention[number], mask))
        return torch.stack(features), torch.stack(maps)

    def whole(
        self,
        ids: Tensor,
        types: Tensor,
        mask: Tensor,
        hidden: Sequence[Tensor] | None,
        attention: Sequence[Tensor],
        logits: Tensor,
        spans: Tensor,
        gate: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sums of the feature and attention losses (0 without the teacher's), logit loss, label loss.

        gate: the part of the gradient, 0 to 1, that goes from a block to the one before it.
        """
        bias = padding_bias(mask, self._dtype)
        x = embed(self.student, ids, types, self._dtype)
        states, scores = [x], []
        for layer in self._blocks:
            fixed = x.detach()
            x, score = run_block(layer, fixed + gate * (x - fixed), bias, self._heads)
            states.append(x)
            scores.append(score)
        features = maps = torch.zeros((), device=x.device)
        for own, teacher, variance in zip(states, hidden or (), self._variances, strict=False):
            features = features + feature_loss(own, teacher, mask, variance)
        for own, teacher in zip(scores, attention, strict=False):
            maps = maps + attention_loss(own, teacher, mask)
        own = dense(x, self.student.qa_outputs).float()
        logit, label = logit_loss(own, logits, mask, self._temperature), label_loss(own, spans, mask)
        return features, maps, logit, label

    @torch.no_grad()
    def predict(self, ids: Tensor, types: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """-> logits [B, S, 2], and the largest magnitude of each hidden state, padding left out."""
        bias = padding_bias(mask, self._dtype)
        x = embed(self.student, ids, types, self._dtype)
        peaks = [(x.abs().amax(-1) * mask).max()]
        for layer in self._blocks:
            x, _ = run_block(layer, x, bias, self._heads)
            peaks.append((x.abs().amax(-1) * mask).max())
        return dense(x, self.student.qa_outputs).float(), torch.stack(peaks).float()


@torch.no_grad()
def forward_gap(student: MobileBertForQuestionAnswering, ids: Tensor, types: Tensor, mask: Tensor) -> float:
    """Largest difference of a logit between this file's forward pass and transformers', in float32."""
    own, _ = Distiller(student, torch.ones(0), torch.float32, 1.0).predict(ids, types, mask)
    theirs = student.eval()(input_ids=ids, token_type_ids=types, attention_mask=mask.long())
    gap = own - torch.stack([theirs.start_logits, theirs.end_logits], -1)
    return float((gap * mask[:, :, None]).abs().max())


@torch.no_grad()
def initialise(
    student: MobileBertForQuestionAnswering,
    bert: BertForQuestionAnswering,
    token_counts: Tensor,
    batches: Sequence[tuple[Tensor, Tensor, Tensor, Sequence[Tensor]]],
    seed: int,
) -> Tensor:
    """Start the student at the teacher; returns the variance of each of the teacher's hidden states.

    token_counts: [vocab], how often training reads a token: principal components keep what is read.
    batches: (ids, types, mask, the teacher's hidden states in float32), for the least-squares fits.
    """
    generator = torch.Generator().manual_seed(seed)
    _initialise_embeddings(student.mobilebert.embeddings, bert.bert.embeddings, token_counts, generator)
    hidden = [
        torch.cat([states[number][mask] for _, _, mask, states in batches])
        for number in range(len(batches[0][3]))
    ]
    own = torch.cat([embed(student, ids, types, torch.float32)[mask] for ids, types, mask, _ in batches])
    _fit_channels(student.mobilebert.embeddings.LayerNorm, own, hidden[0])
    for layer, x, y in zip(student.mobilebert.encoder.layer, hidden[:-1], hidden[1:], strict=True):
        _initialise_block(layer, x, y, generator)
    student.qa_outputs.weight.copy_(bert.qa_outputs.weight)
    student.qa_outputs.bias.copy_(bert.qa_outputs.bias)
    return torch.stack([x.var(0, unbiased=False).mean() for x in hidden])


def _initialise_embeddings(own: nn.Module, source: nn.Module, token_counts: Tensor, generator) -> None:
    """The teacher's tables, that of words by principal components; neighbours are hardly read yet."""
    width = own.word_embeddings.embedding_dim
    table = source.word_embeddings.weight
    weight = (token_counts.float() + 1).sqrt()[:, None]
    mean = (table * weight).sum(0) / weight.sum()
    weighted = (table - mean) * weight.sqrt()
    directions = torch.linalg.svd(weighted.T @ weighted)[2][:width]
    coordinates = (table - mean) @ directions.T
    scale = WORD_SIZE / coordinates.square().mean().sqrt()
    own.word_embeddings.weight.copy_(coordinates * scale)
    # [PAD] says nothing to its neighbour, so results do not depend on padding; padding_idx keeps it zero.
    own.word_embeddings.weight[PAD_ID] = 0
    own.embedding_transformation.weight.normal_(0, 1e-3, generator=generator)
    own.embedding_transformation.weight[:, width : 2 * width] = directions.T / scale
    own.embedding_transformation.bias.zero_()
    own.position_embeddings.weight.copy_(source.position_embeddings.weight + mean)
    own.token_type_embeddings.weight.copy_(source.token_type_embeddings.weight)


def _initialise_block(layer: nn.Module, x: Tensor, y: Tensor, generator) -> None:
    """x, y [tokens, C]: the teacher's hidden states before and after its layer."""
    size = layer.bottleneck.input.dense.out_features
    _, values, axes = torch.linalg.svd((x - x.mean(0)).T @ (x - x.mean(0)) / len(x))
    # Principal components at a mean variance of 1, rotated so that no channel outshines the others.
    rotation = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    basis = rotation @ axes[:size] / values[:size].mean().sqrt()
    for bottleneck in (layer.bottleneck.input, layer.bottleneck.attention):
        bottleneck.dense.weight.copy_(basis)
        bottleneck.dense.bias.copy_(-basis @ x.mean(0))
    for name, module in layer.named_modules():
        if isinstance(module, nn.Linear) and "bottleneck" not in name:
            std = module.in_features**-0.5
            if name.endswith("output.dense"):
                std *= 0.5  # the ends of residual branches
            elif name.endswith("self.value"):
                std /= float(x.square().mean().sqrt())  # it reads x itself, not a bottleneck
            module.weight.normal_(0, std, generator=generator)
            module.bias.zero_()
    # Nearly nothing is added at first: the block is a fit of every channel, and learns from there.
    layer.output.bottleneck.dense.weight.normal_(0, 1e-3, generator=generator)
    layer.output.bottleneck.dense.bias.zero_()
    _fit_channels(layer.output.bottleneck.LayerNorm, x, y)


def _fit_channels(norm: nn.Module, x: Tensor, y: Tensor) -> None:
    """Least squares y ~ gamma * x + beta, channel by channel; x, y [tokens, C]."""
    dx, dy = x - x.mean(0), y - y.mean(0)
    gamma = (dx * dy).sum(0) / dx.square().sum(0)
    norm.weight.copy_(gamma)
    norm.bias.copy_(y.mean(0) - gamma * x.mean(0))
