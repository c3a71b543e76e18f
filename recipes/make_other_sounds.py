"""Make speechgru/corpora/other_sounds.zip: other speech and noise that ships with the package.

    python recipes/make_other_sounds.py DIRECTORY

DIRECTORY holds `ambient-speech`, `an4` and `esc-10`. Of each set only the training half is taken:
of the first and the last every second file by name, of `an4` every second speaker. The other
halves test false alarms and are in no model. Needs soundfile with libsndfile 1.2 for Opus.
"""

import argparse
import io
import sys
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import soundfile

TARGET = Path(__file__).resolve().parents[1] / "speechgru" / "corpora" / "other_sounds.zip"
#: libsndfile's scale from the highest rate (0) to the lowest (1): about 24 kbit/s of speech.
COMPRESSION = 0.9
LICENCE = """\
Recordings in this archive, and their licences

speech/librispeech-*: LibriSpeech, V. Panayotov, G. Chen, D. Povey and S. Khudanpur, "LibriSpeech:
an ASR corpus based on public domain audio books", ICASSP 2015; CC BY 4.0
(https://creativecommons.org/licenses/by/4.0/). Re-encoded as Ogg Opus.

speech/an4-*: AN4, Carnegie Mellon University; see LICENSE-an4.

noise/*: ESC-10, K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM
Multimedia 2015; CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/); authors of the
recordings in ATTRIBUTION-esc-10.md. Re-encoded as Ogg Opus.
"""


def every_second(paths: list[Path]) -> list[Path]:
    """The first, the third, ... by name."""
    return sorted(paths)[::2]


def members(root: Path) -> dict[str, bytes]:
    """Names in the archive with their content."""
    an4 = root / "an4"
    rows = [line.split("\t") for line in (an4 / "transcripts.tsv").read_text().splitlines()]
    speakers = set(sorted({speaker for _, speaker, _ in rows})[::2])
    found: dict[str, bytes] = {"LICENSE": LICENCE.encode()}
    found["LICENSE-an4"] = (an4 / "LICENSE").read_bytes()
    found["ATTRIBUTION-esc-10.md"] = (root / "esc-10" / "README-attribution.md").read_bytes()
    transcripts = []
    for name, speaker, text in rows:
        if speaker in speakers:
            recording = f"speech/an4-{speaker}-{name}.ogg"
            found[recording] = (an4 / "utterances" / f"{name}.ogg").read_bytes()
            transcripts.append(f"{recording}\t{text.lower()}\n")
    for path in every_second(list((root / "ambient-speech").glob("*.flac"))):
        found[f"speech/librispeech-{path.stem}.ogg"] = as_opus(path)
    for path in every_second(list((root / "esc-10").glob("*/*.ogg"))):
        found[f"noise/{path.parent.name}-{path.name}"] = path.read_bytes()
    found["transcripts.tsv"] = "".join(sorted(transcripts)).encode()
    return found


def as_opus(path: Path) -> bytes:
    """A recording as Ogg Opus."""
    samples, rate = soundfile.read(path)
    file = io.BytesIO()
    soundfile.write(
        file, samples, rate, format="OGG", subtype="OPUS", compression_level=COMPRESSION
    )
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("directory", type=Path)
    found = members(parser.parse_args().directory)
    with ZipFile(TARGET, "w", ZIP_STORED) as archive:
        for name in sorted(found):  # Opus is compressed already; no times, so that it is the same
            archive.writestr(ZipInfo(name), found[name])
    print(f"{TARGET}: {len(found)} files, {TARGET.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
