"""Which decoder a model gets, for which head and with which settings."""

import numpy as np
import pytest
from bands import STEP, BandBackend

from speechgru.decoding.ctc import CTCConfig, CTCDecoder
from speechgru.decoding.detector import Detector, DetectorConfig
from speechgru.decoding.events import PosteriorRecorder
from speechgru.decoding.factory import choose_decoder, decoder_settings, head_of, make_decoder
from speechgru.errors import DataError, UsageError
from speechgru.labels import BLANK, UNKNOWN
from speechgru.recognition.recognizer import Recognizer, open_recognizer, stream_settings

TOKENS = (BLANK, UNKNOWN, *BandBackend.labels[2:])


class TwoHeads(BandBackend):
    """Bands as labels; as tokens, a word in the step where it starts, otherwise the blank."""

    outputs = None

    def __init__(self, *heads, **metadata):
        labels = {"classify": self.labels, "ctc": TOKENS}
        self.outputs = {head: labels[head] for head in heads}
        super().__init__(**metadata)
        self.before = 0

    def __call__(self, samples, state):
        of_labels, state = super().__call__(samples, state)
        tokens = np.full((len(of_labels), len(TOKENS)), 0.01)
        for step, label in enumerate(of_labels.argmax(axis=1)):
            began = label != self.before and self.labels[label] in TOKENS
            tokens[step, TOKENS.index(self.labels[label]) if began else 0] = 0.96
            self.before = label
        parts = {"classify": of_labels, "ctc": np.log(tokens)}
        return np.concatenate([parts[head] for head in self.outputs], axis=1), state


def melody():
    """Low, then high, then low again, half a second each."""
    rng = np.random.default_rng(0)
    time_s = np.arange(8_000) / 16_000
    tones = [0.3 * np.sin(2 * np.pi * hertz * time_s) for hertz in (300, 2_700, 300)]
    quiet = rng.normal(0, 1e-3, 8_000)
    return np.concatenate([quiet, *tones, quiet]).astype(np.float32)


@pytest.mark.parametrize("heads", [("ctc",), ("ctc", "classify"), ("classify", "ctc")])
def test_the_first_head_is_decoded(heads):
    recognizer = open_recognizer(TwoHeads(*heads))
    events = recognizer.push(melody()) + recognizer.flush()
    assert [event.word for event in events] == ["low", "high", "low"]
    assert isinstance(recognizer.decoder, CTCDecoder if heads[0] == "ctc" else Detector)
    assert recognizer.labels == (TOKENS if heads[0] == "ctc" else BandBackend.labels)
    assert len(recognizer.log_posteriors) == len(recognizer.labels)
    assert recognizer.decoder.words == ("low", "mid", "high")


def test_the_decoder_gets_the_columns_of_its_head_or_all():
    samples = melody()[: 20 * STEP]
    recorded = {}
    for head in (None, "classify", "ctc"):
        recorder = PosteriorRecorder()
        recognizer = Recognizer(TwoHeads("classify", "ctc"), recorder, head=head)
        recognizer.push(samples)
        recorded[head] = recorder.log_posteriors
        assert recorded[head].shape == (20, len(recognizer.labels))
    assert np.array_equal(
        recorded[None], np.concatenate([recorded["classify"], recorded["ctc"]], axis=1)
    )


def test_a_beam_or_a_grammar_chooses_the_ctc_head(tmp_path):
    (tmp_path / "commands.txt").write_text("low high\n")
    backend = TwoHeads("classify", "ctc")
    assert choose_decoder(backend.info) == (DetectorConfig(), None)
    config, grammar = choose_decoder(backend.info, beam=3)
    assert (config, grammar) == (CTCConfig(beam=3), None)
    config, grammar = choose_decoder(backend.info, grammar=tmp_path / "commands.txt")
    assert config == CTCConfig()
    recognizer = open_recognizer(backend, config, grammar=grammar)
    events = recognizer.push(melody()) + recognizer.flush()
    assert [event.word for event in events] == ["low", "high"]
    assert recognizer.decoder.words == ("low", "high")


@pytest.mark.parametrize("option", ["beam", "grammar"])
def test_a_beam_or_a_grammar_needs_a_ctc_head(option, tmp_path):
    value = {"beam": 3, "grammar": tmp_path / "commands.txt"}[option]
    with pytest.raises(UsageError, match=f"--{option}: needs a model with a CTC head"):
        choose_decoder(BandBackend().info, **{option: value})


def test_each_head_has_its_own_settings_in_the_metadata():
    backend = TwoHeads("ctc", "classify", decoder={"threshold": 0.9}, ctc_decoder={"beam": 5})
    assert (
        decoder_settings(backend.info) == decoder_settings(backend.info, "ctc") == CTCConfig(beam=5)
    )
    assert decoder_settings(backend.info, "classify") == DetectorConfig(threshold=0.9)
    assert choose_decoder(backend.info, beam=2)[0].beam == 2
    with pytest.raises(DataError, match="CTC decoder settings: unknown key 'beem'"):
        decoder_settings(TwoHeads("ctc", ctc_decoder={"beem": 5}).info)


def test_a_threshold_overrides_either_decoder():
    backend = TwoHeads("ctc", "classify")
    for config in (CTCConfig(thresholds={"low": 0.1}), DetectorConfig()):
        changed, _ = stream_settings({}, threshold=0.99, config=config)
        assert type(changed) is type(config)
        assert changed.threshold_for("low") == 0.99
        decoder = make_decoder(backend.info, changed)
        recognizer = Recognizer(backend, decoder, head=head_of(changed))
        assert recognizer.push(melody()) == []
