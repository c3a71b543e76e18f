"""The acoustic model: (samples, state) -> (log-posteriors, state)."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from speechgru.common.settings import Settings
from speechgru.errors import DataError, UsageError
from speechgru.labels import UNKNOWN, Head, Outputs, Spelling, Units, Vocabulary
from speechgru.model.attention_decoder import AttentionDecoder
from speechgru.model.cells import GATED, Bidirectional, Cell, CellName, make_cell
from speechgru.model.features import FeatureConfig, Features
from speechgru.model.fronts import FRAMES_PER_STEP, ConvFront, FrontName, StackFront
from speechgru.model.layers import AttentionPooling, LockedDropout
from speechgru.model.row_threads import by_rows

#: What a stream carries from chunk to chunk: named tensors of fixed shape, batch first.
State = dict[str, Tensor]


class ModelConfig(Settings):
    """The network's settings."""

    #: "stack": joins frames in pairs; "conv": causal convolutions over frames and bands.
    front: FrontName = "stack"
    #: Channels of the convolutions. Each halves the bands, the first one also the frame rate.
    front_channels: tuple[int, ...] = (16, 32)
    #: Frames and bands that a convolution spans.
    front_kernel: int = Field(5, ge=2, le=15)
    #: Cell of the recurrent layers, by its name in `speechgru.model.cells`.
    cell: CellName = "gru"
    #: Added to the initial bias of the gate that keeps the state; an LSTM's is 1 plus this.
    keep_bias: float = Field(0.0, ge=-5.0, le=5.0)
    #: Steps that a layer of the Transformer sees, including the current one.
    context_steps: int = Field(50, ge=2, le=1000)
    #: Recurrent layers, and the units of each.
    layers: int = Field(2, ge=1, le=16)
    hidden: int = Field(128, ge=1, le=4096)
    #: Layer normalization before each recurrent layer and before the head.
    layer_norm: bool = True
    #: Add the input of a recurrent layer to its output.
    residual: bool = True
    #: Share of features dropped between layers in training.
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    #: "locked": the same features at every step of a sequence (Gal and Ghahramani, 2016); "step":
    #: others at each step (Zaremba et al., 2014).
    dropout_mask: Literal["locked", "step"] = "locked"
    #: Each layer also runs backwards in time. Such a model needs whole clips.
    bidirectional: bool = False
    #: "last": log-posteriors for every step; "attention": for the whole clip, from a weighted mean
    #: of its steps. Such a model needs whole clips.
    pooling: Literal["last", "attention"] = "last"
    #: "classify": a label for each step; "ctc": the words in their order, with blanks between them
    #: (Graves et al., 2006). With two heads on one encoder the first is the one in use unless the
    #: model's file says otherwise. `head = "ctc"` is short for `heads = ["ctc"]`.
    heads: tuple[Head, ...] = ("classify",)
    #: Tokens of a CTC head: one for each word, or one for each character.
    ctc_units: Units = "words"
    #: Besides a CTC head, an attention decoder for the same tokens of whole utterances, which
    #: `evaluate --sequences` compares with CTC. Streams do not use it.
    attention_decoder: bool = False

    @model_validator(mode="before")
    @classmethod
    def _one_head(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "head" not in values:
            return values
        if "heads" in values:
            raise ValueError("head and heads: only one of them can be given")
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
            raise ValueError('pooling "attention" has one output per clip, a CTC head one per step')
        if self.attention_decoder and "ctc" not in self.heads:
            raise ValueError('attention_decoder: needs a CTC head; add "ctc" to heads')
        if self.keep_bias and self.cell not in GATED:
            raise ValueError(f"keep_bias {self.keep_bias:g}: cell {self.cell!r} has no such gate")
        return self

    @property
    def whole_clips(self) -> tuple[str, ...]:
        """The settings because of which the model needs whole clips and cannot run on a stream."""
        found = {"bidirectional = true": self.bidirectional}
        found['pooling = "attention"'] = self.pooling == "attention"
        return tuple(name for name, needed in found.items() if needed)


class SpeechGRU(nn.Module):
    """Features, their normalization, a front, recurrent layers and heads, as one function.

    The V columns of the log-posteriors are described by `outputs`: for a classify head the labels,
    for a CTC head its tokens; with two heads, the columns of both, side by side.

    Args:
        labels: what the model can answer.
        unknown_words: words that a classify head tells apart in training, and that all count as
            `_unknown_` in the log-posteriors.
        metadata: provenance, protocol, metrics; stored in the model's file.

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
            raise DataError("unknown words need a classify head, which the model does not have")
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
            AttentionDecoder(config.hidden, len(self.spelling.tokens))
            if config.attention_decoder
            else None
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model can answer, in the order of a classify head's columns."""
        return self.vocabulary.labels

    @property
    def column_names(self) -> dict[Head, tuple[str, ...]]:
        """What each head's columns stand for in training, where every unknown word has its own."""
        extra: Outputs = {"classify": self.unknown_words}
        return {head: (*names, *extra.get(head, ())) for head, names in self.outputs.items()}

    @property
    def head_widths(self) -> dict[Head, int]:
        """Columns of each head in training."""
        return {head: len(names) for head, names in self.column_names.items()}

    @property
    def sample_rate(self) -> int:
        """In hertz."""
        return self.features.config.sample_rate

    @property
    def step_samples(self) -> int:
        """Samples from one step to the next."""
        return self.features.config.hop_samples * FRAMES_PER_STEP

    @property
    def cells(self) -> list[Cell]:
        """The recurrent layers."""
        return [layer for layer in self.layers if isinstance(layer, Cell)]

    def check_streams(self) -> None:
        """Raise UsageError if the model needs whole clips and cannot run on a stream."""
        if self.config.whole_clips:
            raise UsageError(
                f"the model needs whole clips (model.{' and model.'.join(self.config.whole_clips)})"
                ", so it cannot run on a stream; it can evaluate and recognize clips"
            )

    def steps(self, duration_s: float) -> int:
        """Steps in a duration, rounded, at least one."""
        return max(1, round(duration_s * self.sample_rate / self.step_samples))

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return self.mean.device

    @property
    def parameter_count(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def multiply_adds(self) -> int:
        """Multiplications by weights in one step of a stream, without the features."""
        others = [self.project, self.head, *([self.pooling] if self.pooling is not None else [])]
        linear = sum(p.numel() for part in others for p in part.parameters() if p.ndim >= 2)
        return linear + self.front.multiply_adds + sum(cell.multiply_adds for cell in self.cells)

    def initial_state(self, batch_size: int = 1) -> State:
        """The state at the start of a recording: zeros, as after silence, of (B, ...) each."""
        shapes: dict[str, tuple[int, ...]] = {"samples": (self.features.config.context_samples,)}
        shapes |= self.front.state_sizes
        shapes |= {f"layer{i}": layer.state_size for i, layer in enumerate(self.cells)}
        return {name: self.mean.new_zeros(batch_size, *shape) for name, shape in shapes.items()}

    def forward(self, samples: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Log-posteriors of whole steps: (B, S) -> (B, T, V), T = S // step_samples; and state.

        A recording gives the same as a whole and in chunks of whole steps. Samples after the last
        whole step are ignored and not in the state.
        """
        state = self.initial_state(len(samples)) if state is None else state
        if samples.shape[-1] < self.step_samples:  # convolutions take no empty sequence
            columns = sum(map(len, self.outputs.values()))
            return samples.new_zeros(len(samples), 0, columns), state
        features, context = self.extract(samples, state["samples"])
        encoded, state = self.encode(features, state)
        return self.fold(self.apply_heads(encoded)), state | {"samples": context}

    def extract(self, samples: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized features: (B, S), (B, window - hop) -> (B, FRAMES_PER_STEP T, F), context."""
        steps, size = samples.shape[-1] // self.step_samples, context.shape[1]
        samples = samples[:, : steps * self.step_samples]
        edge = torch.cat([context, samples[:, -size:]], dim=1)
        normalized = self._normalized
        if not samples.requires_grad:
            normalized = partial(by_rows, normalized)
        return normalized(samples, context), edge[:, edge.shape[1] - size :]

    def _normalized(self, samples: Tensor, context: Tensor) -> Tensor:
        return (self.features(torch.cat([context, samples], dim=1)) - self.mean) / self.deviation

    def encode(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """The input of the heads: (B, FRAMES_PER_STEP T, F) -> (B, T, H), and the new state."""
        x, new_state = self.front(features, state)
        x = self.project(x)  # (B, T, H)
        for i, layer in enumerate(self.layers):
            y, new_state[f"layer{i}"] = layer(self.dropout(self.norms[i](x)), state[f"layer{i}"])
            x = x + y if self.config.residual else y
        x = self.norms[-1](x)
        if self.pooling is not None:
            x = self.pooling(x).unsqueeze(1).expand_as(x)
        return self.dropout(x), new_state

    def apply_heads(self, encoded: Tensor) -> Tensor:
        """The heads' log-posteriors: (B, T, H) -> (B, T, V + unknown words).

        Each head has log-posteriors of its own, whose exponentials sum to 1.
        """
        heads = self.split_heads(self.head(encoded).float()).values()
        return torch.cat([torch.log_softmax(head, dim=-1) for head in heads], dim=-1)

    def split_heads(self, columns: Tensor) -> dict[Head, Tensor]:
        """Each head's columns of what `apply_heads` gives: views, (..., width of the head)."""
        widths = self.head_widths
        return dict(zip(widths, columns.split(list(widths.values()), dim=-1), strict=True))

    def fold(self, log_posteriors: Tensor) -> Tensor:
        """Fold the unknown words into the labels: (..., V + unknown words) -> (..., V)."""
        heads = self.split_heads(log_posteriors)
        if "classify" in heads:
            heads["classify"] = self._fold_labels(heads["classify"])
        return torch.cat(list(heads.values()), dim=-1)

    def _fold_labels(self, log_posteriors: Tensor) -> Tensor:
        """Log-posteriors of the labels for the prior of `set_prior`: (..., V + U) -> (..., V).

        The posteriors of the unknown words are added to that of `_unknown_`, and the influence of
        the labels' shares in training (`log_prior`) is removed.
        """
        return torch.log_softmax(self.merge_unknown(log_posteriors) - self.log_prior, dim=-1)

    def merge_unknown(self, log_posteriors: Tensor) -> Tensor:
        """Add the posteriors of the unknown words to `_unknown_`: (..., V + U) -> (..., V)."""
        if not self.unknown_words:
            return log_posteriors
        labels, words = log_posteriors.split([len(self.labels), len(self.unknown_words)], dim=-1)
        unknown = self.vocabulary.id(UNKNOWN)
        column = torch.cat([labels[..., unknown : unknown + 1], words], dim=-1)
        total = torch.logsumexp(column, dim=-1, keepdim=True)
        return torch.cat([labels[..., :unknown], total, labels[..., unknown + 1 :]], dim=-1)

    def set_prior(self, shares: Tensor, unknown_odds: float = 1.0) -> None:
        """Set the share of each label in the training targets: (V,), sum 1.

        A label without targets stays as improbable as training left it. In recognition all labels
        are taken to be equally likely, but `_unknown_` to be `unknown_odds` times as likely.
        """
        excess = shares.log() + math.log(len(self.vocabulary))
        self.log_prior.copy_(torch.where(shares > 0, excess, 0.0))
        if UNKNOWN in self.vocabulary:
            self.log_prior[self.vocabulary.id(UNKNOWN)] -= math.log(unknown_odds)

    def set_normalisation(self, features: Tensor) -> None:
        """Set the mean and deviation of each feature from raw training features (..., F)."""
        flat = features.reshape(-1, features.shape[-1]).double()
        self.mean.copy_(flat.mean(dim=0))
        self.deviation.copy_(flat.std(dim=0).clamp_min(1e-3))


def make_layer(config: ModelConfig) -> Cell:
    """A recurrent layer by the configuration."""

    def new_cell() -> Cell:
        width = config.hidden
        return make_cell(config.cell, width, width, config.keep_bias, config.context_steps)

    return Bidirectional(new_cell(), new_cell()) if config.bidirectional else new_cell()
