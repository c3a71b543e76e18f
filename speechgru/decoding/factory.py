"""The decoder of a model: one for the head in use, with the settings from the model's metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechgru.decoding.ctc import CTCConfig, CTCDecoder
from speechgru.decoding.detector import Detector, DetectorConfig
from speechgru.decoding.grammar import Grammar, read_grammar
from speechgru.errors import DataError, UsageError
from speechgru.labels import Head, Outputs, Spelling, Vocabulary

#: The type of the configuration determines which head is decoded.
DecoderConfig = DetectorConfig | CTCConfig


@dataclass(frozen=True)
class ModelInfo:
    """What a decoder needs to know about the model whose log-posteriors it decodes.

    Args:
        labels: the labels that the model distinguishes.
        outputs: the V columns of its log-posteriors: the labels of each head, side by side.
        sample_rate: in hertz.
        step_samples: samples from one step to the next.
        metadata: the model file's metadata: protocol, decoder and state policy settings, metrics.
    """

    labels: tuple[str, ...]
    outputs: Outputs
    sample_rate: int
    step_samples: int
    metadata: Mapping[str, Any]

    @property
    def words(self) -> tuple[str, ...]:
        """The labels that can be an event."""
        return Vocabulary(self.labels).words

    @property
    def step_s(self) -> float:
        """Seconds from one step to the next."""
        return self.step_samples / self.sample_rate


def head_of(config: DecoderConfig) -> Head:
    """The head whose log-posteriors a decoder with this configuration takes."""
    return "ctc" if isinstance(config, CTCConfig) else "classify"


def metadata_key(config: DecoderConfig) -> str:
    """The key in a model's metadata that holds settings of this kind."""
    return "ctc_decoder" if isinstance(config, CTCConfig) else "decoder"


def decoder_settings(model: ModelInfo, head: Head | None = None) -> DecoderConfig:
    """The decoder settings in a model's metadata, for one of its heads.

    By default for the head in use: the one stored by `evaluate --tune`, otherwise the first.

    Raises:
        DataError: the settings are invalid.
    """
    heads = tuple(model.outputs)
    in_use = model.metadata.get("head", heads[0])
    if in_use not in heads:
        raise DataError(
            f"the model's decoder settings: head {in_use!r:.60} is not one of {', '.join(heads)}"
        )
    if (head or in_use) == "ctc":
        settings = model.metadata.get("ctc_decoder", {})
        return CTCConfig.parse(settings, "the model's CTC decoder settings")
    settings = model.metadata.get("decoder", {})
    config = DetectorConfig.parse(settings, "the model's decoder settings")
    if unknown := [word for word in config.thresholds if word not in model.words]:
        raise DataError(
            f"the model's decoder settings: a threshold for {unknown[0]!r:.60}, which is not one "
            f"of its words ({', '.join(model.words)})"
        )
    return config


def choose_decoder(
    model: ModelInfo, beam: int | None = None, grammar: Path | None = None, explain: bool = False
) -> tuple[DecoderConfig, Grammar | None]:
    """The model's own decoder settings, changed as the options require.

    A beam or a grammar needs the CTC decoder, explanations need the detector. A grammar needs a
    beam of at least 2, so a stored beam of 1 is replaced by the default one.

    Raises:
        UsageError: the model has no such head, the options contradict each other, or the grammar
            is invalid.
        DataError: the model's own settings are invalid.
    """
    if explain:
        if "classify" not in model.outputs or beam is not None or grammar is not None:
            raise UsageError(
                "--explain, --save-near-misses: need a detector; a CTC head has no detector"
            )
        return decoder_settings(model, "classify"), None
    if beam is None and grammar is None:
        return decoder_settings(model), None
    if "ctc" not in model.outputs:
        option = "--beam" if grammar is None else "--grammar"
        raise UsageError(f"{option}: needs a model with a CTC head; this model has none")
    config = decoder_settings(model, "ctc")
    assert isinstance(config, CTCConfig)
    if beam is None and config.beam == 1:
        beam = CTCConfig().beam
    if beam is not None:
        config = config.model_copy(update={"beam": beam})
    if grammar is None:
        return config, None
    return config, read_grammar(grammar, Spelling(model.outputs["ctc"]), others=model.words)


def make_decoder(
    model: ModelInfo, config: DecoderConfig, grammar: Grammar | None = None
) -> Detector | CTCDecoder:
    """A decoder for one head's columns of the log-posteriors.

    Raises:
        UsageError: a threshold is for a word that the model does not have, or a grammar is given
            with a beam of 1.
    """
    if isinstance(config, DetectorConfig):
        return Detector(model.outputs["classify"], model.step_s, config)
    spelling = Spelling(model.outputs["ctc"])
    return CTCDecoder(spelling, model.words, model.step_s, config, grammar)
