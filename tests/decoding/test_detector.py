"""The detector on synthetic posteriors: what becomes an event, when, and what stops the rest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgru.decoding.detector import Detector, DetectorConfig
from speechgru.decoding.events import Event
from speechgru.errors import DataError, UsageError
from speechgru.labels import BLANK, SILENCE, UNKNOWN

LABELS = (SILENCE, UNKNOWN, BLANK, "go", "stop")
STEP_S = 0.02
PLAIN = DetectorConfig(
    smoothing_s=0.0, threshold=0.5, min_duration_s=0.0, refractory_s=0.0, release=1.0
)


def posteriors(seconds, *pulses, floor=SILENCE):
    """Log-posteriors (T, V): `pulses` are (label, from s, to s, probability), else the floor."""
    steps = round(seconds / STEP_S)
    p = np.full((steps, len(LABELS)), 1e-4)
    p[:, LABELS.index(floor)] = 1.0
    for label, start, stop, probability in pulses:
        inside = slice(round(start / STEP_S), round(stop / STEP_S))
        p[inside] = 1e-4
        p[inside, LABELS.index(floor)] = 1 - probability
        p[inside, LABELS.index(label)] = probability
    return np.log(p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def events(config, log_posteriors, chunks=()):
    detector = Detector(LABELS, STEP_S, config)
    found = []
    for part in np.split(log_posteriors, chunks):
        found += detector.push(part)
    return found + detector.flush()


def with_(**changes):
    return PLAIN.model_copy(update=changes)


def test_a_word_is_one_event_at_the_step_that_settles_it():
    (event,) = events(PLAIN, posteriors(3, ("go", 1.0, 2.0, 0.9)))
    assert event.word == "go"
    assert event.t == pytest.approx(1.02)
    assert event.start_s == pytest.approx(1.0)
    assert event.end_s == pytest.approx(1.02)
    assert event.score == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("label", [SILENCE, UNKNOWN, BLANK])
def test_labels_that_are_not_words_are_never_events(label):
    assert events(PLAIN, posteriors(3, (label, 1.0, 2.0, 0.99))) == []


def test_smoothing_needs_evidence_over_its_window():
    """With a mean over 0.2 s a word of probability 0.9 passes 0.5 after 6 of 10 steps."""
    smoothed = with_(smoothing_s=0.2)
    (event,) = events(smoothed, posteriors(3, ("go", 1.0, 2.0, 0.9)))
    assert event.t == pytest.approx(1.12)
    assert event.start_s == pytest.approx(1.0)
    assert events(smoothed, posteriors(3, ("go", 1.0, 1.1, 0.9))) == []


def test_a_stream_starts_without_evidence():
    """The first steps are averaged with zeros, not with themselves."""
    (event,) = events(with_(smoothing_s=0.2), posteriors(1, ("go", 0.0, 1.0, 0.9)))
    assert event.t == pytest.approx(0.12)


def test_a_spike_is_shorter_than_the_minimum_duration():
    patient = with_(min_duration_s=0.1)
    assert events(patient, posteriors(3, ("go", 1.0, 1.08, 0.9))) == []
    (event,) = events(patient, posteriors(3, ("go", 1.0, 1.1, 0.9)))
    assert event.t == pytest.approx(1.1)


def test_words_have_their_own_thresholds():
    stream = posteriors(4, ("go", 1.0, 1.5, 0.6), ("stop", 2.0, 2.5, 0.6))
    found = events(with_(threshold=0.8, thresholds={"stop": 0.55}), stream)
    assert [event.word for event in found] == ["stop"]


def test_the_more_likely_of_two_words_above_threshold_is_the_event():
    p = np.full((50, len(LABELS)), 1e-4)
    p[:, LABELS.index("go")], p[:, LABELS.index("stop")] = 0.4, 0.6
    assert [event.word for event in events(with_(threshold=0.3), np.log(p))] == ["stop"]


def test_refractory_time_delays_another_word():
    stream = posteriors(4, ("go", 1.0, 1.3, 0.9), ("stop", 1.4, 1.7, 0.9))
    assert [event.word for event in events(PLAIN, stream)] == ["go", "stop"]
    assert [event.word for event in events(with_(refractory_s=1.0), stream)] == ["go"]
    # It delays a lasting word instead of losing it.
    (_, late) = events(with_(refractory_s=0.5), stream)
    assert late.t == pytest.approx(1.52)


def test_a_word_right_after_other_speech_is_not_an_event():
    """The half second before it is mostly unknown; after a pause the same word is an event."""
    careful = with_(most_unknown=0.5)
    inside = posteriors(4, (UNKNOWN, 0.5, 1.5, 0.9), ("go", 1.5, 1.9, 0.9))
    after_a_pause = posteriors(4, (UNKNOWN, 0.5, 1.5, 0.9), ("go", 1.8, 2.2, 0.9))
    assert events(careful, inside) == []
    assert [event.word for event in events(PLAIN, inside)] == ["go"]
    assert [event.t for event in events(careful, after_a_pause)] == pytest.approx([1.82])


def test_unknown_words_long_before_do_not_count():
    stream = posteriors(4, (UNKNOWN, 0.5, 1.5, 0.9), ("go", 1.8, 2.2, 0.9))
    assert len(events(with_(most_unknown=0.2, unknown_s=0.3), stream)) == 1
    assert events(with_(most_unknown=0.2, unknown_s=0.6), stream) == []


def test_a_word_after_other_speech_is_refused_until_its_release():
    """A recurrent network keeps its answer after the speech, when nothing is unknown."""
    stream = posteriors(
        6, (UNKNOWN, 0.5, 1.5, 0.9), ("go", 1.5, 3.5, 0.9), ("stop", 4.0, 4.3, 0.9), floor=SILENCE
    )
    careful = with_(most_unknown=0.5)
    assert [event.word for event in events(careful, stream)] == ["stop"]
    detector = Detector(LABELS, STEP_S, careful)
    detector.push(stream)
    assert [verdict.gate for verdict in detector.explain(2.5)] == ["speech"]


def test_a_word_with_silence_within_it_waits_until_it_has_lasted():
    """An event rests on its smoothing and duration, 0.2 s here: a tenth may be silence."""
    careful = with_(smoothing_s=0.1, min_duration_s=0.1, most_silence=0.1)
    short = posteriors(3, ("go", 1.0, 1.18, 0.98), floor=SILENCE)
    assert len(events(with_(smoothing_s=0.1, min_duration_s=0.1), short)) == 1
    assert events(careful, short) == []
    lasting = posteriors(3, ("go", 1.0, 1.4, 0.98), floor=SILENCE)
    (event,) = events(careful, lasting)
    assert event.t == pytest.approx(1.2)
    detector = Detector(LABELS, STEP_S, careful)
    detector.push(short)
    assert [verdict.gate for verdict in detector.explain(1.1)] == ["silence"]
    assert events(with_(most_silence=0.0), posteriors(3, ("go", 1.0, 2.0, 0.9))) == []


def test_after_a_pause_a_word_is_no_part_of_running_speech():
    """However much was unknown before it: a network may call its beginning unknown, too."""
    careful = with_(most_unknown=0.2, unknown_s=0.6, pause_s=0.7)
    talk, word = ((UNKNOWN, 0.5, 2.0, 0.9), ("go", 2.0, 2.4, 0.9))
    after_a_pause, without = (
        posteriors(4, *talk_and_pause, word, floor=BLANK)
        for talk_and_pause in ((talk, (SILENCE, 1.5, 1.7, 0.3)), (talk, (SILENCE, 1.5, 1.7, 0.15)))
    )
    assert [event.word for event in events(careful, after_a_pause)] == ["go"]
    assert events(with_(most_unknown=0.2, unknown_s=0.6, pause_s=0.3), after_a_pause) == []
    assert events(careful, without) == []


def test_the_start_of_a_stream_is_a_pause():
    stream = posteriors(3, (UNKNOWN, 0.0, 0.4, 0.9), ("go", 0.4, 0.8, 0.9))
    assert events(with_(most_unknown=0.2), stream) == []
    assert len(events(with_(most_unknown=0.2, pause_s=0.7), stream)) == 1


def test_rounding_does_not_stop_words_when_unknown_may_be_anything():
    """A posterior may come out a little above 1."""
    stream = np.full((20, len(LABELS)), -20.0)
    stream[:, LABELS.index(UNKNOWN)] = 1e-6
    stream[10:, LABELS.index("go")] = -1e-6
    assert [event.word for event in events(with_(most_unknown=1.0, unknown_s=0.1), stream)] == [
        "go"
    ]


def test_an_error_about_an_odd_setting_name_is_one_line():
    for name in ("\n", "most\r\nunknown", ""):
        with pytest.raises(DataError) as caught:
            DetectorConfig.parse({name: None}, "the model's decoder settings")
        assert repr(name) in str(caught.value)
        assert str(caught.value).isprintable()


def test_most_unknown_has_no_effect_without_the_label_unknown():
    labels = ("go", "stop")
    careful = with_(most_unknown=0.0)
    stream = np.log(np.array([[0.9, 0.1]] * 20 + [[0.1, 0.9]] * 20))
    detector = Detector(labels, STEP_S, careful)
    assert [event.word for event in detector.push(stream)] == ["go", "stop"]


def test_a_lasting_answer_is_one_event_until_its_release():
    """A recurrent network may keep its last answer for seconds."""
    lasting = posteriors(10, ("go", 1.0, 9.0, 0.9))
    assert len(events(PLAIN, lasting)) == 1
    again = posteriors(10, ("go", 1.0, 4.0, 0.9), ("go", 4.2, 8.0, 0.9))
    assert [event.t for event in events(PLAIN, again)] == pytest.approx([1.02, 4.22])


def test_release_sets_how_deep_a_dip_separates_two_events():
    dip = posteriors(4, ("go", 1.0, 2.0, 0.9), ("go", 2.0, 2.2, 0.4), ("go", 2.2, 3.0, 0.9))
    assert len(events(with_(release=0.9), dip)) == 2
    assert len(events(with_(release=0.7), dip)) == 1


def test_a_word_starts_where_its_posterior_rises():
    rising = posteriors(4, ("go", 1.0, 1.2, 0.2), ("go", 1.2, 1.4, 0.6), ("go", 1.4, 2.0, 0.9))
    (event,) = events(with_(threshold=0.8), rising)
    assert event.start_s == pytest.approx(1.0)
    assert event.end_s == pytest.approx(1.42)
    assert event.start_s < event.end_s <= event.t


def test_a_word_said_twice_begins_anew_after_its_release():
    """Though its posterior stays above ONSET between the two."""
    twice = posteriors(
        3,
        ("go", 1.0, 1.3, 0.9),
        ("go", 1.3, 1.6, 0.2),
        ("go", 1.6, 2.0, 0.9),
        ("go", 2.0, 2.6, 0.2),
    )
    for chunks in ((), range(1, 150)):
        first, second = events(PLAIN, twice, chunks)
        assert first.start_s == pytest.approx(1.0)
        assert first.end_s < second.start_s == pytest.approx(1.32)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 300), max_size=12))
def test_any_chunking_gives_the_same_events_and_verdicts(seed, cuts):
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 0.8, (300, len(LABELS))), axis=0)
    walk -= np.logaddexp.reduce(walk, axis=1, keepdims=True)
    config = DetectorConfig(
        smoothing_s=0.06,
        threshold=0.4,
        min_duration_s=0.04,
        refractory_s=0.2,
        release=0.9,
        most_unknown=0.4,
        pause_s=0.3,
        most_silence=0.2,
    )
    whole, chunked = (Detector(LABELS, STEP_S, config) for _ in range(2))
    expected = whole.push(walk) + whole.flush()
    found = []
    for part in np.split(walk, sorted(cuts)):
        found += chunked.push(part)
    assert found + chunked.flush() == expected
    assert chunked.explain(3.0, 3.0) == whole.explain(3.0, 3.0)
    assert chunked.time_s == whole.time_s == pytest.approx(6.0)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    quiet=st.floats(0.0, 8.0),
    words=st.integers(1, 4),
    checked=st.sets(st.integers(0, 399), max_size=5),
)
def test_single_steps_give_each_event_at_once_after_any_silence(seed, quiet, words, checked):
    """Quiet steps are decided together, which must not be noticeable."""
    rng = np.random.default_rng(seed)
    labels = (SILENCE, *("go", "stop", "left", "right")[:words])
    walk = np.cumsum(rng.normal(0, 0.8, (400, len(labels))), axis=0).astype(np.float32)
    walk[:, 0] += quiet
    walk -= np.logaddexp.reduce(walk, axis=1, keepdims=True)
    config = DetectorConfig(smoothing_s=0.1, threshold=0.4, min_duration_s=0.04, refractory_s=0.2)
    whole, single = (Detector(labels, STEP_S, config) for _ in range(2))
    expected = whole.push(walk) + whole.flush()
    found = []
    for step, log_posteriors in enumerate(walk):
        for event in single.push(log_posteriors[np.newaxis]):
            assert event.t == pytest.approx((step + 1) * STEP_S)
            found.append(event)
        if step in checked:  # all verdicts so far must be there
            before = Detector(labels, STEP_S, config)
            before.push(walk[: step + 1])
            assert single.near_misses() == before.near_misses()
            assert single.explain(single.time_s, 1.0) == before.explain(before.time_s, 1.0)
    assert found + single.flush() == expected
    assert single.explain(4.0, 4.0) == whole.explain(4.0, 4.0)


@given(
    *(st.integers(0, 2**32), st.lists(st.integers(0, 600), max_size=3).map(sorted)),
    st.fixed_dictionaries(
        {
            "threshold": st.sampled_from([0.2, 0.5]),  # of two words at once, or of one
            "refractory_s": st.sampled_from([0.0, 0.1, 1.0]),
            "release": st.sampled_from([0.3, 0.8, 1.0]),
            "most_unknown": st.sampled_from([0.1, 0.4, 1.0]),
            "pause_s": st.sampled_from([0.0, 0.3]),
            "most_silence": st.sampled_from([0.05, 0.2, 1.0]),
        }
    ),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_events_are_the_same_without_near_misses(seed, cuts, varied):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (600, len(LABELS)))
    for first in range(0, 600, 15):
        logits[first : first + rng.integers(5, 90), rng.integers(len(LABELS))] += rng.choice([3, 6])
    log_posteriors = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    config = DetectorConfig(min_duration_s=0.06, **varied)
    detector = Detector(LABELS, STEP_S, config)
    detector.notes_verdicts = False
    found = [e for part in np.split(log_posteriors, cuts) if len(part) for e in detector.push(part)]
    assert found + detector.flush() == events(config, log_posteriors)
    assert detector.near_misses() == []


@pytest.mark.parametrize(
    ("config", "pulse", "gate"),
    [
        (with_(threshold=0.8), ("go", 1.0, 1.5, 0.6), "threshold"),
        (with_(min_duration_s=0.3), ("go", 1.0, 1.2, 0.9), "duration"),
        (PLAIN, ("go", 1.0, 1.2, 0.9), "event"),
    ],
)
def test_explain_names_the_word_and_the_gate_that_stopped_it(config, pulse, gate):
    detector = Detector(LABELS, STEP_S, config)
    detector.push(posteriors(3, pulse))
    (verdict,) = detector.explain(1.1)
    assert (verdict.word, verdict.gate) == ("go", gate)
    assert verdict.start_s == pytest.approx(1.0)
    assert verdict.end_s == pytest.approx(pulse[2])
    assert verdict.score == pytest.approx(pulse[3], abs=0.01)
    assert verdict.threshold == config.threshold
    assert detector.explain(2.5) == []
    assert [v.gate for v in detector.near_misses()] == ([gate] if gate != "event" else [])
    assert detector.near_misses(since_s=2.0) == []


def test_explain_includes_refractory_words_and_the_open_verdict():
    detector = Detector(LABELS, STEP_S, with_(refractory_s=1.0, release=0.5))
    detector.push(posteriors(3, ("go", 1.0, 1.3, 0.9), ("stop", 1.4, 1.7, 0.9)))
    assert [verdict.gate for verdict in detector.explain(1.4)] == ["event", "refractory"]
    detector.reset()
    dip = ("go", 1.0, 1.5, 0.9), ("go", 1.5, 1.6, 0.26), ("go", 1.6, 2.0, 0.9)
    detector.push(posteriors(3, dip[0], dip[1], dip[2]))
    (verdict,) = detector.explain(1.7)
    assert verdict.gate == "event"
    assert verdict.end_s == pytest.approx(2.0)


def test_verdicts_of_a_long_stream_are_bounded():
    detector = Detector(LABELS, STEP_S, with_(threshold=0.8))
    blips = posteriors(1, ("go", 0.2, 0.4, 0.6), ("stop", 0.6, 0.8, 0.6))
    for _ in range(400):
        detector.push(blips)
    assert len(detector.near_misses()) == 256
    assert detector.explain(399.7)


def test_reset_starts_a_new_stream():
    detector = Detector(LABELS, STEP_S, with_(refractory_s=5.0))
    stream = posteriors(2, ("go", 0.5, 1.0, 0.9))
    first = detector.push(stream)
    detector.reset()
    assert detector.explain(0.5) == []
    assert detector.push(stream) == first


def test_invalid_settings_are_named():
    with pytest.raises(
        DataError, match=r"model\.safetensors: unknown key 'thresold' .did you mean 'threshold'"
    ):
        DetectorConfig.parse({"thresold": 0.5}, "model.safetensors")
    with pytest.raises(DataError, match="threshold = 2: input should be less"):
        DetectorConfig.parse({"threshold": 2}, "model.safetensors")
    with pytest.raises(DataError, match=r"decoder: 0\.5: a table of settings is needed"):
        DetectorConfig.parse(0.5, "decoder")
    with pytest.raises(UsageError, match=r"threshold left=0\.5: a word of the model \(go, stop\)"):
        Detector(LABELS, STEP_S, with_(thresholds={"left": 0.5}))
    with pytest.raises(UsageError, match=r"threshold go=1\.5"):
        Detector(LABELS, STEP_S, with_(thresholds={"go": 1.5}))


def test_json_of_an_event_has_latency_and_delay():
    event = Event("go", start_s=11.9, end_s=12.3, score=0.97, t=12.34)
    assert event.as_dict(delay_ms=1.0) == {
        "t": 12.34,
        "start": 11.9,
        "end": 12.3,
        "word": "go",
        "score": 0.97,
        "latency_ms": 41.0,
    }


def test_labels_without_words_give_no_events():
    detector = Detector((SILENCE, UNKNOWN), STEP_S)
    assert detector.push(np.log(np.full((10, 2), 0.5))) == []
    assert detector.time_s == pytest.approx(0.2)
