"""The CTC decoder: each word once, in any chunking."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from posteriors import CHARACTERS, GRAMMARS, LABELS, WORDS, random_posteriors

from speechgru.decoding.ctc import CTCConfig, CTCDecoder
from speechgru.decoding.grammar import any_words, parse_grammar
from speechgru.decoding.prefix_beam import PrefixBeam
from speechgru.errors import DataError, UsageError
from speechgru.labels import BLANK, BOUNDARY, UNKNOWN, Spelling

STEP_S = 0.02


def log(posteriors):
    return np.log(np.maximum(posteriors, 1e-30))


def decode(decoder, log_posteriors, cuts=()):
    events = [e for part in np.split(log_posteriors, cuts) for e in decoder.push(part)]
    return events + decoder.flush()


def posteriors_of(*sequence, vocabulary=WORDS.tokens, clarity=0.99, gap=10, steps=2):
    """Posteriors of tokens one after another, `gap` blanks apart, each for `steps`: (T, V)."""
    rows = []
    for token in sequence:
        rows += [BLANK] * gap + [token] * steps
    ids = [vocabulary.index(token) for token in [*rows, *[BLANK] * gap]]
    p = np.full((len(ids), len(vocabulary)), (1 - clarity) / (len(vocabulary) - 1))
    p[np.arange(len(ids)), ids] = clarity
    return p


@pytest.mark.parametrize("seed", range(12))
def test_early_decisions_and_pruning_change_no_clear_word(seed):
    """Deciding at once and pruning must not change words that are clear."""
    rng = np.random.default_rng(seed)
    tokens = [LABELS[i % len(LABELS)] for i in np.cumsum(rng.integers(1, len(LABELS), size=6))]
    p = posteriors_of(
        *tokens, clarity=0.9, gap=int(rng.integers(1, 6)), steps=int(rng.integers(1, 4))
    )
    p = p * rng.uniform(0.7, 1.3, p.shape)
    p /= p.sum(axis=1, keepdims=True)
    for beam in (1, 2, 8, 100):
        decoder = CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(beam=beam))
        assert [event.word for event in decode(decoder, log(p))] == tokens


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
    expected = decode(whole, np.log(p))
    assert decode(chunked, np.log(p), sorted(cuts)) == expected
    assert decode(single, np.log(p), range(1, 200)) == expected
    assert all(0 <= e.start_s < e.end_s <= e.t <= 4.0 for e in expected)
    assert [e.t for e in expected] == sorted(e.t for e in expected)
    assert [e.end_s for e in expected] == sorted(e.end_s for e in expected)


def test_a_word_is_one_event_with_time_and_score():
    decoder = CTCDecoder(WORDS, LABELS, STEP_S)
    p = posteriors_of("go", "go", "no", gap=20, steps=3, clarity=0.999)
    events = decode(decoder, log(p))
    assert [event.word for event in events] == ["go", "go", "no"]
    for number, event in enumerate(events):
        first = (number + 1) * 20 + number * 3
        assert event.start_s == pytest.approx(first * STEP_S)
        assert event.end_s <= (first + 3) * STEP_S + 1e-9
        assert event.t == pytest.approx((first + 1) * STEP_S)  # clear at once
        assert event.score == pytest.approx(0.999)


def test_a_long_word_is_one_event():
    for beam in (1, 8):
        decoder = CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(beam=beam))
        events = decode(decoder, log(posteriors_of("go", steps=500)))
        assert [event.word for event in events] == ["go"]


def test_a_flickering_word_is_one_event():
    p = posteriors_of("go", steps=60)
    p[20::7] = p[0]
    for beam in (1, 8):
        decoder = CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(beam=beam))
        assert [event.word for event in decode(decoder, log(p))] == ["go"]
        decoder = CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(beam=beam, repeat_s=0.0))
        assert len(decode(decoder, log(p))) > 5


def test_a_doubtful_word_is_decided_after_settle_s():
    """At 0.6 for a step the beam does not agree, and nothing follows that could settle it."""
    p = posteriors_of("go", gap=50, steps=1, clarity=0.999)
    p[50] = [0.4, 0.6, 0.0, 0.0]
    config = CTCConfig(settle_s=0.2)
    decoder = CTCDecoder(WORDS, LABELS, STEP_S, config)
    (event,) = decode(decoder, log(p))
    assert event.t == pytest.approx(51 * STEP_S + 0.2)
    assert event.score == pytest.approx(0.6)
    p[50] = [0.6, 0.4, 0.0, 0.0]
    decoder.reset()
    assert decode(decoder, log(p)) == []


def test_the_beam_finds_a_word_that_the_best_path_misses():
    """Two steps of 0.4 are more likely a word than two blanks, which the best path takes."""
    p = posteriors_of("go", gap=50, steps=2, clarity=0.999)
    p[50:52] = [0.45, 0.4, 0.075, 0.075]
    for beam, words in ((1, []), (8, ["go"])):
        decoder = CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(beam=beam))
        assert [event.word for event in decode(decoder, log(p))] == words


def test_words_have_thresholds():
    p = np.concatenate([posteriors_of(word, clarity=0.8) for word in ("go", "no")])
    config = CTCConfig(threshold=0.9, thresholds={"no": 0.7})
    decoder = CTCDecoder(WORDS, LABELS, STEP_S, config)
    assert [event.word for event in decode(decoder, log(p))] == ["no"]


def test_unknown_words_are_not_events():
    spelling = Spelling.of((UNKNOWN, *LABELS), "words")
    p = posteriors_of("go", UNKNOWN, "no", UNKNOWN, vocabulary=spelling.tokens)
    for beam in (1, 8):
        decoder = CTCDecoder(spelling, LABELS, STEP_S, CTCConfig(beam=beam))
        assert [event.word for event in decode(decoder, log(p))] == ["go", "no"]


@pytest.mark.parametrize("beam", [1, 8])
def test_characters_form_the_words_of_the_vocabulary(beam):
    tokens = ["o", "n", BOUNDARY, "n", "o", BOUNDARY, UNKNOWN, "g", "o", BOUNDARY]
    p = posteriors_of(*tokens, vocabulary=CHARACTERS.tokens, gap=3)
    decoder = CTCDecoder(CHARACTERS, LABELS, STEP_S, CTCConfig(beam=beam))
    events = decode(decoder, log(p))
    assert [event.word for event in events] == ["on", "no", "go"]
    first = events[0]
    assert first.start_s == pytest.approx(3 * STEP_S)
    assert first.end_s == pytest.approx((3 * 3 + 2 * 2 + 1 + (beam == 1)) * STEP_S)
    assert first.score == pytest.approx(0.99)


def test_characters_that_form_no_word_give_no_event():
    """The best path spells anything; the beam spells only words."""
    tokens = ["g", "n", BOUNDARY, "n", UNKNOWN, "o", *"ogogogog", BOUNDARY, "n", "o", BOUNDARY]
    p = posteriors_of(*tokens, vocabulary=CHARACTERS.tokens, gap=2)
    decoder = CTCDecoder(CHARACTERS, LABELS, STEP_S, CTCConfig(beam=1))
    assert [event.word for event in decode(decoder, log(p))] == ["no"]
    decoder = CTCDecoder(CHARACTERS, LABELS, STEP_S, CTCConfig(beam=20))
    assert {event.word for event in decode(decoder, log(p))} <= set(LABELS)


# Phrases.


def commands(text="go (no|on)\non", **config):
    grammar = parse_grammar(text, WORDS)
    return CTCDecoder(WORDS, LABELS, STEP_S, CTCConfig(**config), grammar)


def test_a_phrase_is_reported_once_it_is_complete():
    events = decode(commands(), log(posteriors_of("go", "no", "on")))
    assert [event.word for event in events] == ["go", "no", "on"]
    go, no, on = events
    assert go.t == no.t > no.start_s > go.end_s
    assert on.t > no.t


def test_an_incomplete_phrase_is_not_reported():
    pause = posteriors_of(gap=100)
    assert decode(commands(), log(posteriors_of("go"))) == []
    late = np.concatenate([posteriors_of("go"), pause, posteriors_of("no")])
    assert decode(commands(pause_s=1.0), log(late)) == []
    assert len(decode(commands(pause_s=5.0), log(late))) == 2
    # What follows is decoded.
    again = np.concatenate([posteriors_of("go"), pause, posteriors_of("on")])
    assert [event.word for event in decode(commands(pause_s=1.0), log(again))] == ["on"]


def test_a_reported_phrase_is_not_continued_after_a_pause():
    late = np.concatenate([posteriors_of("go"), posteriors_of(gap=100), posteriors_of("no")])
    assert [event.word for event in decode(commands("go\ngo no"), log(late))] == ["go"]
    soon = np.concatenate([posteriors_of("go"), posteriors_of("no")])
    assert [event.word for event in decode(commands("go\ngo no"), log(soon))] == ["go", "no"]


def test_a_grammar_favours_the_words_of_its_phrases():
    """After "go" only "no" may follow: it wins although "on" is more likely."""
    p = posteriors_of("go", "on", clarity=0.99)
    on = slice(10 + 2 + 10, 10 + 2 + 10 + 2)
    p[on] = [0.05, 0.0, 0.35, 0.6]
    assert [event.word for event in decode(commands("go no"), log(p))] == ["go", "no"]
    free = CTCDecoder(WORDS, LABELS, STEP_S)
    assert [event.word for event in decode(free, log(p))] == ["go", "on"]


def test_other_speech_is_recognized_but_not_reported():
    """A grammar alone prefers an unlikely phrase to no phrase."""
    tokens = ["on", "no", "go", "no", "on", "go"]
    p = posteriors_of(*tokens, clarity=0.95)
    some = CTCConfig(floor=0.01, threshold=0.0)
    alone = CTCDecoder(WORDS, LABELS, STEP_S, some, parse_grammar("go no", WORDS))
    assert len(decode(alone, log(p))) > 2
    with_others = parse_grammar("go no", WORDS, others=LABELS)
    decoder = CTCDecoder(WORDS, LABELS, STEP_S, some, with_others)
    assert decoder.words == ("go", "no")
    events = decode(decoder, log(p))
    assert [event.word for event in events] == ["go", "no"]
    assert events[0].start_s == pytest.approx((3 * 10 + 2 * 2) * STEP_S)
    # What is likely enough as a phrase is still decoded as one.
    p = posteriors_of("go", "on", clarity=0.99)
    p[10 + 2 + 10 : 10 + 2 + 10 + 2] = [0.05, 0.0, 0.35, 0.6]
    decoder.reset()
    assert [event.word for event in decode(decoder, log(p))] == ["go", "no"]


def test_other_words_can_be_spelled_in_characters():
    grammar = parse_grammar("on no", CHARACTERS, others=LABELS)
    tokens = ["g", "o", BOUNDARY, "o", "n", BOUNDARY, "n", "o", BOUNDARY, "n", "o", BOUNDARY]
    p = posteriors_of(*tokens, vocabulary=CHARACTERS.tokens, gap=3, clarity=0.9)
    decoder = CTCDecoder(CHARACTERS, LABELS, STEP_S, CTCConfig(beam=20), grammar)
    assert [event.word for event in decode(decoder, log(p))] == ["on", "no"]


def test_a_phrase_is_reported_as_a_whole_or_not_at_all():
    p = np.concatenate([posteriors_of("go", clarity=0.99), posteriors_of("no", clarity=0.8)])
    assert len(decode(commands(threshold=0.7), log(p))) == 2
    assert decode(commands(threshold=0.9), log(p)) == []


def test_a_grammar_needs_a_beam():
    with pytest.raises(UsageError, match="at least 2 hypotheses"):
        commands(beam=1)


# Hours.


@pytest.mark.parametrize("text", [None, "go (no|on)"])
def test_memory_is_bounded(text):
    """Babble that stays undecided: five times as much of it takes no more memory."""
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


def test_the_beam_and_its_undecided_tokens_are_bounded():
    search = PrefixBeam(any_words(LABELS, WORDS), 8, settle_steps=10, pause_steps=25)
    for row in random_posteriors(np.random.default_rng(0), 2_000, 4, 1.5).tolist():
        search.step(row)
        assert len(search.hypotheses) <= 9
        assert max(map(len, search.hypotheses)) <= 25


def test_a_word_after_long_silence_is_decoded_as_at_the_start():
    silence = np.tile(log(np.array([[0.97, 0.02, 0.005, 0.005]])), (60_000, 1))  # 20 minutes
    decoder = CTCDecoder(WORDS, LABELS, STEP_S)
    assert decoder.push(silence) == []
    (late,) = decode(decoder, log(posteriors_of("go")))
    (early,) = decode(CTCDecoder(WORDS, LABELS, STEP_S), log(posteriors_of("go")))
    assert late.t - early.t == pytest.approx(1_200)
    assert late.score == early.score


def test_reset_starts_a_new_stream():
    decoder = CTCDecoder(CHARACTERS, LABELS, STEP_S)
    p = log(posteriors_of("o", "n", BOUNDARY, vocabulary=CHARACTERS.tokens))
    first = decode(decoder, p)
    decoder.push(p[:20])
    decoder.reset()
    assert decoder.time_s == 0.0
    assert decode(decoder, p) == first != []


def test_invalid_settings_are_named():
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


def test_a_model_without_words_gives_no_events():
    decoder = CTCDecoder(Spelling((BLANK, UNKNOWN)), (), STEP_S)
    assert decode(decoder, np.log(np.full((20, 2), 0.5))) == []
