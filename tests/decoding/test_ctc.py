"""A CTC decoder: what is said, once, in any chunks."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from posteriors import CHARACTERS, GRAMMARS, LABELS, WORDS, random_posteriors

from speechgru.decoding.ctc import CTCConfig, CTCDecoder
from speechgru.decoding.grammar import parse_grammar
from speechgru.errors import DataError, UsageError
from speechgru.labels import BLANK, BOUNDARY, UNKNOWN, Spelling

STEP_S = 0.02


def log(posteriors):
    return np.log(np.maximum(posteriors, 1e-30))


def heard(decoder, log_posteriors, cuts=()):
    events = [e for part in np.split(log_posteriors, cuts) for e in decoder.push(part)]
    return events + decoder.flush()


def spoken(*said, tokens=WORDS.tokens, clarity=0.99, gap=10, held=2):
    """Posteriors in which tokens are said one after the other, a while apart: (T, V)."""
    rows = []
    for token in said:
        rows += [BLANK] * gap + [token] * held
    ids = [tokens.index(token) for token in [*rows, *[BLANK] * gap]]
    p = np.full((len(ids), len(tokens)), (1 - clarity) / (len(tokens) - 1))
    p[np.arange(len(ids)), ids] = clarity
    return p


@pytest.mark.parametrize("seed", range(12))
def test_what_decides_early_decides_as_the_end_does_where_it_is_clear(seed):
    """Little is left to doubt in these: deciding at once and pruning must not change a word."""
    rng = np.random.default_rng(seed)
    said = [LABELS[i % len(LABELS)] for i in np.cumsum(rng.integers(1, len(LABELS), size=6))]
    p = spoken(*said, clarity=0.9, gap=int(rng.integers(1, 6)), held=int(rng.integers(1, 4)))
    p = p * rng.uniform(0.7, 1.3, p.shape)
    p /= p.sum(axis=1, keepdims=True)
    for beam in (1, 2, 8, 100):
        decoder = CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(beam=beam))
        assert [event.word for event in heard(decoder, log(p))] == said


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, 200), max_size=12),
    beam=st.sampled_from([1, 2, 5, 8]),
    text=st.sampled_from([None, *GRAMMARS]),
    characters=st.booleans(),
)
def test_any_chunking_gives_the_same_events(seed, cuts, beam, text, characters):
    rng = np.random.default_rng(seed)
    spelling = CHARACTERS if characters else WORDS
    p = random_posteriors(rng, 200, len(spelling.tokens), rng.uniform(2, 6)).astype(np.float32)
    grammar = parse_grammar(text, spelling, others=LABELS) if text and beam > 1 else None
    config = CTCConfig(beam=beam, settle_s=0.1, pause_s=0.3)
    whole, chunked, single = (
        CTCDecoder(spelling, LABELS, STEP_S, config, grammar) for _ in range(3)
    )
    expected = heard(whole, np.log(p))
    assert heard(chunked, np.log(p), sorted(cuts)) == expected
    assert heard(single, np.log(p), range(1, 200)) == expected
    assert all(0 <= e.start_s < e.end_s <= e.t <= 4.0 for e in expected)
    assert [e.t for e in expected] == sorted(e.t for e in expected)
    assert [e.end_s for e in expected] == sorted(e.end_s for e in expected)


def test_a_word_is_an_event_once_with_its_time_and_score():
    decoder = CTCDecoder(WORDS, LABELS, STEP_S)
    p = spoken("go", "go", "no", gap=20, held=3, clarity=0.999)
    events = heard(decoder, log(p))
    assert [event.word for event in events] == ["go", "go", "no"]
    for number, event in enumerate(events):
        first = (number + 1) * 20 + number * 3
        assert event.start_s == pytest.approx(first * STEP_S)
        assert event.end_s <= (first + 3) * STEP_S + 1e-9
        assert event.t == pytest.approx((first + 1) * STEP_S)  # clear at once
        assert event.score == pytest.approx(0.999)


def test_a_word_that_is_said_for_long_is_one_event():
    for beam in (1, 8):
        decoder = CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(beam=beam))
        events = heard(decoder, log(spoken("go", held=500)))
        assert [event.word for event in events] == ["go"]


def test_a_word_that_flickers_is_one_event():
    held = spoken("go", held=60)
    held[20::7] = held[0]
    for beam in (1, 8):
        decoder = CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(beam=beam))
        assert [event.word for event in heard(decoder, log(held))] == ["go"]
        decoder = CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(beam=beam, repeat_s=0.0))
        assert len(heard(decoder, log(held))) > 5


def test_a_doubtful_word_is_decided_after_a_while():
    """At 0.6 for a step the beam does not agree; nothing more comes that could settle it."""
    p = spoken("go", gap=50, held=1, clarity=0.999)
    p[50] = [0.4, 0.6, 0.0, 0.0]
    config = CTCConfig(settle_s=0.2)
    decoder = CTCDecoder(WORDS, LABELS, STEP_S, config)
    (event,) = heard(decoder, log(p))
    assert event.t == pytest.approx(51 * STEP_S + 0.2)
    assert event.score == pytest.approx(0.6)
    p[50] = [0.6, 0.4, 0.0, 0.0]
    decoder.reset()
    assert heard(decoder, log(p)) == []


def test_the_beam_hears_what_the_best_path_does_not():
    """Two steps of 0.4 each are likelier a word than two blanks, which the best path takes."""
    p = spoken("go", gap=50, held=2, clarity=0.999)
    p[50:52] = [0.45, 0.4, 0.075, 0.075]
    for beam, words in ((1, []), (8, ["go"])):
        decoder = CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(beam=beam))
        assert [event.word for event in heard(decoder, log(p))] == words


def test_words_have_thresholds():
    p = np.concatenate([spoken(word, clarity=0.8) for word in ("go", "no")])
    config = CTCConfig(threshold=0.9, thresholds={"no": 0.7})
    decoder = CTCDecoder(WORDS, LABELS, STEP_S, config)
    assert [event.word for event in heard(decoder, log(p))] == ["no"]


def test_unknown_words_are_no_events():
    spelling = Spelling.of((UNKNOWN, *LABELS), "words")
    p = spoken("go", UNKNOWN, "no", UNKNOWN, tokens=spelling.tokens)
    for beam in (1, 8):
        decoder = CTCDecoder(spelling, LABELS, STEP_S, CTCConfig(beam=beam))
        assert [event.word for event in heard(decoder, log(p))] == ["go", "no"]


@pytest.mark.parametrize("beam", [1, 8])
def test_characters_become_the_words_of_the_vocabulary(beam):
    said = ["o", "n", BOUNDARY, "n", "o", BOUNDARY, UNKNOWN, "g", "o", BOUNDARY]
    p = spoken(*said, tokens=CHARACTERS.tokens, gap=3)
    decoder = CTCDecoder(CHARACTERS, LABELS, STEP_S, CTCConfig(beam=beam))
    events = heard(decoder, log(p))
    assert [event.word for event in events] == ["on", "no", "go"]
    first = events[0]
    assert first.start_s == pytest.approx(3 * STEP_S)
    assert first.end_s == pytest.approx((3 * 3 + 2 * 2 + 1 + (beam == 1)) * STEP_S)
    assert first.score == pytest.approx(0.99)


def test_characters_that_are_no_word_are_none():
    """The best path writes what it hears; the beam writes words only."""
    said = ["g", "n", BOUNDARY, "n", UNKNOWN, "o", *"ogogogog", BOUNDARY, "n", "o", BOUNDARY]
    p = spoken(*said, tokens=CHARACTERS.tokens, gap=2)
    decoder = CTCDecoder(CHARACTERS, LABELS, STEP_S, CTCConfig(beam=1))
    assert [event.word for event in heard(decoder, log(p))] == ["no"]
    decoder = CTCDecoder(CHARACTERS, LABELS, STEP_S, CTCConfig(beam=20))
    assert {event.word for event in heard(decoder, log(p))} <= set(LABELS)


# Phrases.


def commands(text="go (no|on)\non", **config):
    grammar = parse_grammar(text, WORDS)
    return CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(**config), grammar)


def test_a_phrase_is_told_when_it_is_whole():
    events = heard(commands(), log(spoken("go", "no", "on")))
    assert [event.word for event in events] == ["go", "no", "on"]
    go, no, on = events
    assert go.t == no.t > no.start_s > go.end_s
    assert on.t > no.t


def test_a_phrase_that_is_not_ended_is_not_told():
    pause = spoken(gap=100)
    assert heard(commands(), log(spoken("go"))) == []
    late = np.concatenate([spoken("go"), pause, spoken("no")])
    assert heard(commands(pause_s=1.0), log(late)) == []
    assert len(heard(commands(pause_s=5.0), log(late))) == 2
    # What follows is heard.
    again = np.concatenate([spoken("go"), pause, spoken("on")])
    assert [event.word for event in heard(commands(pause_s=1.0), log(again))] == ["on"]


def test_after_a_pause_nothing_goes_on_with_a_phrase_that_was_told():
    late = np.concatenate([spoken("go"), spoken(gap=100), spoken("no")])
    assert [event.word for event in heard(commands("go\ngo no"), log(late))] == ["go"]
    soon = np.concatenate([spoken("go"), spoken("no")])
    assert [event.word for event in heard(commands("go\ngo no"), log(soon))] == ["go", "no"]


def test_a_phrase_helps_to_hear_its_words():
    """After "go" only "no" may come: it wins with little, where "on" was likelier."""
    p = spoken("go", "on", clarity=0.99)
    on = slice(10 + 2 + 10, 10 + 2 + 10 + 2)
    p[on] = [0.05, 0.0, 0.35, 0.6]
    assert [event.word for event in heard(commands("go no"), log(p))] == ["go", "no"]
    free = CTCDecoder(WORDS, LABELS, STEP_S)
    assert [event.word for event in heard(free, log(p))] == ["go", "on"]


def test_what_is_said_besides_is_heard_as_itself():
    """A grammar alone would rather hear a phrase that hardly sounds so than nothing."""
    said = ["on", "no", "go", "no", "on", "go"]
    p = spoken(*said, clarity=0.95)
    some = CTCConfig(floor=0.01, threshold=0.0)
    alone = CTCDecoder(WORDS, LABELS, STEP_S, some, parse_grammar("go no", WORDS))
    assert len(heard(alone, log(p))) > 2
    with_others = parse_grammar("go no", WORDS, others=LABELS)
    decoder = CTCDecoder(WORDS, LABELS, STEP_S, some, with_others)
    assert decoder.words == ("go", "no")
    events = heard(decoder, log(p))
    assert [event.word for event in events] == ["go", "no"]
    assert events[0].start_s == pytest.approx((3 * 10 + 2 * 2) * STEP_S)
    # And what sounds a little like a phrase is still heard as one.
    p = spoken("go", "on", clarity=0.99)
    p[10 + 2 + 10 : 10 + 2 + 10 + 2] = [0.05, 0.0, 0.35, 0.6]
    decoder.reset()
    assert [event.word for event in heard(decoder, log(p))] == ["go", "no"]


def test_in_characters_other_words_are_spelled():
    grammar = parse_grammar("on no", CHARACTERS, others=LABELS)
    said = ["g", "o", BOUNDARY, "o", "n", BOUNDARY, "n", "o", BOUNDARY, "n", "o", BOUNDARY]
    p = spoken(*said, tokens=CHARACTERS.tokens, gap=3, clarity=0.9)
    decoder = CTCDecoder(CHARACTERS, LABELS, STEP_S, CTCConfig(beam=20), grammar)
    assert [event.word for event in heard(decoder, log(p))] == ["on", "no"]


def test_a_phrase_is_told_whole_or_not_at_all():
    p = np.concatenate([spoken("go", clarity=0.99), spoken("no", clarity=0.8)])
    assert len(heard(commands(threshold=0.7), log(p))) == 2
    assert heard(commands(threshold=0.9), log(p)) == []


def test_a_grammar_needs_a_beam():
    with pytest.raises(UsageError, match="at least 2 hypotheses"):
        commands(beam=1)


# Hours.


@pytest.mark.parametrize("text", [None, "go (no|on)"])
def test_memory_and_doubt_are_bounded(text):
    """Babble that no hypothesis is sure of; five times as much of it takes no more memory."""
    rng = np.random.default_rng(0)
    grammar = parse_grammar(text, WORDS) if text else None
    decoder = CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(pause_s=0.5), grammar)
    babble = log(random_posteriors(rng, 400, 4, 1.5))
    decoder.push(babble)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(4):
        decoder.push(babble)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20_000
    beam = decoder._search._beam
    assert len(beam) <= 9
    assert max(len(h.prefix) for h in beam) <= 25


def test_after_long_silence_a_word_is_heard_as_at_the_start():
    silence = np.tile(log(np.array([[0.97, 0.02, 0.005, 0.005]])), (60_000, 1))  # 20 minutes
    decoder = CTCDecoder(WORDS, LABELS, STEP_S)
    assert decoder.push(silence) == []
    (late,) = heard(decoder, log(spoken("go")))
    (early,) = heard(CTCDecoder(WORDS, LABELS, STEP_S), log(spoken("go")))
    assert late.t - early.t == pytest.approx(1_200)
    assert late.score == early.score


def test_reset_forgets_all():
    decoder = CTCDecoder(CHARACTERS, LABELS, STEP_S)
    p = log(spoken("o", "n", BOUNDARY, tokens=CHARACTERS.tokens))
    first = heard(decoder, p)
    decoder.push(p[:20])
    decoder.reset()
    assert decoder.time_s == 0.0
    assert heard(decoder, p) == first != []


def test_settings_that_are_wrong_are_told():
    with pytest.raises(
        DataError, match=r"model\.safetensors: unknown key 'beem' .did you mean 'beam'"
    ):
        CTCConfig.parse({"beem": 3}, "model.safetensors")
    with pytest.raises(DataError, match="beam = 0: input should be greater"):
        CTCConfig.parse({"beam": 0}, "model.safetensors")
    config = CTCConfig(thresholds={"left": 0.5})
    with pytest.raises(
        UsageError, match=r"threshold left=0\.5: a word of the model \(go, no, on\)"
    ):
        CTCDecoder(WORDS, LABELS, STEP_S, config)


def test_a_model_without_words_says_nothing():
    decoder = CTCDecoder(Spelling((BLANK, UNKNOWN)), (), STEP_S)
    assert heard(decoder, np.log(np.full((20, 2), 0.5))) == []
