"""Predicts the peak memory of a training step per process, by part. This module does not import torch.

The peak is the largest of a few moments: the loss, the backward pass of the last layer, of the first layer and of the
embedding, and the update. Memory changes evenly between these moments. What a layer keeps for the backward pass is
counted from the tensors that the code saves: on a GPU the plain modules of decoder.py, compiled or not, and on a CPU
the hand-written halves of fused.py. `benchmarks/memory/plan.py` compares predictions with measured peaks.

Shapes: N tokens of a micro-batch, D hidden, H query heads, K key/value heads, C head dim, F ffn, V vocab.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from thinkling.model.config import LoraConfig, ModelConfig
from thinkling.train.config import Dtype, PrecisionConfig, Recompute

Part = Literal["weights", "copies", "gradients", "optimizer", "activations", "loss", "update", "other"]
Moment = dict[Part, float]
"""Bytes of each part at a moment of a step."""

GIB = 2**30
BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2}
LONGEST_SHORT, QUERY_BLOCK = 512, 64
"""As in attention_cpu.py: up to this length, attention on a CPU saves its probabilities, block by block."""
CPU_CHUNK, CUDA_CHUNK, CUDA_FP32_CHUNK, SMALLEST_CHUNK = 2**22, 700_000_000, 2**27, 64
"""Logits per chunk of the losses (model/loss.py), and the smallest number of tokens per chunk."""
OFFLOAD_PARAMETERS = 3 * 2**24
"""Parameters whose state has room in the buffers of train/offload.py."""


@dataclass(frozen=True)
class Batch:
    """The largest micro-batch of a process."""

    rows: int
    length: int
    """Number of tokens per row, of which each is taken to be one document."""
    micro_batches: int = 1
    """Number of micro-batches per update."""
    field: Literal["micro_batch_size", "micro_tokens"] | None = "micro_batch_size"
    """Field of the stage that sets the number of rows or, for a single row, its length."""
    rows_per_item: int = 1
    """Number of rows per unit of `micro_batch_size`."""
    least: int = 1
    """Smallest value of `field` that has an effect."""

    @classmethod
    def of(cls, items: int, size: int | None, length: int, rows_per_item: int = 1) -> Batch:
        """Returns the batch of a process that divides `items` per update into micro-batches of `size`, by default into
        a single one."""
        size = min(size or items, items)
        return cls(size * rows_per_item, length, -(-items // size), rows_per_item=rows_per_item)

    @property
    def items(self) -> int:
        """Value of `field`."""
        return self.length if self.field == "micro_tokens" else self.rows // self.rows_per_item

    def with_items(self, items: int, micro_batches: int) -> Batch:
        """Returns the batch with another value of `field`."""
        if self.field == "micro_tokens":
            return replace(self, length=items, micro_batches=micro_batches)
        return replace(self, rows=items * self.rows_per_item, micro_batches=micro_batches)

    @property
    def tokens(self) -> int:
        return self.rows * self.length


@dataclass(frozen=True)
class Training:
    """Everything on which the memory of a training step depends."""

    model: ModelConfig
    batch: Batch
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    optimizer: Literal["adamw", "muon"] = "adamw"
    recompute: Recompute = "none"
    compiled: bool = False
    lora: LoraConfig | None = None
    ranks: int = 1
    """Number of processes over which weights, gradients and optimizer state are sharded."""
    on_gpu: bool = True
    loss: Literal["next_token", "log_probs"] = "next_token"
    averaged: bool = False
    """Whether the mean of the weights is kept, in fp32."""
    frozen_bytes: int = 0
    """Weights of other models on the device, such as a teacher."""
    offload: bool = False
    """Whether the optimizer state is in the memory of the host, which is not counted if there is a GPU."""

    @property
    def compute_bytes(self) -> int:
        return BYTES[self.precision.compute]

    @property
    def weight_bytes(self) -> int:
        return BYTES[self.precision.weights]

    @property
    def trained(self) -> int:
        """Number of trained parameters."""
        return self.model.parameter_count() if self.lora is None else self.lora.parameter_count(self.model)

    @property
    def sums_gradients(self) -> bool:
        """Whether gradients of several micro-batches are summed in fp32, apart from those of a micro-batch."""
        return self.lora is None and self.precision.weights == "bfloat16" and self.batch.micro_batches > 1

    @property
    def by_halves(self) -> bool:
        """Whether layers run as the hand-written halves of fused.py."""
        features = self.model.features.used() - {
            "head_norms", "fused_projections", "layer_kinds", "embedding_scale", "logit_scale", "logit_softcap",
            "rotary",
        }  # fmt: skip
        return not self.on_gpu and self.compute_bytes == 4 and self.lora is None and not features


@dataclass(frozen=True)
class Memory:
    """The predicted peak of a training step, in bytes per process."""

    parts: Moment
    """Parts at the moment of the peak."""
    moment: str
    """The moment of the peak: loss, last layer, first layer, embedding or update."""

    @property
    def peak(self) -> float:
        return sum(self.parts.values())


def predict(training: Training) -> Memory:
    """Returns the largest moment of a step."""
    found = _moments(training)
    moment = max(found, key=lambda name: sum(found[name].values()))
    return Memory({part: size for part, size in found[moment].items() if size}, moment)


def _moments(t: Training) -> dict[str, Moment]:
    constant = _constant(t)
    kept, layer = kept_per_layer(t), t.model.num_hidden_layers
    ends, inputs = _ends(t), _inputs(t)
    recomputed = 0.0 if t.recompute == "none" else _kept(t) - (kept - _input(t))
    working = recomputed + _backward(t)
    grads, per_gradient = _gradients(t), _gradient_bytes(t)
    head = per_gradient * _matrix(t) if t.lora is None else 0.0
    stored = t.trained * per_gradient / t.ranks
    before = stored if t.batch.micro_batches > 1 and not t.sums_gradients else 0.0
    embedding = head if t.model.tie_word_embeddings else 0.0

    def moment(activations: float, gradients: float, loss: float = 0.0, update: float = 0.0) -> Moment:
        sums = 4 * t.trained / t.ranks if t.sums_gradients else 0.0
        found: Moment = {"activations": inputs + activations, "gradients": max(gradients, before) + sums}
        return {**constant, **found, "loss": loss, "update": update}

    return {
        "loss": moment(kept * layer + ends, 0.0, loss=_loss(t)),
        "last layer": moment(kept * layer + working, before + head),
        "first layer": moment(kept + working, grads - _not_yet(t)),
        "embedding": moment(0.0, grads, loss=embedding),
        "update": moment(0.0, 0.0 if t.sums_gradients else stored, update=_update(t)),
    }


def _constant(t: Training) -> Moment:
    """Parts that exist during the whole step."""
    total, adapters = t.model.parameter_count(), t.trained if t.lora is not None else 0
    copied = total * (t.weight_bytes != t.compute_bytes) + adapters * (t.compute_bytes != 4)
    if t.ranks > 1:  # FSDP2 gathers two layers at a time, and keeps the embedding and the head
        ends = (total + adapters) - t.model.num_hidden_layers * _layer_parameters(t)
        copied = ends + min(2, t.model.num_hidden_layers) * _layer_parameters(t)
    state_bytes = BYTES["float32"] if t.lora is not None else t.weight_bytes
    state = t.trained * 2 * state_bytes
    if t.optimizer == "muon":
        state -= t.model.num_hidden_layers * sum(a * b for a, b in t.model.linear_layers().values()) * t.weight_bytes
    optimizer = (state + (4 * total if t.averaged else 0)) / t.ranks
    if t.offload:
        optimizer += OFFLOAD_PARAMETERS * 2 * state_bytes - (state / t.ranks if t.on_gpu else 0.0)
    return {
        "weights": (total * t.weight_bytes + 4 * adapters) / t.ranks,
        "copies": copied * t.compute_bytes,
        "optimizer": optimizer,
        "other": t.frozen_bytes,
    }


def _layer_parameters(t: Training) -> float:
    ends = (1 if t.model.tie_word_embeddings else 2) * _matrix(t) + t.model.hidden_size
    adapters = t.trained if t.lora is not None else 0
    return (t.model.parameter_count() - ends + adapters) / t.model.num_hidden_layers


def _matrix(t: Training) -> int:
    """Number of parameters of the head, and of the embedding."""
    return t.model.known_vocab_size * t.model.hidden_size


def _gradient_bytes(t: Training) -> int:
    return 4 if t.lora is not None else t.weight_bytes


def _gradients(t: Training) -> float:
    """Gradients of one micro-batch. Sharded layers are reduced in fp32, one after another."""
    sharded = t.trained * _gradient_bytes(t) / t.ranks
    if t.ranks == 1:
        return sharded
    ends = 0.0 if t.lora is not None else (1 if t.model.tie_word_embeddings else 2) * _matrix(t)
    return sharded + max(ends, _layer_parameters(t) * t.trained / t.model.parameter_count()) * (t.compute_bytes + 4)


def _inputs(t: Training) -> float:
    """Tokens, labels, positions and indices (int64), and the tables of the rotary embedding (on a CPU also as complex
    numbers)."""
    kinds = len({kind.rotary for kind in t.model.features.layer_kinds}) or 1
    return t.batch.tokens * (32 + (12 if t.by_halves else 4) * t.model.head_dim * kinds)


def _input(t: Training) -> float:
    """The input of a layer."""
    return t.batch.tokens * t.model.hidden_size * t.compute_bytes


def kept_per_layer(t: Training) -> float:
    """Returns the bytes that each layer keeps for the backward pass, with `recompute` as it is set."""
    if t.recompute == "none":
        return _kept(t)
    attention = t.batch.tokens * (t.model.num_attention_heads * (t.model.head_dim * t.compute_bytes + 4))
    return _input(t) + (attention if t.recompute == "selective" and t.on_gpu else 0.0)


def _kept(t: Training) -> float:
    """Bytes that a layer keeps without recomputation."""
    m, n, c = t.model, t.batch.tokens, t.compute_bytes
    d, f = m.hidden_size, m.intermediate_size
    q, kv = m.num_attention_heads * m.head_dim, m.num_key_value_heads * m.head_dim
    qk_norm = (q + kv) if m.features.head_norms or m.features.row_norms else 0
    if t.by_halves:
        heads = (m.num_attention_heads + m.num_key_value_heads) * (m.head_dim + 1) if qk_norm else 0
        copies = (q + 2 * kv) * d + 2 * f * d  # of the weights, in another order
        return 4 * (n * (2 * d + 2 + q + 2 * kv + q + 4 * f + heads) + copies) + _cpu_attention(t)
    from_attention = _combined(t, "q_proj", (q, kv, kv))
    copies = c * d * ((q + 2 * kv) * from_attention + 2 * f * _combined(t, "gate_proj", (f, f)))
    width = _inputs_of_linears(t) + (2 if t.compiled else 3) * f + (0 if t.compiled else qk_norm)
    norms = len(m.features.norms.present()) * (12 if c == 2 and not t.on_gpu else c) * d
    if not t.on_gpu:
        return n * (width * c + norms + 4 * (q + 2 * kv)) + copies + _cpu_attention(t)
    values = q + 2 * kv if from_attention and not t.compiled else kv  # a view keeps the whole product
    statistics = m.num_attention_heads + len(m.features.norms.present())
    attention = q + kv + values + (0 if _adapted(t, "o_proj") else q)
    return n * ((width + attention) * c + norms + 4 * statistics) + copies


def _adapted(t: Training, name: str) -> bool:
    """Whether a linear layer trains its weight or an adapter, so that its input is kept."""
    return t.lora is None or name in t.lora.layers_of(t.model)


def _combined(t: Training, name: str, sizes: tuple[int, ...]) -> bool:
    """Whether the projections that start with this one are one product, for which the weights are copied."""
    if t.model.features.fused_projections or (t.lora is not None and _adapted(t, name)):
        return False
    return not t.on_gpu or t.batch.tokens * (len(sizes) - 1) > 2 * sum(sizes)


def _inputs_of_linears(t: Training) -> float:
    """Numbers per token that the linear layers keep as their inputs."""
    m, rank = t.model, t.lora.rank if t.lora is not None else 0
    names = set(m.linear_layers()) if t.lora is None else set(t.lora.layers_of(m))
    attention = m.hidden_size * bool(names & {"q_proj", "k_proj", "v_proj", "qkv_proj"})
    mlp = m.hidden_size * bool(names & {"gate_proj", "up_proj", "gate_up_proj"})
    outputs = m.num_attention_heads * m.head_dim * ("o_proj" in names) + m.intermediate_size * ("down_proj" in names)
    return attention + mlp + outputs + rank * len(names)


def _cpu_attention(t: Training) -> float:
    """What attention keeps on a CPU, in fp32: probabilities of short rows; output and log-sum-exp of long ones."""
    m, n, length = t.model, t.batch.tokens, t.batch.length
    if length > LONGEST_SHORT:
        return 4 * n * m.num_attention_heads * (m.head_dim + 1)
    starts = range(0, length, QUERY_BLOCK)
    seen = sum(min(QUERY_BLOCK, length - start) * min(start + QUERY_BLOCK, length) for start in starts)
    return 4 * t.batch.rows * m.num_attention_heads * seen


def _backward(t: Training) -> float:
    """Working memory of the backward pass of a layer, most of which is in the MLP."""
    d, f, n = t.model.hidden_size, t.model.intermediate_size, t.batch.tokens
    if t.by_halves:
        return 4 * (n * (3 * f + 4 * d) + 3 * f * d)
    return t.compute_bytes * n * ((3 if t.compiled else 2) * f + d)


def _not_yet(t: Training) -> float:
    """Gradients that do not exist yet when the backward pass reaches the MLP of the first layer: that of the embedding,
    if it is not the head, and those of the layer, which the hand-written halves count as working memory."""
    embedding = 0 if t.model.tie_word_embeddings or t.lora is not None else _matrix(t)
    layer = _layer_parameters(t) if t.by_halves else 0.0
    return _gradient_bytes(t) * (embedding + layer) / t.ranks


def _ends(t: Training) -> float:
    """Final norm: its input and its output."""
    return 2 * _input(t)


def _loss(t: Training) -> float:
    """Memory of the loss: gradients of the hidden states and of the head (in fp32), and the logits of a chunk."""
    n, v, c = t.batch.tokens, t.model.known_vocab_size, t.compute_bytes
    head = 0 if t.lora is not None else _matrix(t)
    in_fp32 = t.loss == "log_probs" or t.model.features.logit_softcap is not None
    if not t.on_gpu:
        chunk = max(SMALLEST_CHUNK, CPU_CHUNK // v)
        logits = 4 * (n if n <= chunk else 2 * chunk) * v  # the last chunk exists until the next one is computed
    elif in_fp32:
        logits = (4 + 2 * c) * min(n, max(SMALLEST_CHUNK, CUDA_FP32_CHUNK // v)) * v
    else:
        chunks = math.ceil(n / max(SMALLEST_CHUNK, CUDA_CHUNK // v))
        logits = (2 if chunks == 1 else 3) * c * math.ceil(n / chunks) * v
    scaled = head * (4 if c == 4 else 4 + c)  # in the backward pass, when there are no logits
    return _input(t) + 4 * head + max(logits, scaled + _input(t) - _ends(t) / 2)


def _update(t: Training) -> float:
    """Working memory of the update."""
    if t.optimizer == "muon":
        sizes: dict[tuple[int, int], int] = {}
        for shape in ((b, a) for a, b in t.model.linear_layers().values()):
            sizes[shape] = sizes.get(shape, 0) + shape[0] * shape[1] * t.model.num_hidden_layers
        return (10 if t.on_gpu else 16) * max(sizes.values())
    if t.precision.weights == "bfloat16" and not t.on_gpu and t.lora is None:
        return 40 * max(_matrix(t), t.model.hidden_size * t.model.intermediate_size)
    return 0.0
