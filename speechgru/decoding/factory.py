"""A model's decoder: by the head that is listened to, with the model's own settings. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from speechgru.decoding.ctc import CTCConfig, CTCDecoder
from speechgru.decoding.detector import Detector, DetectorConfig
from speechgru.decoding.grammar import Grammar, read_grammar
from speechgru.errors import DataError, UsageError
from speechgru.labels import Head, Outputs, Spelling, Vocabulary

#: Which of them it is says which head is listened to.
DecoderConfig = DetectorConfig | CTCConfig


class Answering(Protocol):
    """A model as far as what decodes it has to know it."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model can answer."""
        ...

    @property
    def outputs(self) -> Outputs:
        """The V columns of the log-posteriors: each head's labels, side by side."""
        ...

    @property
    def sample_rate(self) -> int:
        """Hertz."""
        ...

    @property
    def step_samples(self) -> int:
        """Samples from one output to the next."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the model's file says: protocol, defaults of decoders and state policy, figures."""
        ...


def head_of(config: DecoderConfig) -> Head:
    """The head whose log-posteriors such a decoder takes."""
    return "ctc" if isinstance(config, CTCConfig) else "classify"


def kept_as(config: DecoderConfig) -> str:
    """The name under which a model's file keeps such settings."""
    return "ctc_decoder" if isinstance(config, CTCConfig) else "decoder"


def own_decoder(model: Answering, head: Head | None = None) -> DecoderConfig:
    """The model's own settings for one of its heads; if none is named, for the one that listens.

    That is the one that `evaluate --tune` kept, else the first.

    Raises:
        DataError: they are invalid.
    """
    heads = tuple(model.outputs)
    listens = model.metadata.get("head", heads[0])
    if listens not in heads:
        raise DataError(
            f"the model's decoder settings: head {listens!r:.60} is none of {', '.join(heads)}"
        )
    if (head or listens) == "ctc":
        own = model.metadata.get("ctc_decoder", {})
        return CTCConfig.parse(own, "the model's CTC decoder settings")
    own = model.metadata.get("decoder", {})
    config = DetectorConfig.parse(own, "the model's decoder settings")
    words = Vocabulary(model.labels).words
    if odd := [word for word in config.thresholds if word not in words]:
        raise DataError(
            f"the model's decoder settings: a threshold for {odd[0]!r:.60}, which is none of its "
            f"words ({', '.join(words)})"
        )
    return config


def choose_decoder(
    model: Answering, beam: int | None = None, grammar: Path | None = None, explain: bool = False
) -> tuple[DecoderConfig, Grammar | None]:
    """The model's own decoder, or that of the head that is asked for.

    A beam or a grammar asks for a CTC decoder, explanations for a detector. A beam that is kept for
    single words is too narrow for a grammar, which then has the usual one.

    Raises:
        UsageError: the model has no such head, both are asked for, or the grammar is wrong.
        DataError: the model's own settings are invalid.
    """
    if explain:
        if "classify" not in model.outputs or beam is not None or grammar is not None:
            raise UsageError("--explain: tells of detectors, and a CTC head has none")
        return own_decoder(model, "classify"), None
    if beam is None and grammar is None:
        return own_decoder(model), None
    if "ctc" not in model.outputs:
        option = "--beam" if grammar is None else "--grammar"
        raise UsageError(f"{option}: is of a CTC head, which the model does not have")
    config = own_decoder(model, "ctc")
    assert isinstance(config, CTCConfig)
    if beam is None and config.beam == 1:
        beam = CTCConfig().beam
    if beam is not None:
        config = config.model_copy(update={"beam": beam})
    if grammar is None:
        return config, None
    words = Vocabulary(model.labels).words
    return config, read_grammar(grammar, Spelling(model.outputs["ctc"]), others=words)


def make_decoder(
    model: Answering, config: DecoderConfig, grammar: Grammar | None = None
) -> Detector | CTCDecoder:
    """A decoder for one head's columns of the log-posteriors.

    Raises:
        UsageError: a threshold is for a word that the model does not have, or a grammar's beam is
            too narrow.
    """
    step_s = model.step_samples / model.sample_rate
    if isinstance(config, DetectorConfig):
        return Detector(model.outputs["classify"], step_s, config)
    spelling = Spelling(model.outputs["ctc"])
    return CTCDecoder(spelling, Vocabulary(model.labels).words, step_s, config, grammar)
