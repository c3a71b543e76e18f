"""What a speech engine has to do, and what its takes have in common."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from speechgru.audio.samples import Samples


class Delivery(NamedTuple):
    """How a text is spoken: speed and pitch as multiples of the voice's own."""

    speed: float
    pitch: float


class Engine(Protocol):
    """A text-to-speech engine with the voices of one language."""

    #: As in `--engine`, and in the names of speakers.
    name: str

    def voices(self) -> Sequence[str]:
        """The names of the voices, sorted; at least one."""
        ...

    def speak(self, text: str, voice: str, delivery: Delivery) -> Samples:
        """A text at 16 kHz, (S,).

        Raises:
            SpeechGRUError: the engine fails.
        """
        ...

    def phonemes(self, texts: Sequence[str]) -> list[str]:
        """How each text is pronounced, in IPA."""
        ...
