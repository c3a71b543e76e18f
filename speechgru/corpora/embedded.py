"""The corpus in the package: 20 words in 74 voices of espeak-ng, to train on without a download.

`recipes/make_embedded_corpus.py` made the archive. It holds no recordings: all speech is the output
of espeak-ng and all noise is computed, so it is under the project's own licence.
"""

from pathlib import Path

from speechgru.corpora.bundled_archives import archive_bytes, unpacked


def embedded_corpus(cache_dir: Path | None = None) -> Path:
    """The directory of the embedded corpus, in the layout of Speech Commands.

    Raises:
        SpeechGRUError: the cache cannot be written, or the disk is full.
    """
    return unpacked("embedded", cache_dir)


def embedded_archive() -> bytes:
    """The zip in the package."""
    return archive_bytes("embedded")
