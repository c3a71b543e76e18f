"""espeak-ng: a program with a hundred voices in each of many languages."""

import io
import re
import shutil
import subprocess
from collections.abc import Sequence

import soundfile

from speechgru.audio.samples import SAMPLE_RATE, Samples, to_mono
from speechgru.corpora.synthetic.engine import Delivery
from speechgru.errors import SpeechGRUError, UsageError

PROGRAM = "espeak-ng"

#: Variants that are unlike any speaker: whispers, robots, echoes.
_UNLIKE_SPEAKERS = re.compile(
    r"whisper|robo|demonic|announcer|anxious|fast|richishay|klatt6?$|grandpa|caleb|henrique|mr$|"
    r"klatt2",
    re.IGNORECASE,
)
#: At the default amplitude of 100 some variants clip.
_AMPLITUDE = 50
_WORDS_PER_MINUTE = 155
#: Of the range of 0 to 99: the middle, and how far it moves if the pitch is multiplied by e.
_PITCH, _PITCH_RANGE = 50, 150
_TIMEOUT_S = 60


class Espeak:
    """The installed espeak-ng, a voice being an accent of the language with a variant.

    Raises:
        SpeechGRUError: it is not installed.
        UsageError: it does not speak the language.
    """

    name = "espeak"

    def __init__(self, language: str) -> None:
        if not is_installed():
            raise SpeechGRUError("espeak-ng is not installed (apt-get install espeak-ng)")
        self.language = language
        accents = sorted(_listed(language, column=1, without="mb/"))
        if not accents:
            raise UsageError(f"--language {language}: espeak-ng does not speak it")
        variants = [
            file.removeprefix("!v/")
            for file in _listed("variant", column=4)
            if not _UNLIKE_SPEAKERS.search(file)
        ]
        # Every accent has each variant; in this order the first voices differ in both.
        variants = sorted(set(variants), key=str.lower)
        self._voices = [
            f"{accents[(place + turn) % len(accents)]}+{variant}"
            for turn in range(len(accents))
            for place, variant in enumerate(variants)
        ]

    def voices(self) -> Sequence[str]:
        """Accents with variants, such as "en-us+f3"."""
        return self._voices

    def speak(self, text: str, voice: str, delivery: Delivery) -> Samples:
        """A text at 16 kHz, (S,)."""
        options = {
            "-v": voice,
            "-a": _AMPLITUDE,
            "-s": round(_WORDS_PER_MINUTE * delivery.speed),
            "-p": min(max(round(_PITCH + _PITCH_RANGE * (delivery.pitch - 1)), 0), 99),
        }
        arguments = [str(part) for option in options.items() for part in option]
        content = _run([*arguments, "--stdout", "--stdin"], text)
        frames, rate = soundfile.read(io.BytesIO(content), dtype="float32")
        return to_mono(frames, rate, SAMPLE_RATE, f"espeak-ng, voice {voice}")

    def phonemes(self, texts: Sequence[str]) -> list[str]:
        """How each text is pronounced, in IPA."""
        # A blank line ends a sentence.
        lines = self._ipa("\n\n".join(texts))
        return lines if len(lines) == len(texts) else [" ".join(self._ipa(t)) for t in texts]

    def _ipa(self, text: str) -> list[str]:
        output = _run(["-q", "--ipa", "-v", self.language, "--stdin"], text).decode()
        return [line.strip() for line in output.splitlines() if line.strip()]


def is_installed() -> bool:
    """Whether the program is found."""
    return shutil.which(PROGRAM) is not None


def _listed(language: str, column: int, without: str = "") -> set[str]:
    """A column of `espeak-ng --voices=LANGUAGE`, without voices whose file begins so."""
    rows = [line.split() for line in _run([f"--voices={language}"]).decode().splitlines()[1:]]
    return {
        row[column]
        for row in rows
        if not (without and row[4].startswith(without))
        and (row[1] == "variant") == (language == "variant")
    }


def _run(arguments: Sequence[str], text: str = "") -> bytes:
    try:
        done = subprocess.run(
            [PROGRAM, *arguments], input=text.encode(), capture_output=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpeechGRUError(f"espeak-ng cannot be run: {error}") from error
    if done.returncode or done.stderr:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise SpeechGRUError(f"espeak-ng: {said or f'exit code {done.returncode}'}")
    return done.stdout
