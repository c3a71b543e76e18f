"""What can be said: phrases as an automaton over the tokens of a CTC head. Needs no torch.

A grammar file has one phrase a line; `[words]` may be left out, of `(this|that)` one is said, and
so is of `[this|that]`; quotes hold a word together that has a space. Phrases may follow each other
without end, with other words between them. A line that begins with # is a remark.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from speechgru.errors import DataError, UsageError
from speechgru.labels import NOT_WORDS, UNKNOWN, Spelling

_PIECE = re.compile(
    r'\s*(?:(?P<mark>[()\[\]|])|"(?P<quoted>[^"]+)"|(?P<word>[^\s()\[\]|"]+)|(?P<odd>\S))'
)
_CLOSING = {"(": ")", "[": "]"}


@dataclass(frozen=True)
class Grammar:
    """A deterministic automaton; state 0 is the start.

    `arcs` has for each state the tokens that may follow, and where they lead; in a state that is
    `final` whole phrases have been said. `words` are all that occur in the phrases. If it
    `has_others`, any word of the model may stand between two phrases; its tokens are then those of
    the spelling plus their number.
    """

    arcs: tuple[dict[int, int], ...]
    final: tuple[bool, ...]
    words: tuple[str, ...]
    has_others: bool = False


def any_words(words: Iterable[str], spelling: Spelling) -> Grammar:
    """Words in any order.

    Raises:
        DataError: a word cannot be written in the model's tokens.
    """
    words = tuple(words)
    builder = _Builder(spelling)
    for word in words:
        builder.end_phrase(builder.add_word(0, word))
    return builder.grammar(words)


def read_grammar(path: Path, spelling: Spelling, others: Iterable[str] = ()) -> Grammar:
    """The grammar in a file; `others` are words that may stand between its phrases.

    Raises:
        UsageError: there is no such file, it has no phrase, or a line is wrong; names it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a grammar: not a text in UTF-8") from error
    return parse_grammar(text, spelling, str(path), others)


def parse_grammar(
    text: str, spelling: Spelling, source: str = "grammar", others: Iterable[str] = ()
) -> Grammar:
    """The grammar of a text, a phrase a line; `others` may stand between two phrases.

    Raises:
        UsageError: it has no phrase, or a line is wrong; names `source` and the line.
    """
    builder = _Builder(spelling)
    words: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            phrase = _Phrase(line, f"{source}, line {number}", builder)
            phrase.build()
            words |= dict.fromkeys(phrase.words)
    if not words:
        raise UsageError(f"{source}: no phrase; at least one is needed, a phrase a line")
    others = tuple(others)
    for word in others:
        builder.end_phrase(builder.add_word(0, word, len(spelling.tokens)))
    return builder.grammar(tuple(words), bool(others))


class _Builder:
    """Arcs from state to state by a token, or by none; made deterministic in the end.

    Phrases begin and end in state 0. Unknown words may stand between them.
    """

    def __init__(self, spelling: Spelling) -> None:
        self.spelling = spelling
        self._arcs: list[list[tuple[int | None, int]]] = [[]]
        if UNKNOWN in spelling.tokens:
            self.end_phrase(self.add_word(0, UNKNOWN))

    def new_state(self) -> int:
        self._arcs.append([])
        return len(self._arcs) - 1

    def add_word(self, state: int, word: str, shift: int = 0) -> int:
        """The state after a word's tokens, each moved up by a number."""
        for token in self.spelling.spell(word):
            following = self.new_state()
            self._arcs[state].append((token + shift, following))
            state = following
        return state

    def skip(self, state: int, target: int) -> None:
        """An arc without a token."""
        self._arcs[state].append((None, target))

    def end_phrase(self, state: int) -> None:
        self.skip(state, 0)

    def reached(self, states: Iterable[int]) -> frozenset[int]:
        """The states, and all to which arcs without a token lead from them."""
        found, waiting = set(states), list(states)
        while waiting:
            for token, target in self._arcs[waiting.pop()]:
                if token is None and target not in found:
                    found.add(target)
                    waiting.append(target)
        return frozenset(found)

    def grammar(self, words: tuple[str, ...], has_others: bool = False) -> Grammar:
        """The subsets of states that token after token can lead to (Rabin and Scott, 1959).

        Of each subset only the states with a token matter, which the start is one of.
        """
        telling = {
            state for state, arcs in enumerate(self._arcs) if any(t is not None for t, _ in arcs)
        }
        subsets = [self.reached([0]) & telling]
        places = {subsets[0]: 0}
        arcs: list[dict[int, int]] = []
        for subset in subsets:  # grows while it is read
            targets: dict[int, set[int]] = {}
            for state in subset:
                for token, target in self._arcs[state]:
                    if token is not None:
                        targets.setdefault(token, set()).add(target)
            arcs.append({})
            for token, states in sorted(targets.items()):
                reached = self.reached(states) & telling
                if reached not in places:
                    places[reached] = len(subsets)
                    subsets.append(reached)
                arcs[-1][token] = places[reached]
        final = tuple(0 in subset for subset in subsets)
        return Grammar(tuple(arcs), final, words, has_others)


class _Phrase:
    """Reads one line into a builder."""

    def __init__(self, line: str, place: str, builder: _Builder) -> None:
        self.place, self.builder = place, builder
        self.words: list[str] = []
        self._pieces = list(_PIECE.finditer(line.rstrip()))
        self._next = 0

    def build(self) -> None:
        end = self._sequence(0)
        if (mark := self._mark()) is not None:
            wanted = (
                "| stands inside ( ) or [ ] only" if mark == "|" else f"{mark} was never opened"
            )
            raise self._error(wanted)
        if end in self.builder.reached([0]):
            raise self._error("the phrase may be empty; a word of it must be said")
        self.builder.end_phrase(end)

    def _sequence(self, state: int) -> int:
        """Words and groups up to a mark that ends them; the state after them."""
        first = self._next
        while self._next < len(self._pieces) and self._mark() not in ("|", ")", "]"):
            piece = self._pieces[self._next]
            self._next += 1
            state = self._group(state, piece["mark"]) if piece["mark"] else self._word(state, piece)
        if self._next == first:
            raise self._error("words are missing; what may be left out stands in [ ]")
        return state

    def _group(self, state: int, opening: str) -> int:
        """Alternatives up to the closing mark."""
        end = self.builder.new_state()
        if opening == "[":
            self.builder.skip(state, end)
        while True:
            self.builder.skip(self._sequence(state), end)
            mark = self._mark()
            self._next += 1
            if mark == _CLOSING[opening]:
                return end
            if mark != "|":
                raise self._error(f"{opening} is not closed by {_CLOSING[opening]}")

    def _word(self, state: int, piece: re.Match[str]) -> int:
        word = piece["quoted"] or piece["word"]
        if word is None:
            raise self._error(f"{piece['odd']} is not closed")
        try:
            if word in NOT_WORDS:
                raise DataError(f"{word!r} is no word")
            state = self.builder.add_word(state, word)
        except DataError as error:
            near = get_close_matches(word, self.builder.spelling.tokens, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self._error(f"{error}{hint}") from error
        self.words.append(word)
        return state

    def _mark(self) -> str | None:
        """The next piece, if it is a mark."""
        return self._pieces[self._next]["mark"] if self._next < len(self._pieces) else None

    def _error(self, what: str) -> UsageError:
        return UsageError(f"{self.place}: {what}")
