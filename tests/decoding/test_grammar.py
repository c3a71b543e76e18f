"""Grammars accept what a regular expression does; errors name the line."""

import re
from itertools import product
from time import process_time

import pytest

from speechgru.decoding.grammar import any_words, parse_grammar, read_grammar
from speechgru.errors import UsageError
from speechgru.labels import UNKNOWN, Spelling

WORDS = ("turn", "left", "right", "stop", "now")
SPELLING = Spelling.of(WORDS, "words")
LETTERS = {word: word[0] for word in WORDS}


def accepts(grammar, tokens):
    """Whether the tokens are complete phrases."""
    state = 0
    for token in tokens:
        if token not in grammar.arcs[state]:
            return False
        state = grammar.arcs[state][token]
    return grammar.final[state]


def written(words, spelling=SPELLING):
    return [token for word in words for token in spelling.spell(word)]


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("turn (left|right)", "t(l|r)"),
        ("turn [left]", "tl?"),
        ("[now] stop\n\n# a remark\nturn left", "n?s|tl"),
        ("stop\nstop now", "s|sn"),
        ("turn (left [now]|right) [stop|now]", "t(ln?|r)(s|n)?"),
        ("[turn] [left] right", "t?l?r"),
        ("stop stop", "ss"),
        ("((turn|stop) now|left)", "(t|s)n|l"),
        ("turn\tleft\r\nstop", "tl|s"),
        ('"turn" "left"', "tl"),
    ],
)
def test_a_grammar_accepts_sequences_of_its_phrases(text, expression):
    grammar = parse_grammar(text, SPELLING)
    phrases = re.compile(f"({expression})*")
    for words in (words for n in range(5) for words in product(WORDS, repeat=n)):
        expected = phrases.fullmatch("".join(LETTERS[word] for word in words))
        assert accepts(grammar, written(words)) == bool(expected), words
    assert set(grammar.words) == {w for w in WORDS if LETTERS[w] in expression}


def test_without_a_grammar_words_may_come_in_any_order():
    grammar = any_words(WORDS, SPELLING)
    assert len(grammar.arcs) == 1
    assert accepts(grammar, written(["left", "left", "stop"]))


def test_unknown_words_may_stand_only_between_phrases():
    spelling = Spelling.of((UNKNOWN, *WORDS), "words")
    grammar = parse_grammar("turn left", spelling)
    expected = {word: spelling.spell(word)[0] for word in (UNKNOWN, "turn", "left")}
    u, t, left = expected[UNKNOWN], expected["turn"], expected["left"]
    assert accepts(grammar, [u, u, t, left, u, t, left])
    assert not accepts(grammar, [t, u, left])
    assert accepts(any_words(WORDS, spelling), [u, t, u])


def test_words_in_characters_share_their_first_states():
    spelling = Spelling.of(("on", "one", "no"), "characters")
    grammar = any_words(("on", "one", "no"), spelling)
    assert accepts(grammar, written(["on", "one", "no"], spelling))
    assert not accepts(grammar, written(["one"], spelling)[:-1])  # no boundary yet
    state = grammar.arcs[0][spelling.tokens.index("o")]
    after_on = grammar.arcs[grammar.arcs[state][spelling.tokens.index("n")]]
    assert {spelling.tokens[token] for token in after_on} == {"e", "_boundary_"}
    # Any word that can be written may stand in a phrase.
    assert accepts(parse_grammar("none", spelling), written(["none"], spelling))


def test_a_word_may_have_a_space():
    spelling = Spelling.of(("turn left", "stop"), "words")
    assert accepts(parse_grammar('"turn left" [stop]', spelling), [spelling.spell("turn left")[0]])


WRONG = {
    "turn lift": r"line 1: 'lift' cannot be spelled: .*did you mean 'left'\?",
    "stop\nturn (left|right": r"line 2: \( is not closed by \)",
    "turn [left": r"line 1: \[ is not closed by \]",
    "turn (left]": r"line 1: \( is not closed by \)",
    "turn left)": r"line 1: \) was never opened",
    "left | right": r"line 1: \| stands inside \( \) or \[ \] only",
    "turn (left|)": r"line 1: words are missing",
    "turn ()": r"line 1: words are missing",
    "# nothing\n[now] [stop]": r"line 2: all words of the phrase are optional",
    'turn "left': r'line 1: " is not closed',
    "turn _unknown_": r"line 1: '_unknown_' is not a word",
    "": r"no phrase; at least one is needed",
    "# only a remark\n \n": r"no phrase",
}


@pytest.mark.parametrize(("text", "expected"), WRONG.items())
def test_errors_name_file_and_line(text, expected, tmp_path):
    path = tmp_path / "commands.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"commands.txt.*{expected}") as caught:
        read_grammar(path, Spelling.of((UNKNOWN, *WORDS), "words"))
    assert "\n" not in str(caught.value)


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.txt: cannot be read"):
        read_grammar(tmp_path / "none.txt", SPELLING)
    (tmp_path / "odd.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"odd\.txt: not a grammar"):
        read_grammar(tmp_path / "odd.txt", SPELLING)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("(" * 5_000 + "turn" + ")" * 5_000, "line 1: groups are nested deeper than 50"),
        ("[" * 5_000, "line 1: groups are nested deeper than 50"),
        # The automaton has to remember which of the last words were "left": 2^40 states.
        ("[turn (left|right)] " * 40 + "turn left " + "turn (left|right) " * 40, "too many combi"),
        ("turn left\n" * 200_000, "longer than 1000000 characters"),
        ("x" * 100_000, "cannot be spelled"),
    ],
)
def test_excessive_grammars_are_refused_quickly(text, problem, tmp_path):
    path = tmp_path / "commands.txt"
    path.write_text(text)
    started = process_time()
    with pytest.raises(UsageError, match=problem) as caught:
        read_grammar(path, SPELLING)
    assert process_time() - started < 10
    assert len(str(caught.value)) < 400


def test_a_long_plain_grammar_is_read():
    lines = [" ".join(words) for words in product(WORDS, repeat=5)]
    grammar = parse_grammar("\n".join(lines), SPELLING)
    assert accepts(grammar, written(["turn"] * 5))
