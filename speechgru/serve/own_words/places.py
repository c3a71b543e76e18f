"""Where the page may write, and what is there."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechgru.common.word_folders import folder_word
from speechgru.corpora.listing import list_words, normalized
from speechgru.corpora.own_recordings import check_undivided
from speechgru.corpora.review import check_apart
from speechgru.corpora.speaker_names import MADE
from speechgru.errors import SpeechGRUError, UsageError

#: Bytes that recordings leave free on their disk.
FREE_BYTES = 2**27


@dataclass(frozen=True)
class Places:
    """The directories that the page may use, and the recipe that it trains with.

    Args:
        data: word folders; recordings and reviewed clips go there, training reads them.
        caught: what `listen --save-dir` or the page saved, to be sorted into `data`; None: nothing.
        runs: holds the run directories.
        recipe: a name or a file.
    """

    data: Path
    caught: Path | None = None
    runs: Path = Path("runs")
    recipe: str = "my-words"

    def check(self) -> None:
        """Raise UsageError if a directory is a file, the data is divided, or clips lie in it."""
        options = {"--data": self.data, "--caught": self.caught, "--runs": self.runs}
        for option, path in options.items():
            if path is not None and path.exists() and not path.is_dir():
                raise UsageError(f"{option} {path}: is not a directory")
        check_undivided(self.data, "--data")
        if self.caught is not None:
            check_apart(self.caught, self.data, "--caught")

    def check_free(self) -> None:
        """Raise SpeechGRUError if the disk of the recordings, or of the clips, is nearly full."""
        for path in filter(None, (self.data, self.caught)):
            existing = next(p for p in (path, *path.absolute().parents) if p.exists())
            free = shutil.disk_usage(existing).free
            if free < FREE_BYTES:
                raise SpeechGRUError(
                    f"{path}: only {free // 2**20} MB are free on this disk; recording stops at "
                    f"{FREE_BYTES // 2**20} MB"
                )

    def words(self) -> list[dict[str, Any]]:
        """Each word of the data, with the number of recordings by speaker.

        The speaker is what precedes the number in the names that `record` gives.

        Raises:
            DataError: a folder cannot be read.
        """
        if not self.data.is_dir():
            return []
        found = []
        for folder, names in list_words(self.data).folders.items():
            if not folder.startswith("_"):
                word = normalized(folder_word(self.data / folder))
                found.append({"word": word, "takes": len(names), "speakers": _by_speaker(names)})
        return found

    def take(self, name: str) -> Path | None:
        """The recording of this name below the data; None if there is none."""
        path = self.data.joinpath(*name.split("/"))
        hidden = any(part.startswith(".") for part in name.split("/"))
        try:
            inside = path.resolve().is_relative_to(self.data.resolve())
            found = inside and not hidden and path.suffix == ".wav" and path.is_file()
        except (OSError, ValueError):  # no file can have this name
            return None
        return path if found else None

    def delete(self, name: str) -> bool:
        """Delete the recording of this name below the data; whether there was one.

        Raises:
            SpeechGRUError: it cannot be deleted.
        """
        path = self.take(name)
        if path is None:
            return False
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise SpeechGRUError(f"{path}: cannot be deleted: {error.strerror or error}") from error
        return True


def _by_speaker(names: list[str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name in names:
        speaker, _, rest = normalized(name).rpartition("_")
        if speaker and "/" not in name and rest.split(".")[0].isdecimal():
            counts[speaker] += 1
    return {speaker: n for speaker, n in counts.items() if not speaker.startswith(MADE)}
