"""The acoustic model: (samples, state) -> (log-posteriors, state)."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Self, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from speechgru.errors import DataError, UsageError
from speechgru.labels import UNKNOWN, Head, Outputs, Spelling, Units, Vocabulary
from speechgru.model.attention_decoder import Speller
from speechgru.model.cells import GATED, Bidirectional, Cell, CellName, LockedDropout, make_cell
from speechgru.model.cells.pooling import AttentionPooling
from speechgru.model.features import FeatureConfig, Features
from speechgru.model.fronts import FRAMES_PER_STEP, ConvFront, FrontName, StackFront
from speechgru.model.row_threads import by_rows

#: What a stream carries from chunk to chunk: named tensors of fixed shape, batch first.
State = dict[str, Tensor]


class ModelConfig(BaseModel):
    """The network's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: "stack": frames in pairs; "conv": causal convolutions over frames and bands, half the rate.
    front: FrontName = "stack"
    #: Channels of the convolutions; each halves the bands, the first one also the rate.
    front_channels: tuple[int, ...] = (16, 32)
    #: Frames and bands that a convolution spans.
    front_kernel: int = Field(5, ge=2, le=15)
    cell: CellName = "gru"
    #: Added at first to the bias of the gate that keeps the state; an LSTM's begins at 1 plus this.
    keep_bias: float = Field(0.0, ge=-5.0, le=5.0)
    #: Steps that a layer of the Transformer sees, its own included.
    context_steps: int = Field(50, ge=2, le=1000)
    layers: int = Field(2, ge=1, le=16)
    hidden: int = Field(128, ge=1, le=4096)
    #: Layer normalisation before each recurrent layer and before the head.
    layer_norm: bool = True
    #: A recurrent layer's input is added to its output.
    residual: bool = True
    #: Share of features that are dropped between layers in training.
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    #: "locked": the same features at every step of a sequence (Gal and Ghahramani, 2016); "step":
    #: others at each step (Zaremba et al., 2014).
    dropout_mask: Literal["locked", "step"] = "locked"
    #: Each layer also hears the clip from its end. Such a model needs whole clips.
    bidirectional: bool = False
    #: "last": every step has its answer; "attention": one answer for a whole clip, from a weighted
    #: mean of its steps. Such a model needs whole clips.
    pooling: Literal["last", "attention"] = "last"
    #: "classify": a label for each step; "ctc": the words as they are said, with blanks between
    #: them (Graves et al., 2006). Of two heads on one encoder the first is the one that is listened
    #: to. `head = "ctc"` is short for `heads = ["ctc"]`.
    heads: tuple[Head, ...] = ("classify",)
    #: What a CTC head writes: a token a word, or its characters.
    ctc_units: Units = "words"
    #: Beside a CTC head, a decoder with attention, for the same tokens of whole utterances: what
    #: `evaluate --sequences` compares CTC with. A stream does not use it.
    attention_decoder: bool = False

    @model_validator(mode="before")
    @classmethod
    def _one_head(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "head" not in values:
            return values
        if "heads" in values:
            raise ValueError("head and heads: only one of them")
        return {
            ("heads" if k == "head" else k): [v] if k == "head" else v for k, v in values.items()
        }

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.heads or len(set(self.heads)) < len(self.heads):
            raise ValueError(f"heads {list(self.heads)} must name at least one head, each once")
        if self.front == "conv" and len(self.front_channels) < 2:
            raise ValueError(
                f"front_channels {list(self.front_channels)} must hold at least two convolutions"
            )
        if any(channels < 1 for channels in self.front_channels):
            raise ValueError(f"front_channels {list(self.front_channels)} must be positive")
        if self.pooling == "attention" and "ctc" in self.heads:
            raise ValueError('pooling "attention" has one answer for a clip; a CTC head needs many')
        if self.attention_decoder and "ctc" not in self.heads:
            raise ValueError("attention_decoder: stands beside a CTC head, and there is none")
        if self.keep_bias and self.cell not in GATED:
            raise ValueError(f"keep_bias {self.keep_bias:g}: cell {self.cell!r} has no such gate")
        return self

    @property
    def whole_clips(self) -> tuple[str, ...]:
        """The settings by which a model needs whole clips, and cannot be a stream."""
        found = {"bidirectional = true": self.bidirectional}
        found['pooling = "attention"'] = self.pooling == "attention"
        return tuple(name for name, needed in found.items() if needed)


class SpeechGRU(nn.Module):
    """Features, their normalisation, a front, recurrent layers and heads, as one function.

    `labels` are what it can answer. The V columns of the log-posteriors are `outputs`: of a
    classify head the labels, of a CTC head its tokens; with both, those of one beside the other's.
    `unknown_words` are words that a classify head tells apart in training and that all count as
    `_unknown_` in the log-posteriors.

    Args:
        metadata: provenance, protocol, figures; kept in the model's file.

    Raises:
        DataError: there are unknown words, but no label for them, or no classify head.
    """

    def __init__(
        self,
        config: ModelConfig,
        features: FeatureConfig,
        labels: Sequence[str],
        unknown_words: Sequence[str] = (),
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = Vocabulary(tuple(labels))
        self.unknown_words = tuple(unknown_words)
        if self.unknown_words and UNKNOWN not in self.vocabulary:
            raise DataError(f"unknown words need the label {UNKNOWN} among {list(labels)}")
        if self.unknown_words and "classify" not in config.heads:
            raise DataError("unknown words are told apart by a classify head only")
        self.spelling = Spelling.of(self.labels, config.ctc_units)
        self.outputs: Outputs = {
            head: self.labels if head == "classify" else self.spelling.tokens
            for head in config.heads
        }
        self.metadata = dict(metadata or {})
        self.features = Features(features)
        self.log_prior: Tensor
        self.register_buffer("log_prior", torch.zeros(len(self.vocabulary)))
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(features.size))
        self.register_buffer("deviation", torch.ones(features.size))
        self.front: ConvFront | StackFront = (
            ConvFront(features.size, config.front_channels, config.front_kernel)
            if config.front == "conv"
            else StackFront(features.size)
        )
        self.project = nn.Linear(self.front.size, config.hidden)
        self.layers = nn.ModuleList(make_layer(config) for _ in range(config.layers))
        self.norms = nn.ModuleList(
            nn.LayerNorm(config.hidden) if config.layer_norm else nn.Identity()
            for _ in range(config.layers + 1)
        )
        dropout = LockedDropout if config.dropout_mask == "locked" else nn.Dropout
        self.dropout = dropout(config.dropout)
        self.pooling = AttentionPooling(config.hidden) if config.pooling == "attention" else None
        self.head = nn.Linear(config.hidden, sum(self.head_widths.values()))
        self.speller = (
            Speller(config.hidden, len(self.spelling.tokens)) if config.attention_decoder else None
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model can answer; a classify head's columns are in their order."""
        return self.vocabulary.labels

    @property
    def head_widths(self) -> dict[Head, int]:
        """Columns of each head in training, where the unknown words have their own."""
        more: dict[Head, int] = {"classify": len(self.unknown_words)}
        return {head: len(labels) + more.get(head, 0) for head, labels in self.outputs.items()}

    @property
    def sample_rate(self) -> int:
        """Hertz of the samples that the model takes."""
        return self.features.config.sample_rate

    @property
    def step_samples(self) -> int:
        """Samples from one output to the next."""
        return self.features.config.hop_samples * FRAMES_PER_STEP

    @property
    def cells(self) -> list[Cell]:
        """The recurrent layers."""
        return cast("list[Cell]", list(self.layers))

    def check_streams(self) -> None:
        """See that the model can be listened to while the sound goes on.

        Raises:
            UsageError: it needs whole clips.
        """
        if self.config.whole_clips:
            raise UsageError(
                f"the model needs whole clips (model.{' and model.'.join(self.config.whole_clips)})"
                ", so it has no stream and no state to carry: it can evaluate and recognize clips"
            )

    def steps(self, duration_s: float) -> int:
        """Whole steps in a duration, to the nearest and at least one."""
        return max(1, round(duration_s * self.sample_rate / self.step_samples))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    @property
    def parameter_count(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def multiply_adds(self) -> int:
        """Multiplications by weights that one step of a stream takes, without its features."""
        others = [self.project, self.head, *([self.pooling] if self.pooling is not None else [])]
        linear = sum(p.numel() for part in others for p in part.parameters() if p.ndim >= 2)
        return linear + self.front.multiply_adds + sum(cell.multiply_adds for cell in self.cells)

    def initial_state(self, batch_size: int = 1) -> State:
        """The state at a recording's start: zeros, as after silence; (B, ...) each."""
        shapes: dict[str, tuple[int, ...]] = {"samples": (self.features.config.context_samples,)}
        shapes |= self.front.state_sizes
        shapes |= {f"layer{i}": layer.state_size for i, layer in enumerate(self.cells)}
        return {name: self.mean.new_zeros(batch_size, *shape) for name, shape in shapes.items()}

    def forward(self, samples: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Log-posteriors of whole steps: (B, S) -> (B, T, V), T = S // step_samples; and state.

        Whole or in chunks of whole steps, the answer is the same. Samples after the last whole step
        are not looked at and are not in the state.
        """
        state = self.initial_state(len(samples)) if state is None else state
        if samples.shape[-1] < self.step_samples:  # no convolution takes an empty sequence
            columns = sum(map(len, self.outputs.values()))
            return samples.new_zeros(len(samples), 0, columns), state
        features, context = self.extract(samples, state["samples"])
        log_posteriors, state = self.encode(features, state)
        return self.fold(log_posteriors), state | {"samples": context}

    def extract(self, samples: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised features: (B, S), (B, window - hop) -> (B, FRAMES_PER_STEP T, F), context."""
        steps, size = samples.shape[-1] // self.step_samples, context.shape[1]
        samples = samples[:, : steps * self.step_samples]
        edge = torch.cat([context, samples[:, -size:]], dim=1)
        normalised = self._normalised
        if not samples.requires_grad:
            normalised = partial(by_rows, normalised)
        return normalised(samples, context), edge[:, edge.shape[1] - size :]

    def _normalised(self, samples: Tensor, context: Tensor) -> Tensor:
        return (self.features(torch.cat([context, samples], dim=1)) - self.mean) / self.deviation

    def encode(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, FRAMES_PER_STEP T, F) -> log-posteriors (B, T, V + unknown words), and state.

        Each head's columns are log-posteriors of their own: their exponentials sum to 1.
        """
        heard, new_state = self.hear(features, state)
        return self.answer(heard), new_state

    def hear(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """What the heads see: (B, FRAMES_PER_STEP T, F) -> (B, T, H), and state."""
        x, new_state = self.front(features, state)
        x = self.project(x)  # (B, T, H)
        for i, layer in enumerate(self.layers):
            y, new_state[f"layer{i}"] = layer(self.dropout(self.norms[i](x)), state[f"layer{i}"])
            x = x + y if self.config.residual else y
        x = self.norms[-1](x)
        if self.pooling is not None:
            x = self.pooling(x).unsqueeze(1).expand_as(x)
        return self.dropout(x), new_state

    def answer(self, heard: Tensor) -> Tensor:
        """The heads' log-posteriors: (B, T, H) -> (B, T, V + unknown words)."""
        heads = self.split_heads(self.head(heard).float()).values()
        return torch.cat([torch.log_softmax(head, dim=-1) for head in heads], dim=-1)

    def split_heads(self, columns: Tensor) -> dict[Head, Tensor]:
        """Each head's columns of what `encode` gives: views, (..., width of the head)."""
        widths = self.head_widths
        return dict(zip(widths, columns.split(list(widths.values()), dim=-1), strict=True))

    def fold(self, log_posteriors: Tensor) -> Tensor:
        """What `encode` gives with the classify head's columns those of its labels: (..., V)."""
        heads = self.split_heads(log_posteriors)
        if "classify" in heads:
            heads["classify"] = self._fold_labels(heads["classify"])
        return torch.cat(list(heads.values()), dim=-1)

    def _fold_labels(self, log_posteriors: Tensor) -> Tensor:
        """Posteriors of the labels, as if all were equally likely: (..., V + U) -> (..., V).

        The unknown words' posteriors are added to that of `_unknown_`, and what the labels' shares
        in training (`log_prior`) put into them is taken out again.
        """
        return torch.log_softmax(self.add_up_unknown(log_posteriors) - self.log_prior, dim=-1)

    def add_up_unknown(self, log_posteriors: Tensor) -> Tensor:
        """Posteriors of the labels, the unknown words' in `_unknown_`: (..., V + U) -> (..., V)."""
        if not self.unknown_words:
            return log_posteriors
        labels, words = log_posteriors.split([len(self.labels), len(self.unknown_words)], dim=-1)
        unknown = self.vocabulary.id(UNKNOWN)
        column = torch.cat([labels[..., unknown : unknown + 1], words], dim=-1)
        total = torch.logsumexp(column, dim=-1, keepdim=True)
        return torch.cat([labels[..., :unknown], total, labels[..., unknown + 1 :]], dim=-1)

    def set_prior(self, shares: Tensor) -> None:
        """Tell how often each label was asked for in training: (V,), sum 1.

        One that never was is left as improbable as training left it.
        """
        excess = shares.log() + math.log(len(self.vocabulary))
        self.log_prior.copy_(torch.where(shares > 0, excess, 0.0))

    def set_normalisation(self, features: Tensor) -> None:
        """Fix the mean and deviation of each feature from raw training features (..., F)."""
        flat = features.reshape(-1, features.shape[-1]).double()
        self.mean.copy_(flat.mean(dim=0))
        self.deviation.copy_(flat.std(dim=0).clamp_min(1e-3))


def make_layer(config: ModelConfig) -> Cell:
    """A recurrent layer as the configuration has it."""

    def one() -> Cell:
        width = config.hidden
        return make_cell(config.cell, width, width, config.keep_bias, config.context_steps)

    return Bidirectional(one(), one()) if config.bidirectional else one()
