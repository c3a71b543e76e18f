"""Small corpora on disk, made file by file."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def noise(seed: int, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """White noise of its own for each seed, peak well below full scale: (S,)."""
    samples = np.random.default_rng(seed).standard_normal(round(seconds * rate))
    return (0.1 * np.clip(samples, -3, 3)).astype(np.float32)


class Corpus:
    """A folder and its manifest; `add` writes a recording and its line."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = root / "manifest.csv"
        self.manifest.write_text("file,word,speaker,split\n")
        self.files = 0

    def list(self, name: str, word: str, speaker: str, split: str) -> Path:
        """Add a line to the manifest; the file is the caller's to write."""
        with self.manifest.open("a") as file:
            file.write(f"{name},{word},{speaker},{split}\n")
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add(
        self,
        word: str,
        samples: np.ndarray | None = None,
        *,
        speaker: str = "anna",
        split: str = "training",
        rate: int = RATE,
        subtype: str = "PCM_16",
        suffix: str = "wav",
    ) -> str:
        """Write a recording (noise of its own where no samples are given); gives its name."""
        self.files += 1
        name = f"{word}/{self.files:03d}.{suffix}"
        path = self.list(name, word, speaker, split)
        samples = noise(self.files, rate=rate) if samples is None else samples
        soundfile.write(path, samples, rate, subtype=subtype)
        return name


def sound_corpus(root: Path, words: tuple[str, ...] = ("yes", "no"), clips: int = 10) -> Corpus:
    """A corpus with nothing wrong: each split has a speaker of its own and every word."""
    corpus = Corpus(root)
    for word in words:
        for _ in range(clips):
            corpus.add(word)
        corpus.add(word, speaker="boris", split="validation")
        corpus.add(word, speaker="clara", split="testing")
    return corpus
