"""Grammars: they accept what a regular expression does, and what is wrong is told."""

import re
from itertools import product

import pytest

from speechgru.decoding.grammar import any_words, parse_grammar, read_grammar
from speechgru.errors import UsageError
from speechgru.labels import UNKNOWN, Spelling

WORDS = ("turn", "left", "right", "stop", "now")
SPELLING = Spelling.of(WORDS, "words")
LETTERS = {word: word[0] for word in WORDS}


def accepts(grammar, tokens):
    """Whether whole phrases are said, after any sequence of tokens."""
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
def test_what_is_accepted_is_phrases_one_after_the_other(text, expression):
    grammar = parse_grammar(text, SPELLING)
    phrases = re.compile(f"({expression})*")
    said = [words for n in range(5) for words in product(WORDS, repeat=n)]
    for words in said:
        expected = phrases.fullmatch("".join(LETTERS[word] for word in words))
        assert accepts(grammar, written(words)) == bool(expected), words
    assert set(grammar.words) == {w for w in WORDS if LETTERS[w] in expression}


def test_any_words_are_accepted_where_no_grammar_is_given():
    grammar = any_words(WORDS, SPELLING)
    assert len(grammar.arcs) == 1
    assert accepts(grammar, written(["left", "left", "stop"]))


def test_unknown_words_may_stand_between_phrases_only():
    spelling = Spelling.of((UNKNOWN, *WORDS), "words")
    grammar = parse_grammar("turn left", spelling)
    said = {word: spelling.spell(word)[0] for word in (UNKNOWN, "turn", "left")}
    u, t, left = said[UNKNOWN], said["turn"], said["left"]
    assert accepts(grammar, [u, u, t, left, u, t, left])
    assert not accepts(grammar, [t, u, left])
    assert accepts(any_words(WORDS, spelling), [u, t, u])


def test_in_characters_words_share_their_beginnings():
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
    "turn lift": r"line 1: 'lift' cannot be written: .*did you mean 'left'\?",
    "stop\nturn (left|right": r"line 2: \( is not closed by \)",
    "turn [left": r"line 1: \[ is not closed by \]",
    "turn (left]": r"line 1: \( is not closed by \)",
    "turn left)": r"line 1: \) was never opened",
    "left | right": r"line 1: \| stands inside \( \) or \[ \] only",
    "turn (left|)": r"line 1: words are missing",
    "turn ()": r"line 1: words are missing",
    "# nothing\n[now] [stop]": r"line 2: the phrase may be empty",
    'turn "left': r'line 1: " is not closed',
    "turn _unknown_": r"line 1: '_unknown_' is no word",
    "": r"no phrase; at least one is needed",
    "# only a remark\n \n": r"no phrase",
}


@pytest.mark.parametrize(("text", "said"), WRONG.items())
def test_what_is_wrong_is_told_with_file_and_line(text, said, tmp_path):
    path = tmp_path / "commands.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"commands.txt.*{said}") as caught:
        read_grammar(path, Spelling.of((UNKNOWN, *WORDS), "words"))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.txt: cannot be read"):
        read_grammar(tmp_path / "none.txt", SPELLING)
    (tmp_path / "odd.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"odd\.txt: not a grammar"):
        read_grammar(tmp_path / "odd.txt", SPELLING)
