"""Make the small corpus that ships with speechgru: espeak-ng says twenty words in many voices.

    apt-get install espeak-ng
    python recipes/make_embedded_corpus.py speechgru/corpora/embedded.zip

The result is a zip in the layout of Google Speech Commands: `<word>/<voice>_nohash_0.ogg` (Ogg
Opus, 16 kHz, mono, at most 1 s), `_background_noise_/`, `validation_list.txt`, `testing_list.txt`.
It depends on nothing but this file and the versions of espeak-ng, libsndfile and zlib: a second
run gives the same bytes (espeak-ng 1.51, libsndfile 1.2.2 made the archive that is committed).

No recording goes in. All speech is the output of espeak-ng, which its licence (GPL 3) does not
cover, and all noise is computed here; both are published under the project's own licence.
"""

import io
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import typer

from speechgru.audio.samples import SAMPLE_RATE, Samples, to_mono
from speechgru.common.files import write_atomic
from speechgru.errors import DataError, SpeechGRUError
from speechgru.labels import COMMANDS

OTHER_WORDS = ("bed", "bird", "cat", "dog", "five", "happy", "house", "nine", "tree", "wow")
ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-029", "en-gb-scotland", "en-us-nyc")

#: Variants of espeak-ng's voice by split; those that sound alike are in one split. Whispers, robots
#: and echoes are left out, being unlike any speaker.
VARIANTS = {
    "training": (
        *("f1", "f3", "f4", "f5", "Andrea", "Annie", "anika", "grandma", "linda", "Alicia"),
        *("m1", "m2", "m3", "m4", "m5", "m6", "m8", "Alex", "Andy", "Lee", "Mike", "max", "croak"),
        *("adam", "benjamin", "david", "edward", "edward2", "klatt3", "klatt4", "Gene", "Gene2"),
        *("Denis", "Diogo", "Hugo", "victor", "iven", "iven2", "iven3", "iven4", "antonio"),
        *("pedro", "Jacky", "Marco", "shelby", "zac", "klatt5", "Storm", "Tweaky", "ed"),
        *("john", "kaukovalta", "pablo"),
    ),
    "validation": ("aunty", "Mario", "boris", "michel", "miguel", "paul", "sandro", "norbert"),
    "testing": (
        *("f2", "belinda", "steph", "steph2", "m7", "Nguyen", "Michael"),
        *("rob", "robert", "quincy", "travis", "gustave", "marcelo"),
    ),
}

SEED = 2
MARGIN_S = 0.05  # kept before and, twice, after the word
LONGEST_S = 1.0
NOISE_S = 15.0
COMPRESSION = 0.96  # of libsndfile: 16 kbit/s


def main(
    out: Annotated[Path, typer.Argument(help="The zip to write.")],
) -> None:
    """Render every word in every voice and write the archive."""
    if shutil.which("espeak-ng") is None:
        raise SpeechGRUError("espeak-ng: not installed; it speaks the corpus")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted(members()):
            # Without a date, so that a second run gives the same bytes; deflating takes out the
            # 750 bytes of padding that libsndfile leaves in the header of each file.
            entry = zipfile.ZipInfo(name)
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    write_atomic(out, buffer.getvalue())
    typer.echo(f"{out}: {len(archive.namelist())} files, {out.stat().st_size / 1e6:.2f} MB")


def members() -> Iterator[tuple[str, bytes]]:
    """Each file of the archive: its name and its content."""
    voices = [(split, variant) for split, variants in VARIANTS.items() for variant in variants]
    lists: dict[str, list[str]] = {"validation": [], "testing": []}
    for index, (split, variant) in enumerate(voices):
        accent = ACCENTS[index % len(ACCENTS)]
        for word, samples in voice_clips(
            f"{accent}+{variant}", np.random.default_rng((SEED, index))
        ):
            name = f"{word}/{accent}-{variant.lower()}_nohash_0.ogg"
            lists.get(split, []).append(name)
            yield name, opus(samples)
    for split, names in lists.items():
        yield f"{split}_list.txt", "".join(f"{name}\n" for name in sorted(names)).encode()
    for name, samples in noises(np.random.default_rng(SEED)):
        yield f"_background_noise_/{name}.ogg", opus(samples)


