"""Grammars: the phrases that a user can say, as an automaton over the tokens of a CTC head.

A grammar file has one phrase per line. `[words]` are optional; `(this|that)` and `[this|that]` list
alternatives; quotes enclose a word that contains a space. Any number of phrases may follow one
another, with other words between them. Lines that start with # are comments.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from speechgru.errors import DataError, UsageError
from speechgru.labels import NOT_WORDS, UNKNOWN, Spelling

#: The longest grammar, in characters, and the deepest nesting of ( ) and [ ].
LONGEST_TEXT, DEEPEST_NESTING = 1_000_000, 50
#: Limits the automaton, as each optional word before a common one can double its states: the total
#: size of all sets of states that the construction visits.
LARGEST_AUTOMATON = 2_000_000

_PIECE = re.compile(
    r'\s*(?:(?P<mark>[()\[\]|])|"(?P<quoted>[^"]+)"|(?P<word>[^\s()\[\]|"]+)|(?P<odd>\S))'
)
_CLOSING = {"(": ")", "[": "]"}


@dataclass(frozen=True)
class Grammar:
    """A deterministic automaton; state 0 is the start.

    Args:
        arcs: for each state the tokens that may follow, each with the next state.
        final: for each state whether all phrases so far are complete in it.
        words: all words that occur in the phrases.
        has_others: whether any word of the model may stand between two phrases. The tokens of such
            words are those of the spelling plus their number.
    """

    arcs: tuple[dict[int, int], ...]
    final: tuple[bool, ...]
    words: tuple[str, ...]
    has_others: bool = False


def any_words(words: Iterable[str], spelling: Spelling) -> Grammar:
    """Words in any order.

    Raises:
        DataError: a word cannot be spelled with the model's tokens.
    """
    words = tuple(words)
    builder = _Builder(spelling)
    for word in words:
        builder.end_phrase(builder.add_word(0, word))
    return builder.grammar(words)


def read_grammar(path: Path, spelling: Spelling, others: Iterable[str] = ()) -> Grammar:
    """Read a grammar from a file; `others` are words that may stand between its phrases.

    Raises:
        UsageError: there is no such file, it has no phrase, is too large, or a line is invalid;
            the message names the line.
    """
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            text = file.read(LONGEST_TEXT + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a grammar: the file is not UTF-8 text") from error
    return parse_grammar(text, spelling, str(path), others)


def parse_grammar(
    text: str, spelling: Spelling, source: str = "grammar", others: Iterable[str] = ()
) -> Grammar:
    """Parse a grammar; `others` are words that may stand between its phrases.

    Raises:
        UsageError: it has no phrase, is too large, or a line is invalid; the message names `source`
            and the line.
    """
    if len(text) > LONGEST_TEXT:
        raise UsageError(f"{source}: longer than {LONGEST_TEXT} characters")
    builder = _Builder(spelling)
    words: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            phrase = _Phrase(line, f"{source}, line {number}", builder)
            phrase.build()
            words |= dict.fromkeys(phrase.words)
    if not words:
        raise UsageError(f"{source}: no phrase; at least one is needed, one per line")
    others = tuple(others)
    for word in others:
        builder.end_phrase(builder.add_word(0, word, len(spelling.tokens)))
    try:
        return builder.grammar(tuple(words), bool(others), LARGEST_AUTOMATON)
    except OverflowError as error:
        raise UsageError(
            f"{source}: too many combinations of optional words and alternatives; use fewer or "
            "shorter phrases"
        ) from error


class _Builder:
    """Arcs between states, with or without a token, made deterministic at the end.

    Phrases start and end in state 0. Unknown words may stand between them.
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
        """The state after a word's tokens, each increased by `shift`."""
        for token in self.spelling.spell(word):
            following = self.new_state()
            self._arcs[state].append((token + shift, following))
            state = following
        return state

    def skip(self, state: int, target: int) -> None:
        """Add an arc without a token."""
        self._arcs[state].append((None, target))

    def end_phrase(self, state: int) -> None:
        self.skip(state, 0)

    def reached(self, states: Iterable[int]) -> frozenset[int]:
        """The states, and those reached by arcs without a token, but not through state 0."""
        waiting = list(states)
        found = set(waiting)
        while waiting:
            state = waiting.pop()
            for token, target in self._arcs[state] if state else ():
                if token is None and target not in found:
                    found.add(target)
                    waiting.append(target)
        return frozenset(found)

    def grammar(
        self, words: tuple[str, ...], has_others: bool = False, largest: int | None = None
    ) -> Grammar:
        """The automaton over sets of states (Rabin and Scott, 1959).

        In each set only state 0 and states with a token matter. State 0, where every phrase starts,
        stands for all states that it leads to.

        Raises:
            OverflowError: the sets visited have more than `largest` states altogether.
        """
        relevant = {
            state for state, arcs in enumerate(self._arcs) if any(t is not None for t, _ in arcs)
        } | {0}
        first = self.reached(target for token, target in self._arcs[0] if token is None)
        from_start = self._targets([0, *first], {})
        subsets = [frozenset({0})]
        numbers = {subsets[0]: 0}
        arcs: list[dict[int, int]] = []
        visited = 0
        for subset in subsets:  # grows during the loop
            targets = self._targets(subset - {0}, from_start if 0 in subset else {})
            arcs.append({})
            for token, states in sorted(targets.items()):
                reached = self.reached(states)
                visited += len(reached)
                if largest is not None and visited > largest:
                    raise OverflowError(f"more than {largest} states")
                reached &= relevant
                if reached not in numbers:
                    numbers[reached] = len(subsets)
                    subsets.append(reached)
                arcs[-1][token] = numbers[reached]
        final = tuple(0 in subset for subset in subsets)
        return Grammar(tuple(arcs), final, words, has_others)

    def _targets(
        self, states: Iterable[int], others: Mapping[int, set[int]]
    ) -> dict[int, set[int]]:
        """For each token, the states that it leads to from these, and those in `others`."""
        targets = {token: set(states) for token, states in others.items()}
        for state in states:
            for token, target in self._arcs[state]:
                if token is not None:
                    targets.setdefault(token, set()).add(target)
        return targets


