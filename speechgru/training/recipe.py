"""Recipes: everything that decides a training run, as strict TOML."""

import tomllib
from collections.abc import Sequence
from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from speechgru.common.settings import describe
from speechgru.corpora.protocols import PROTOCOLS
from speechgru.errors import UsageError
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig
from speechgru.training.augmentation import AugmentConfig
from speechgru.training.recipe_files import find_recipe


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


class DataConfig(_Section):
    """Which task, on which recordings."""

    #: One of the protocols: v2-35, v2-12, v2-12-official, v1-30, v1-12, commands-12, folder.
    protocol: str = "folder"
    #: Directory or manifest; "" waits for --data, "embedded" is the corpus in the package.
    directory: str = ""
    #: Also train with the other speech and noise that ship with the package.
    other_sounds: bool = False
    #: Length of a training clip; 0 takes the protocol's.
    clip_s: float = Field(0.0, ge=0.0, le=10.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol {self.protocol!r} is none of {', '.join(PROTOCOLS)}")
        return self


class SamplingConfig(_Section):
    """How often each kind of clip is drawn; every word is drawn equally often."""

    #: How often `_unknown_` is drawn, as a multiple of a word.
    unknown_weight: float = Field(3.0, gt=0.0)
    #: How often `_silence_` is drawn, as a multiple of a word.
    silence_weight: float = Field(1.0, gt=0.0)
    #: The unknown words are told apart in training (and count as one in recognition).
    separate_unknown_words: bool = True
    #: Share of the clips made into `_unknown_`: a word with its halves swapped, or backwards.
    made_unknown_share: float = Field(0.04, ge=0.0, lt=1.0)


class StreamConfig(_Section):
    """Training on streams: rows of several clips, each row going on where the last batch ended."""

    #: Clips in a row of a batch; 0 trains on single clips.
    clips: int = Field(0, ge=0, le=64)
    #: Share of the steps before the first stream, of single clips, which are learnt faster. Where
    #: streams begin, the learning rate rises again, to half its peak.
    begin_at: float = Field(0.0, ge=0.0, lt=1.0)
    #: Length of a row for each of its clips, or the clips' own length where that is longer. A
    #: gradient goes back to the row's beginning: this is the length of truncated backpropagation
    #: through time (Williams and Peng, 1990).
    seconds_per_clip: float = Field(1.15, ge=0.1, le=10.0)
    #: Share of the rows that take over the state of the last batch; the others begin from zeros.
    carry_share: float = Field(0.8, ge=0.0, le=1.0)
    #: Share of the rows whose clips follow each other whole, without a gap; in the others the words
    #: lie at random, their clips' edges overlapping.
    abutted_share: float = Field(0.4, ge=0.0, le=1.0)
    #: How much shorter than those around them the gaps between a row's words may be: at 1 the words
    #: may follow each other without a pause, as in strings; at 0 they lie as free as any.
    crowding: float = Field(0.0, ge=0.0, le=1.0)
    #: A word is asked for from this long after its end on ...
    after_ms: float = Field(60.0, ge=0.0, le=1000.0)
    #: ... to this long after it (in rows of whole clips at least to its clip's end).
    hold_ms: float = Field(500.0, gt=0.0, le=5000.0)
    #: From this long after that on, silence is asked for, until the next word.
    release_ms: float = Field(250.0, ge=0.0, le=5000.0)
    #: Share of the silent steps that are asked.
    silence_share: float = Field(0.2, ge=0.0, le=1.0)
    #: Share of the rows that are running speech, which is `_unknown_`; words follow it with the
    #: state that it left behind.
    talk_share: float = Field(0.0, ge=0.0, le=0.9)
    #: Mean length of a stretch of running speech.
    talk_s: float = Field(15.0, gt=0.0, le=600.0)
    #: Share of its steps that have a target.
    talk_target_share: float = Field(0.25, gt=0.0, le=1.0)


class TrainingConfig(_Section):
    """The optimisation."""

    seed: int = Field(0, ge=0, lt=2**31)
    #: A model to begin with, by file or by the name of one that ships: its weights and
    #: normalisation, of the same network. With other words or heads, all but the heads.
    begin_with: str = ""
    #: Passes over as many clips as the training split has ...
    epochs: float = Field(30, gt=0)
    #: ... but at least so many steps: of few clips a pass is short.
    least_steps: int = Field(1, ge=1)
    batch_size: int = Field(128, ge=1, le=65_536)
    #: "muon" learns more from a step, with a learning rate of two to four times as much and a
    #: weight decay of ten times.
    optimiser: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(3e-3, gt=0)
    #: Share of the steps in which the learning rate rises; then it falls as a cosine.
    warm_up: float = Field(0.05, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.02, ge=0.0)
    label_smoothing: float = Field(0.1, ge=0.0, lt=1.0)
    #: The same for a CTC head, at each step: mean over tokens of -log p, which keeps its spikes
    #: from growing without end (Kim et al., "Improved training for online end-to-end speech
    #: recognition systems", Interspeech 2018).
    ctc_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    #: Of two heads, the CTC head's part in the loss.
    ctc_weight: float = Field(0.5, gt=0.0, lt=1.0)
    #: The attention decoder's part in the loss, where the model has one (Watanabe et al., 2017).
    attention_weight: float = Field(0.5, gt=0.0, le=1.0)
    #: Longest gradient (2-norm of all of it).
    clip_norm: float = Field(1.0, gt=0)
    #: Per-step decay of the averaged weights, which are what is kept; 0 keeps the last weights.
    average_decay: float = Field(0.999, ge=0.0, lt=1.0)
    #: How much of a clip's end is asked for its word.
    tail_ms: float = Field(200.0, gt=0)
    #: What chooses the weights that are kept: "clips" (the mean of the labels' recalls) or
    #: "streams" (words missed, and false alarms in running speech and noise, through the
    #: detector, whose settings are chosen too and kept in the model).
    choose_by: Literal["clips", "streams"] = "clips"
    #: Validations in the run.
    validations: int = Field(30, ge=1)
    #: Validations without a better one after which the run ends early; 0 never does. Before
    #: streams begin (`stream.begin_at`) none counts.
    patience: int = Field(0, ge=0)
    #: Where the clips lie: on the "device", in the "host"'s memory, or "mapped" from the packed
    #: file; "auto" takes the first that has room.
    placement: Literal["auto", "device", "host", "mapped"] = "auto"
    #: Of products: "auto" is bf16 on CUDA, else float32; "fast" is bf16 on a processor, too, that
    #: has instructions for it (Intel's AMX). Weights, states and sums are float32.
    precision: Literal["auto", "fast", "float32", "bf16"] = "auto"


class Recipe(_Section):
    """A training run: `speechgru train` takes nothing else but the data and the device."""

    description: str = ""
    data: DataConfig = DataConfig()
    features: FeatureConfig = FeatureConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    sampling: SamplingConfig = SamplingConfig()
    stream: StreamConfig = StreamConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        clips, batch = self.stream.clips, self.training.batch_size
        if clips and batch % clips:
            raise ValueError(
                f"training.batch_size {batch} must be a multiple of stream.clips {clips}"
            )
        if clips and self.model.whole_clips:
            raise ValueError(
                f"stream.clips {clips}: a model with {self.model.whole_clips[0]} is no stream"
            )
        if self.stream.talk_share and "classify" not in self.model.heads:
            raise ValueError("stream.talk_share needs a classify head; add it to model.heads")
        if self.training.choose_by == "streams" and "classify" not in self.model.heads:
            raise ValueError('training.choose_by "streams" needs a classify head')
        return self

    @property
    def batch_rows(self) -> int:
        """Rows of a batch: of single clips, or of streams of several."""
        return self.training.batch_size // max(1, self.stream.clips)

    def to_toml(self) -> str:
        """Every setting, resolved."""
        return tomli_w.dumps(self.model_dump(mode="json"))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides such as "training.epochs=5".

    Raises:
        UsageError: no such recipe, not TOML, an unknown key (names the nearest known one), or a
            value out of range.
    """
    path = find_recipe(name)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    for override in overrides:
        _override(table, override)
    return parse_recipe(table, str(path))


def parse_recipe(table: dict[str, Any], source: str) -> Recipe:
    """Check a recipe's table; errors name `source`, the key, the value and what is allowed."""
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise UsageError(f"{source}: {describe(error, Recipe)}") from error


def _override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise UsageError(f"--set {override!r}: needs the form section.key=value")
    try:
        (value,) = tomllib.loads(f"value = {text}").values()
    except ValueError:  # a bare word is a string
        value = text.strip()
    *sections, last = (part.strip() for part in key.split("."))
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {override!r}: {section!r} is a value, not a section")
    table[last] = value