def voice_clips(voice: str, rng: np.random.Generator) -> Iterator[tuple[str, Samples]]:
    """Every word by one voice, which keeps about its own pitch, speed and loudness."""
    pitch, words_per_minute = rng.integers(25, 76), rng.integers(135, 176)
    peak = np.float32(rng.uniform(0.25, 0.8))
    for word in (*COMMANDS, *OTHER_WORDS):
        varied = pitch + rng.integers(-5, 6), words_per_minute + rng.integers(-8, 9)
        yield word, peak * trimmed(speak(word, voice, *map(int, varied)), f"{voice} {word}")


def speak(word: str, voice: str, pitch: int, words_per_minute: int) -> Samples:
    """A word as espeak-ng says it, (S,) at 16 kHz; `pitch` is 0 to 99."""
    # At its default amplitude of 100 some variants clip inside espeak-ng.
    options = ["-v", voice, "-a", "50", "-p", str(pitch), "-s", str(words_per_minute), "--stdout"]
    done = subprocess.run(["espeak-ng", *options, word], check=True, capture_output=True)
    if done.stderr:
        raise SpeechGRUError(f"espeak-ng, voice {voice}: {done.stderr.decode().strip()}")
    frames, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    return to_mono(frames, rate, SAMPLE_RATE)


def trimmed(samples: Samples, name: str) -> Samples:
    """The word with a little silence around it, and a peak of 1."""
    margin = round(MARGIN_S * SAMPLE_RATE)
    # espeak-ng may begin in the middle of a sound.
    samples = np.pad(samples, (margin, 2 * margin)) / np.abs(samples).max()
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    word = samples[loud[0] - margin : loud[-1] + 2 * margin]
    if len(word) > LONGEST_S * SAMPLE_RATE:
        raise DataError(f"{name}: {len(word) / SAMPLE_RATE:.2f} s; at most {LONGEST_S} s is a clip")
    return word


def noises(rng: np.random.Generator) -> Iterator[tuple[str, Samples]]:
    """Background noises by name: pink (1/f), brown (1/f^2), and mains hum with clicks."""
    length = round(NOISE_S * SAMPLE_RATE)
    time_s = np.arange(length) / SAMPLE_RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * time_s + k) / k for k in (1, 2, 3, 5, 7))
    clicks = np.zeros(length)
    clicks[rng.integers(0, length - 400, 40)] = rng.uniform(-1, 1, 40)
    clicks = np.convolve(clicks, np.exp(-np.arange(400) / 40) * rng.standard_normal(400), "same")
    yield "pink", scaled(coloured(rng, length, 0.5), 0.05)
    yield "brown", scaled(coloured(rng, length, 1.0), 0.08)
    yield "hum_and_clicks", scaled(hum + 3 * clicks + 0.05 * rng.standard_normal(length), 0.06)


def coloured(rng: np.random.Generator, length: int, slope: float) -> np.ndarray:
    """Noise whose amplitude falls with frequency to the power `slope`; flat below 30 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency_hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    return np.fft.irfft(spectrum / np.maximum(frequency_hz, 30) ** slope, length)


def scaled(noise: np.ndarray, rms: float) -> Samples:
    """The noise at a root mean square of `rms`, its peaks kept within full scale."""
    return np.clip(noise * rms / np.sqrt(np.mean(noise**2)), -0.9, 0.9).astype(np.float32)


def opus(samples: Samples) -> bytes:
    """An Ogg Opus file.

    libsndfile draws the number of the stream from the clock: it is set to zero on every page, and
    the checksum of the page made anew (RFC 3533, section 6).
    """
    file = io.BytesIO()
    soundfile.write(
        file, samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION
    )
    content = file.getvalue()
    starts = [found.start() for found in re.finditer(rb"OggS\0", content)]
    pages = [content[a:b] for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]
    return b"".join(renumbered(page) for page in pages)


def renumbered(page: bytes) -> bytes:
    """An Ogg page as page of stream 0."""
    blank = page[:14] + bytes(4) + page[18:22] + bytes(4) + page[26:]
    checksum = 0
    for byte in blank:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1) ^ (0x104C11DB7 if checksum & 0x80000000 else 0)
    return blank[:22] + checksum.to_bytes(4, "little") + blank[26:]


if __name__ == "__main__":
    typer.run(main)
