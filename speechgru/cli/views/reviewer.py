"""What `review` shows on a terminal: a caught clip, its levels, and the keys."""

from time import sleep
from typing import TYPE_CHECKING, Literal

import numpy as np

from speechgru.cli.keys import Keys
from speechgru.cli.terminal import Terminal, plain
from speechgru.errors import SpeechGRUError, UsageError

if TYPE_CHECKING:
    from speechgru.audio.player import Player
    from speechgru.corpora.review import CaughtClip, Decision, Filed, Review

_KEYS: "dict[str, Decision]" = {
    "y": "right",
    "o": "speech",
    "n": "noise",
    "w": "word",
    "x": "discard",
}
_HELP = (
    "y right  w another word  o other speech  n noise  x throw away\n"
    "space again  u undo  s speaker  q quit"
)
#: Seconds between two polls for a key.
_POLL_S = 0.03
_LEVELS = " .:-=+*#"
_CELLS, _LEVEL_DB = 48, (-60.0, -6.0)


class ReviewerView:
    """Asks for each clip, with one key, what it really was; plays it if there is a player."""

    def __init__(self, terminal: Terminal, review: "Review", player: "Player | None") -> None:
        self._terminal, self._review, self._player = terminal, review, player
        self._total = len(review.clips)
        self._speaker = review.speaker
        terminal.line(_HELP.partition("\n")[0])
        terminal.line(_HELP.partition("\n")[2])

    def ask(self, clip: "CaughtClip") -> "Filed | Literal['undo', 'quit'] | None":
        """Show and play a clip, and file it by a key; None if the key did something else."""
        number = self._total - len(self._review.pending) + 1
        score = "" if clip.score is None else f" {clip.score:.2f}"
        nearly = "nearly " if clip.kind != "event" else ""
        self._terminal.line(f"{number} of {self._total}  {nearly}{clip.word}{score}  {clip.name}")
        self._terminal.line(f"  |{levels(clip)}|")
        self._play(clip)
        while True:
            key = self._key()
            if key == "q":
                return "quit"
            if key == "u":
                return "undo"
            if key == " ":
                self._play(clip)
            elif key == "s":
                self._ask_speaker()
            elif key in _KEYS:
                return self._decide(clip, _KEYS[key])

    def show(self, filed: "Filed") -> None:
        """Show where a clip was filed."""
        self._terminal.text(plain(f"  {filed.path or 'thrown away'}", "green"))

    def _decide(self, clip: "CaughtClip", decision: "Decision") -> "Filed | None":
        word = self._ask_word() if decision == "word" else None
        if decision == "word" and not word:
            return None
        try:
            return self._review.decide(clip, decision, word, self._speaker)
        except UsageError as error:
            self._terminal.text(plain(f"  {error}", "yellow"))
            return None

    def _play(self, clip: "CaughtClip") -> None:
        if self._player is None:
            return
        try:
            self._player.play(clip.path)
        except SpeechGRUError as error:
            self._terminal.text(plain(f"  {error}", "yellow"))

    def _key(self) -> str:
        with Keys() as keys:
            while not (key := keys.poll()):
                sleep(_POLL_S)
        return key

    def _ask_speaker(self) -> None:
        from speechgru.corpora.own_recordings import check_speaker

        name = self._line(f"speaker [{self._speaker}]: ")
        try:
            self._speaker = check_speaker(name) if name else self._speaker
        except UsageError as error:
            self._terminal.text(plain(f"  {error}", "yellow"))

    def _ask_word(self) -> str:
        words = self._review.words
        for number, word in enumerate(words, 1):
            self._terminal.line(f"  {number} {word}")
        text = self._line("word, or its number (Enter: back): ")
        is_number = text.isdecimal() and 0 < int(text) <= len(words)
        return words[int(text) - 1] if is_number and text not in words else text

    def _line(self, prompt: str) -> str:
        self._terminal.console.print(plain(prompt), end="")
        try:
            return input().strip()
        except EOFError:
            return ""


def levels(clip: "CaughtClip") -> str:
    """A clip's loudness over time as characters, for those who cannot play it."""
    from speechgru.audio.files import read

    try:
        samples = read(clip.path)
    except SpeechGRUError as error:
        return str(error)
    pieces = np.array_split(samples, _CELLS)
    loudest = [float(np.abs(piece).max()) if len(piece) else 0.0 for piece in pieces]
    low, high = _LEVEL_DB
    shares = ((20 * np.log10(np.maximum(loudest, 1e-5)) - low) / (high - low)).clip(0, 1)
    return "".join(_LEVELS[round(share * (len(_LEVELS) - 1))] for share in shares.tolist())
