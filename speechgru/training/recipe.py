"""Recipes: everything that determines a training run, as strict TOML."""

import tomllib
from collections.abc import Sequence
from typing import Any, Literal, Self

import tomli_w
from pydantic import ConfigDict, Field, ValidationError, model_validator

from speechgru.common.settings import Settings, describe
from speechgru.corpora.protocols import PROTOCOLS
from speechgru.errors import UsageError
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig
from speechgru.training.augmentation import AugmentConfig
from speechgru.training.recipe_files import find_recipe

#: In a line of a recipe.
_MOST_DOTS = 1_000
_MOST_STEPS = 10**9
_SHORTEST_CLIP_S = 0.1


class _Section(Settings):
    model_config = ConfigDict(validate_default=True)


class DataConfig(_Section):
    """The task and its recordings."""

    #: One of the protocols: v2-35, v2-12, v2-12-official, v1-30, v1-12, commands-12, folder.
    protocol: str = "folder"
    #: Directory or manifest; "" leaves it to --data, "embedded" is the corpus in the package.
    directory: str = ""
    #: Also train with the other speech and noise that ship with the package.
    other_sounds: bool = False
    #: Length of a training clip; 0 is the protocol's.
    clip_s: float = Field(0.0, ge=0.0, le=10.0)
    #: Where recordings end sooner than this after their words, which are recognized only then, the
    #: protocol's clips are extended by silence.
    after_words_s: float = Field(0.0, ge=0.0, le=2.0)
    #: The channel of recordings with several, from 1; 0 averages them.
    channel: int = Field(0, ge=0, le=64)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if 0 < self.clip_s < _SHORTEST_CLIP_S:
            raise ValueError(
                f"clip_s {self.clip_s:g}: 0, or {_SHORTEST_CLIP_S:g} s and more, is needed"
            )
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol {self.protocol!r} is not one of {', '.join(PROTOCOLS)}")
        return self


class SamplingConfig(_Section):
    """How often each kind of clip is drawn; every word is drawn equally often."""

    #: How often `_unknown_` is drawn, as a multiple of a word.
    unknown_weight: float = Field(3.0, gt=0.0, le=1e3)
    #: How likely `_unknown_` is in recognition, as a multiple of any other label.
    unknown_odds: float = Field(1.0, ge=1e-3, le=1e3)
    #: How often `_silence_` is drawn, as a multiple of a word.
    silence_weight: float = Field(1.0, gt=0.0, le=1e3)
    #: Share of the clips of `_silence_` that are everyday sounds, as loud as words, out of the
    #: recordings that come with the package (`data.other_sounds`); the others are quieter noise.
    loud_sound_share: float = Field(0.0, ge=0.0, le=1.0)
    #: Distinguish unknown words in training; in recognition they count as one label.
    separate_unknown_words: bool = True
    #: Share of the clips that become `_unknown_`: words with their halves swapped, or reversed.
    made_unknown_share: float = Field(0.04, ge=0.0, lt=1.0)
    #: Share of the clips that become pieces of running speech, as long as words: `_unknown_`, too.
    #: Only with running speech (`stream.talk_share` above 0).
    cut_speech_share: float = Field(0.0, ge=0.0, le=0.5)


class StreamConfig(_Section):
    """Training on streams: rows of several clips, each continuing where the last batch ended."""

    #: Clips in a row of a batch; 0 trains on single clips.
    clips: int = Field(0, ge=0, le=64)
    #: Share of the steps that train on single clips, which are learned faster, before streams
    #: begin. There the learning rate rises again, to half its peak.
    begin_at: float = Field(0.0, ge=0.0, lt=1.0)
    #: Length of a row per clip, or the length of the clips if that is longer. Gradients go back to
    #: the start of the row: this is the length of truncated backpropagation through time (Williams
    #: and Peng, 1990).
    seconds_per_clip: float = Field(1.15, ge=0.1, le=10.0)
    #: Share of the rows that start from the state of the last batch; the others start from zeros.
    carry_share: float = Field(0.8, ge=0.0, le=1.0)
    #: Share of the rows whose clips follow each other whole, without a gap; in the others words are
    #: placed at random, and the edges of their clips overlap.
    abutted_share: float = Field(0.4, ge=0.0, le=1.0)
    #: How much shorter the gaps between a row's words may be than those around them: at 1 words may
    #: follow each other without a pause, as in sequences; at 0 all gaps are alike.
    crowding: float = Field(0.0, ge=0.0, le=1.0)
    #: A word is the target from this long after its end ...
    after_ms: float = Field(60.0, ge=0.0, le=1000.0)
    #: ... until this long after it (in rows of whole clips at least until its clip ends).
    hold_ms: float = Field(500.0, gt=0.0, le=5000.0)
    #: This long after that silence becomes the target, until the next word.
    release_ms: float = Field(250.0, ge=0.0, le=5000.0)
    #: Share of the steps of silence that count in the loss.
    silence_share: float = Field(0.2, ge=0.0, le=1.0)
    #: Share of the rows that are running speech, which is `_unknown_`; words after it start from
    #: the state that it leaves behind.
    talk_share: float = Field(0.0, ge=0.0, le=0.9)
    #: Mean length of a stretch of running speech.
    talk_s: float = Field(15.0, gt=0.0, le=600.0)
    #: Share of its steps that count in the loss.
    talk_target_share: float = Field(0.25, gt=0.0, le=1.0)


