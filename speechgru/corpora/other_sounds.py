"""Other speech and noise that ship with the package, for corpora that have only words.

46 minutes: half of AN4's speakers, LibriSpeech utterances and ESC-10 recordings.
`recipes/make_other_sounds.py` made the archive; licences and attribution lie in it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from speechgru.corpora.bundled_archives import unpacked

#: One speaker, and one noise, of so many is for validation.
_VALIDATION_EVERY = 6


@dataclass(frozen=True)
class OtherSpeech:
    """An utterance; `transcript` is in lower case, or None."""

    path: Path
    speaker: str
    transcript: str | None
    split: str


@dataclass(frozen=True)
class OtherSounds:
    """Utterances, and recordings of noise with their splits ("training" or "validation")."""

    utterances: tuple[OtherSpeech, ...]
    noises: tuple[tuple[Path, str], ...]

    def speech(self, split: str, without: Collection[str] = ()) -> tuple[Path, ...]:
        """The utterances of a split, without those whose transcript has one of these words."""
        unwanted = {word.lower() for word in without}
        return tuple(
            utterance.path
            for utterance in self.utterances
            if utterance.split == split
            and not unwanted.intersection((utterance.transcript or "").split())
        )

    def noise(self, split: str) -> tuple[Path, ...]:
        """The noise recordings of a split."""
        return tuple(path for path, of_split in self.noises if of_split == split)


def other_sounds(cache_dir: Path | None = None) -> OtherSounds:
    """Unpack what ships into the cache. No speaker is in both splits.

    Raises:
        SpeechGRUError: the cache cannot be written, or the disk is full.
    """
    folder = unpacked("other_sounds", cache_dir)
    rows = (folder / "transcripts.tsv").read_text(encoding="utf-8").splitlines()
    transcripts = dict(row.split("\t") for row in rows)
    recordings = sorted((folder / "speech").glob("*.ogg"))
    # <set>-<speaker>-<utterance>
    speakers = ["-".join(path.stem.split("-")[:2]) for path in recordings]
    validating = set(sorted(set(speakers))[_VALIDATION_EVERY // 2 :: _VALIDATION_EVERY])
    utterances = [
        OtherSpeech(
            path,
            speaker,
            transcripts.get(f"speech/{path.name}"),
            "validation" if speaker in validating else "training",
        )
        for path, speaker in zip(recordings, speakers, strict=True)
    ]
    noises = [
        (path, "validation" if place % _VALIDATION_EVERY == _VALIDATION_EVERY // 2 else "training")
        for place, path in enumerate(sorted((folder / "noise").glob("*.ogg")))
    ]
    return OtherSounds(tuple(utterances), tuple(noises))