class _Phrase:
    """Parses one line into a builder."""

    def __init__(self, line: str, place: str, builder: _Builder) -> None:
        self.place, self.builder = place, builder
        self.words: list[str] = []
        self._pieces = list(_PIECE.finditer(line.rstrip()))
        self._next = self._depth = 0

    def build(self) -> None:
        start = self.builder.new_state()
        end = self._sequence(start)
        if (mark := self._mark()) is not None:
            problem = (
                "| stands inside ( ) or [ ] only" if mark == "|" else f"{mark} was never opened"
            )
            raise self._error(problem)
        if end in self.builder.reached([start]):
            raise self._error("all words of the phrase are optional; at least one must not be")
        self.builder.skip(0, start)
        self.builder.end_phrase(end)

    def _sequence(self, state: int) -> int:
        """Words and groups up to a mark that ends them; the state after them."""
        first = self._next
        while self._next < len(self._pieces) and self._mark() not in ("|", ")", "]"):
            piece = self._pieces[self._next]
            self._next += 1
            state = self._group(state, piece["mark"]) if piece["mark"] else self._word(state, piece)
        if self._next == first:
            raise self._error("words are missing; optional words are written in [ ]")
        return state

    def _group(self, state: int, opening: str) -> int:
        """Alternatives up to the closing mark."""
        self._depth += 1
        if self._depth > DEEPEST_NESTING:
            raise self._error(f"groups are nested deeper than {DEEPEST_NESTING}")
        end = self.builder.new_state()
        if opening == "[":
            self.builder.skip(state, end)
        while True:
            self.builder.skip(self._sequence(state), end)
            mark = self._mark()
            self._next += 1
            if mark == _CLOSING[opening]:
                self._depth -= 1
                return end
            if mark != "|":
                raise self._error(f"{opening} is not closed by {_CLOSING[opening]}")

    def _word(self, state: int, piece: re.Match[str]) -> int:
        word = piece["quoted"] or piece["word"]
        if word is None:
            raise self._error(f"{piece['odd']} is not closed")
        try:
            if word in NOT_WORDS:
                raise DataError(f"{word!r} is not a word")
            state = self.builder.add_word(state, word)
        except DataError as error:
            near = get_close_matches(word[:100], self.builder.spelling.tokens, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self._error(f"{error}{hint}") from error
        self.words.append(word)
        return state

    def _mark(self) -> str | None:
        """The next piece if it is a mark."""
        return self._pieces[self._next]["mark"] if self._next < len(self._pieces) else None

    def _error(self, problem: str) -> UsageError:
        return UsageError(f"{self.place}: {problem}")