class TrainingConfig(_Section):
    """Optimization, validation and precision."""

    #: Seed of the initial weights, of the order of clips, and of their augmentation.
    seed: int = Field(0, ge=0, lt=2**31)
    #: A model of the same network whose weights and normalization training starts with: a file, or
    #: the name of a bundled model. With other words or heads, only the encoder, and for a CTC
    #: head the columns of words that both know.
    begin_with: str = ""
    #: Share of the steps, from the first on, in which only the heads learn, if training begins with
    #: a model and does not refine it (`keep_start`). What an encoder knows of voices that the
    #: recordings lack is lost when it follows heads that are still random (Kumar et al.,
    #: "Fine-tuning can distort pretrained features and underperform out-of-distribution", 2022).
    heads_first: float = Field(0.0, ge=0.0, lt=1.0)
    #: Whether the front keeps its weights, if training begins with a model: a step takes a quarter
    #: less time. Its batch normalization still follows the recordings (Li et al., "Revisiting batch
    #: normalization for practical domain adaptation", 2017), as those of a telephone need.
    freeze_front: bool = False
    #: Models whose answers the network learns, besides the recordings' words (Hinton et al., 2015):
    #: files, or names of bundled models. They need the same labels, and may have any network, also
    #: one that needs whole clips. Where they recognize a word in silence or in running speech they
    #: are not followed. A resumed run still needs them.
    teachers: tuple[str, ...] = ()
    #: Share of the teachers' answers in the loss of the classify head.
    teacher_weight: float = Field(0.7, gt=0.0, le=1.0)
    #: Above 1, less probable answers of the teachers count more.
    temperature: float = Field(1.0, ge=0.1, le=20.0)
    #: `train --from MODEL` with a model for the same words trains for so few steps, at an
    #: eighth of the learning rate, and keeps that model's weights unless better ones are found
    #: (`keep_start`); 0 trains it like any other.
    refine_steps: int = Field(0, ge=0, le=_MOST_STEPS)
    #: The weights that training starts with are validated, too. Later ones, which lie between these
    #: and what was learnt, replace them only if they miss no more of the validation words and have
    #: the lower cost.
    keep_start: bool = False
    #: Passes over as many clips as the training split has ...
    epochs: float = Field(30, gt=0, le=1e6)
    #: ... but at least so many steps, as a pass over few clips is short.
    least_steps: int = Field(1, ge=1, le=_MOST_STEPS)
    #: ... and so many for each word, as more words need more steps to be told apart.
    least_steps_per_word: int = Field(0, ge=0, le=_MOST_STEPS)
    #: Clips in a batch, of all processes together.
    batch_size: int = Field(128, ge=1, le=65_536)
    #: "muon" learns more per step; it needs a learning rate two to four times as high, and ten
    #: times the weight decay.
    optimiser: Literal["adamw", "muon"] = "adamw"
    #: The highest learning rate.
    learning_rate: float = Field(3e-3, gt=0)
    #: Share of the steps in which the learning rate rises; after that it falls as a cosine.
    warm_up: float = Field(0.05, ge=0.0, lt=1.0)
    #: Of matrices: a step shrinks them by this times the learning rate.
    weight_decay: float = Field(0.02, ge=0.0)
    #: Share of the target's probability that is spread evenly over all labels.
    label_smoothing: float = Field(0.1, ge=0.0, lt=1.0)
    #: Smoothing for a CTC head, at each step: the mean over tokens of -log p, which keeps it from
    #: becoming overconfident (Kim et al., "Improved training for online end-to-end speech
    #: recognition systems", Interspeech 2018).
    ctc_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    #: How likely a CTC head's blank is in recognition, as a multiple of its odds in training: below
    #: 1 fewer words are missed, and more are inserted.
    ctc_blank_odds: float = Field(1.0, ge=1e-3, le=1e3)
    #: Weight of the CTC head in the loss, if there are two heads.
    ctc_weight: float = Field(0.5, gt=0.0, lt=1.0)
    #: Weight of the attention decoder in the loss, if there is one (Watanabe et al., 2017).
    attention_weight: float = Field(0.5, gt=0.0, le=1.0)
    #: Largest norm of the gradient.
    clip_norm: float = Field(1.0, gt=0)
    #: Decay per step of the averaged weights, which the model gets; 0 takes the last weights.
    average_decay: float = Field(0.999, ge=0.0, lt=1.0)
    #: The part at a clip's end in which its word is the target.
    tail_ms: float = Field(200.0, gt=0, le=10_000.0)
    #: What chooses the best weights: "clips" (by the mean of the labels' recalls) or "streams" (by
    #: missed words, and false alarms in running speech and noise, through the detector, whose
    #: settings are chosen, too, and stored in the model).
    choose_by: Literal["clips", "streams"] = "clips"
    #: Number of validations in the run.
    validations: int = Field(30, ge=1)
    #: The run ends early after so many validations without a better one; 0 never does. Those before
    #: streams begin (`stream.begin_at`) do not count, nor, if `choose_by` is "streams", those in
    #: the first three quarters of the run.
    patience: int = Field(0, ge=0)
    #: Where clips are stored: on the "device", in the "host"'s memory, or "mapped" from the packed
    #: file; "auto" is the first where they fit.
    placement: Literal["auto", "device", "host", "mapped"] = "auto"
    #: Precision of products: "auto" is bf16 on CUDA, otherwise float32; "fast" is bf16 also on a
    #: CPU with instructions for it (Intel's AMX). Weights, states and sums are float32.
    precision: Literal["auto", "fast", "float32", "bf16"] = "auto"


