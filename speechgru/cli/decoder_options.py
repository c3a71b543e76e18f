"""The decoder options of `listen`, and the recognizer that they describe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speechgru.errors import UsageError

if TYPE_CHECKING:
    from speechgru.decoding.ctc import CTCDecoder
    from speechgru.decoding.detector import Detector
    from speechgru.decoding.factory import DecoderConfig
    from speechgru.recognition.backend import Backend
    from speechgru.recognition.recognizer import Recognizer


@dataclass(frozen=True)
class DecoderOptions:
    """The options as they were typed."""

    thresholds: Sequence[str]
    within_speech: bool
    beam: int | None
    grammar: Path | None
    explain: bool

    def recognizer(self, backend: "Backend") -> "tuple[Recognizer, Detector | CTCDecoder]":
        """A recognizer with the model's own decoder settings, changed as the options say.

        Raises:
            UsageError: an option is out of range, or the model's decoder does not have it.
        """
        from speechgru.decoding.ctc import CTCDecoder
        from speechgru.decoding.detector import Detector
        from speechgru.decoding.factory import choose_decoder
        from speechgru.recognition.recognizer import open_recognizer

        config, phrases = choose_decoder(backend.info, self.beam, self.grammar, self.explain)
        config = _with_thresholds(config, self.thresholds)
        if self.within_speech:
            config = _within_speech(config)
        recognizer = open_recognizer(backend, config, grammar=phrases)
        assert isinstance(recognizer.decoder, Detector | CTCDecoder)
        return recognizer, recognizer.decoder


def _with_thresholds(config: "DecoderConfig", texts: Sequence[str]) -> "DecoderConfig":
    """The settings with thresholds given as X for all words or WORD=X for one."""
    general, single = config.threshold, dict(config.thresholds)
    parsed = [_parse_threshold(text) for text in texts]
    for word, number in parsed:
        if not word:
            general, single = number, {}
    single |= {word: number for word, number in parsed if word}
    return config.model_copy(update={"threshold": general, "thresholds": single})


def _parse_threshold(text: str) -> tuple[str, float]:
    from speechgru.corpora.listing import normalized

    word, is_of_word, number = text.rpartition("=")
    if is_of_word and not word:
        raise UsageError(f"--threshold {text}: the word before = is missing")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 1.0:
        raise UsageError(f"--threshold {text}: a number above 0 and up to 1 is needed")
    return normalized(word), value


def _within_speech(config: "DecoderConfig") -> "DecoderConfig":
    from speechgru.decoding.detector import DetectorConfig

    if not isinstance(config, DetectorConfig):
        raise UsageError("--within-speech: is for detectors; the CTC decoder does not need it")
    return config.model_copy(update={"most_unknown": 1.0})
