"""Other speech and noise that ship with the package, for corpora that have only words.

46 minutes: half of AN4's speakers, LibriSpeech utterances and ESC-10 recordings.
`recipes/make_other_sounds.py` made the archive; licences and attribution lie in it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
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
        of_split = (utterance for utterance in self.utterances if utterance.split == split)
        return paths_without(of_split, without)

    def leave_out(self, fold: int, folds: int) -> tuple["OtherSounds", tuple[OtherSpeech, ...]]:
        """The same without some of the training speakers, and their utterances.

        Over all folds each training speaker is left out once.
        """
        speakers = sorted({u.speaker for u in self.utterances if u.split == "training"})
        chosen = set(speakers[fold::folds])
        left_out = tuple(u for u in self.utterances if u.speaker in chosen)
        kept = tuple(u for u in self.utterances if u.speaker not in chosen)
        return replace(self, utterances=kept), left_out

    def noise(self, split: str) -> tuple[Path, ...]:
        """The noise recordings of a split."""
        return tuple(path for path, of_split in self.noises if of_split == split)


def paths_without(utterances: Iterable[OtherSpeech], words: Collection[str]) -> tuple[Path, ...]:
    """The recordings of those utterances whose transcript has none of these words or phrases."""
    unwanted = [f" {word.lower()} " for word in words]
    transcripts = ((u.path, f" {u.transcript or ''} ") for u in utterances)
    return tuple(path for path, said in transcripts if not any(word in said for word in unwanted))


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