class Recipe(_Section):
    """A training run. `speechgru train` needs nothing else except the data and the device."""

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
                f"stream.clips {clips}: a model with {self.model.whole_clips[0]} needs whole clips"
            )
        if self.stream.talk_share and "classify" not in self.model.heads:
            raise ValueError("stream.talk_share needs a classify head; add it to model.heads")
        if self.sampling.loud_sound_share and not self.data.other_sounds:
            raise ValueError("sampling.loud_sound_share needs data.other_sounds = true")
        if self.training.choose_by == "streams" and "classify" not in self.model.heads:
            raise ValueError('training.choose_by "streams" needs a classify head')
        if self.training.choose_by == "streams" and self.model.whole_clips:
            raise ValueError(
                f'training.choose_by "streams": a model with {self.model.whole_clips[0]} needs '
                "whole clips"
            )
        if self.training.keep_start and not self.training.begin_with:
            raise ValueError("training.keep_start needs training.begin_with, or --from MODEL")
        if self.training.teachers and "classify" not in self.model.heads:
            raise ValueError("training.teachers needs a classify head; add it to model.heads")
        return self

    @property
    def batch_rows(self) -> int:
        """Number of rows in a batch: single clips, or streams of several."""
        return self.training.batch_size // max(1, self.stream.clips)

    def to_toml(self) -> str:
        """All settings, including defaults."""
        return tomli_w.dumps(self.model_dump(mode="json"))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides such as "training.epochs=5".

    Raises:
        UsageError: no such recipe, not TOML, an unknown key (with the most similar one), or a value
            out of range.
    """
    path = find_recipe(name)
    try:
        table = _parse_toml(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: it is not UTF-8") from error
    # Besides TOML: a number of more than 4,300 digits, and tables in tables without end.
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    for override in overrides:
        _override(table, override)
    return parse_recipe(table, str(path), overrides)


def _parse_toml(text: str) -> dict[str, Any]:
    """What a TOML file holds; raises ValueError or RecursionError."""
    # The time that tomllib needs grows with the square of the parts of a dotted key.
    if any(line.count(".") > _MOST_DOTS for line in text.splitlines()):
        raise ValueError(f"a line has more than {_MOST_DOTS:,} dots")
    return tomllib.loads(text)


def parse_recipe(table: dict[str, Any], source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Validate a recipe's table, into which overrides were put.

    Raises:
        UsageError: names `source` or the override, the key, the value and what is allowed.
    """
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        location = tuple(map(str, error.errors(include_url=False)[0]["loc"]))
        both = ", with ".join([source, *(f"--set {override}" for override in overrides)])
        culprit = _culprit(location, overrides) or both
        raise UsageError(f"{culprit}: {describe(error, Recipe)}") from error


def _culprit(location: tuple[str, ...], overrides: Sequence[str]) -> str:
    """The last override of what is at a location, or of a part of it; "" if there is none."""
    for override in reversed(overrides):
        both = list(zip(_key_of(override), location, strict=False))
        if both and all(part == other for part, other in both):
            return f"--set {override}"
    return ""


def _key_of(override: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in override.partition("=")[0].split("."))


def _override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(_key_of(override)):
        raise UsageError(f"--set {override!r}: needs the form section.key=value")
    try:
        (value,) = tomllib.loads(f"value = {text}").values()
    except ValueError:  # a bare word is a string
        value = text.strip()
    except RecursionError as error:
        raise UsageError(f"--set {key}: the value is nested too deeply") from error
    *sections, last = _key_of(override)
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {override!r}: {section!r} is a value, not a section")
    table[last] = value
