"""Writes a corpus of one's own recordings: `word/speaker_3.wav`, room noise, other speech."""

import re
import unicodedata
import wave
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from speechgru.audio.pcm import to_packed
from speechgru.audio.samples import Samples
from speechgru.common.files import write_atomic
from speechgru.common.locks import lock_file
from speechgru.common.word_folders import folder_name
from speechgru.corpora.folders import SPLIT_FOLDERS, split_folders
from speechgru.corpora.listing import BACKGROUND_NOISE, list_words, normalized
from speechgru.corpora.speaker_names import is_made, speaker_in_name
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.labels import UNKNOWN

#: Held in a directory of word folders while a recording gets its number there.
NUMBERS_LOCK = ".recordings.lock"
#: Not allowed in names, besides what a file system refuses: control characters, line separators,
#: half a surrogate pair.
_UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def usual_speaker(root: Path) -> str:
    """The only speaker of the words in a directory, by folders and the names of files; else "me".

    Also "me" if recordings of that speaker could not be told from others by their names.
    """
    folders = list_words(root).folders if root.is_dir() else {}
    words = [word for word in folders if not word.startswith("_")]
    names = {
        normalized(name.partition("/")[0]) if "/" in name else speaker_in_name(name, word)
        for word in words
        for name in folders[word]
    }
    names = {name for name in names if not is_made(name)}
    if len({name.casefold() for name in names}) != 1:
        return "me"
    with suppress(UsageError):
        return check_speaker(min(names), words=words)
    return "me"


class OwnRecordings:
    """Writes recordings of words into `root`, atomically, numbered by speaker.

    Other processes and sessions may write there too: none overwrites another's recording.

    Args:
        speaker: precedes the number in each file name, and keeps a speaker in one split.

    Raises:
        UsageError: the name of the speaker, or of a word, cannot be a file name.
        SpeechGRUError: the folder cannot be created.
    """

    def __init__(self, root: Path, speaker: str, rate: int) -> None:
        self.root, self.speaker, self.rate = Path(root), check_speaker(speaker), rate
        #: This session's takes, with what tells each from another of the same name.
        self._takes: list[tuple[Path, tuple[int, int]]] = []
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpeechGRUError(f"{root}: cannot be created: {error.strerror or error}") from error

    def count(self, word: str) -> int:
        """How many recordings of a word this speaker has."""
        return len(numbered(self.root / checked_name(word, "WORD"), self.speaker))

    def add(self, word: str, samples: Samples) -> Path:
        """Write a recording of a word, (S,); returns its path.

        Raises:
            SpeechGRUError: it cannot be written.
        """
        path = self._write(checked_name(word, "WORD"), self.speaker, samples)
        self._takes.append((path, _identity(path)))
        return path

    def find(self, word: str, samples: Samples) -> Path | None:
        """An earlier session's recording of a word that has exactly these samples, (S,)."""
        content, taken = self._as_wav(samples), {path for path, _ in self._takes}
        for path in sorted((self.root / checked_name(word, "WORD")).glob("*.wav")):
            if path in taken or path.stat().st_size != len(content):
                continue
            if path.read_bytes() == content:
                return path
        return None

    def add_room(self, samples: Samples) -> Path:
        """Write a recording of the room, (S,), as background noise."""
        return self._write(BACKGROUND_NOISE, f"room_{self.speaker}", samples)

    def add_talk(self, samples: Samples) -> Path:
        """Write running speech without any of the words, (S,)."""
        return self._write(UNKNOWN, self.speaker, samples)

    def undo(self) -> Path | None:
        """Delete the last recording of a word in this session; None if there is none left.

        One that has been deleted since, or replaced by another, is left as it is.

        Raises:
            SpeechGRUError: it cannot be deleted.
        """
        if not self._takes:
            return None
        path, identity = self._takes.pop()
        try:
            if path.exists() and _identity(path) == identity:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise SpeechGRUError(f"{path}: cannot be deleted: {error.strerror or error}") from error
        return path

    def _as_wav(self, samples: Samples) -> bytes:
        content = BytesIO()
        with wave.open(content, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self.rate)
            file.writeframes(to_packed(samples).tobytes())
        return content.getvalue()

    def _write(self, folder: str, prefix: str, samples: Samples) -> Path:
        content = self._as_wav(samples)
        with lock_file(self.root / NUMBERS_LOCK):
            path = next_path(self.root / folder, prefix, ".wav")
            write_atomic(path, content)
        return path


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def numbered(folder: Path, prefix: str) -> dict[Path, int]:
    """The files of a folder that are named by a prefix and a number, with their numbers."""
    name = re.compile(re.escape(prefix) + r"_(\d+)\.\w+")
    found = ((path, name.fullmatch(path.name)) for path in folder.glob("*"))
    return {path: int(match[1]) for path, match in found if match}


def next_path(folder: Path, prefix: str, suffix: str) -> Path:
    """The path of the next number, which no file has; the caller holds the lock `NUMBERS_LOCK`.

    Where the case of letters does not count, "Anna_1.wav" may be there already as "anna_1.wav".
    """
    number = max(numbered(folder, prefix).values(), default=0) + 1
    while (path := folder / f"{prefix}_{number}{suffix}").exists():
        number += 1
    return path


def check_undivided(data: Path, option: str) -> None:
    """Raise UsageError for a directory whose folders are splits: recordings go into one of them."""
    if data.is_dir() and (splits := split_folders(list_words(data))):
        training = [name for name in splits if SPLIT_FOLDERS[name.lower()] == "training"]
        raise UsageError(
            f"{option} {data}: is divided into {', '.join(splits)}; name one of them, such as "
            f"{data / (*training, *splits)[0]}"
        )


def check_speaker(name: str, option: str = "--speaker", words: Iterable[str] = ()) -> str:
    """The name of a speaker, if it can begin a file's name and be read off it again.

    Args:
        option: what the user gave it as.
        words: those that the speaker says.

    Raises:
        UsageError: it cannot.
    """
    checked_name(name, option)
    if "_" in name or "-" in name:
        raise UsageError(f"{option} {name}: must not contain _ or -, which end a speaker's name")
    if name.isdigit():
        raise UsageError(f"{option} {name}: a name is needed, not only a number")
    for word in ("", *words):
        read = speaker_in_name(f"{name}_1.wav", word)
        if read.replace(" ", "") != name.replace(" ", ""):
            as_whom = f"as {read!r}" if read else "as nobody"
            raise UsageError(
                f"{option} {name}: is read {as_whom} from a recording's name; choose another"
            )
    return name


def checked_name(name: str, option: str) -> str:
    """A name of a speaker or a word that can be a file name.

    Raises:
        UsageError: it cannot.
    """
    unsafe = any(unicodedata.category(character) in _UNSAFE for character in name)
    if not name or unsafe or len(name) > 60 or folder_name(name) != name:
        raise UsageError(
            f"{option} {name!r:.80}: up to 60 letters, digits, spaces and the like are needed; "
            'none of / \\ : * ? " < > |, no . _ or space in front, no . or space at the end, '
            "and no name that Windows reserves"
        )
    return name
