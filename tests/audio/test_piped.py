"""Sound from a pipe: raw PCM, WAV by its own header, and whatever else people pipe into it."""

import io
import struct
import wave
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechgru.audio.piped import PcmWatch, PipedAudio, PipeFormat
from speechgru.audio.samples import to_mono
from speechgru.audio.sources import piped_blocks
from speechgru.errors import DataError, UsageError

RATE = 16_000


class Pipe(io.BytesIO):
    """Gives at most so many bytes at a time, as a pipe does."""

    def __init__(self, content: bytes, size: int = 65_536) -> None:
        super().__init__(content)
        self.size = size

    def read1(self, size: int = -1) -> bytes:
        return super().read1(min(size, self.size))


def sound(seconds, rate=RATE, channels=1):
    """Tones, each channel its own: (S, channels) float32."""
    time_s = np.arange(round(seconds * rate)) / rate
    return np.stack(
        [0.3 * np.sin(2 * np.pi * (200 + 100 * k) * time_s) for k in range(channels)], axis=1
    ).astype(np.float32)


def samples_of(content, *given, size=65_536, messages=None):
    """The samples at RATE that come out of a pipe."""
    tell = (messages if messages is not None else []).append
    blocks = piped_blocks(Pipe(content, size), RATE, PipeFormat(*given), tell)
    pieces = [block.samples for block in blocks]
    return np.concatenate([np.empty(0, np.float32), *pieces])


def wav(frames, rate, subtype="PCM_16", **options):
    file = io.BytesIO()
    soundfile.write(file, frames, rate, subtype=subtype, format=options.get("format", "WAV"))
    return file.getvalue()


def test_pcm_comes_out_as_it_was_written():
    frames = sound(1.5, 48_000, 2)
    content = (frames * 32_768).astype("<i2").tobytes()
    found = samples_of(content, 48_000, "s16le", 2)
    assert len(found) == 1.5 * RATE
    assert np.abs(found - to_mono(frames, 48_000, RATE)).max() < 1e-4


def test_a_format_that_is_guessed_is_said():
    content = (sound(0.5)[:, 0] * 32_768).astype("<i2").tobytes()
    messages = []
    assert len(samples_of(content, messages=messages)) == 0.5 * RATE
    assert messages == [
        "stdin: has no header and is taken for s16le, 16000 Hz, channels: 1; --format, --rate and "
        "--channels say what else it is"
    ]
    for told in ((content, RATE), (wav(sound(0.5), RATE),), (b"",)):
        messages = []
        samples_of(*told, messages=messages)
        assert messages == []


def test_a_pipe_ending_within_a_sample_is_reported():
    messages = []
    content = np.zeros((100, 2), "<f4").tobytes()[:-3]
    assert len(samples_of(content, RATE, "f32le", 2, messages=messages)) == 99
    assert messages == ["stdin: ends within a sample; its 5 of 8 bytes are skipped"]


def test_nan_is_an_error_with_its_place():
    samples = np.zeros(2_000, "<f4")
    samples[1_234] = np.nan
    with pytest.raises(DataError, match="stdin: sample 1234 is nan"):
        samples_of(samples.tobytes(), RATE, "f32le")


def test_an_empty_pipe_has_no_samples_and_no_complaint():
    messages = []
    assert len(samples_of(b"", messages=messages)) == 0
    assert messages == []


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [("PCM_U8", 1e-2), ("PCM_16", 1e-4), ("PCM_24", 1e-6), ("PCM_32", 1e-6), ("FLOAT", 1e-7),
     ("DOUBLE", 1e-7)],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 7, 65_536])
def test_a_wav_file_is_read_by_its_header_in_any_chunking(subtype, tolerance, size):
    frames = sound(0.05, RATE, 2)
    found = samples_of(wav(frames, RATE, subtype), size=size)
    assert found.shape == (len(frames),)
    assert np.abs(found - frames.mean(axis=1)).max() < tolerance


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
def test_rate_and_channels_of_a_wav_file_need_no_options(container):
    frames = sound(0.5, 48_000, 2)
    found = samples_of(wav(frames, 48_000, format=container))
    assert np.abs(found - to_mono(frames, 48_000, RATE)).max() < 1e-3


@pytest.mark.parametrize("declared", [0, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFDB])
def test_a_wav_file_of_unknown_length_is_read_to_its_end(declared):
    content = bytearray(wav(sound(0.1), RATE))
    content[40:44] = struct.pack("<I", declared)
    assert len(samples_of(bytes(content))) == 0.1 * RATE


def test_chunks_around_the_samples_are_no_sound():
    content = wav(sound(0.1), RATE)
    before = b"LIST" + struct.pack("<I", 5) + b"names\0"
    content = (
        content[:12] + before + content[12:] + b"LIST" + struct.pack("<I", 4_000) + bytes(4_000)
    )
    assert len(samples_of(content)) == 0.1 * RATE


@pytest.mark.parametrize("odd", [17, 41])  # 40 bytes of it are read
def test_a_chunk_of_odd_size_is_followed_by_a_byte_of_nothing(odd):
    content = wav(sound(0.1), RATE)
    header = content[12:16] + struct.pack("<I", odd) + content[20:36] + bytes(odd - 16) + b"\0"
    assert len(samples_of(content[:12] + header + content[36:])) == 0.1 * RATE


@pytest.mark.parametrize("lost", [1_000, 1_001])  # whole samples, and half of one
def test_a_wav_file_that_ends_early_is_reported(lost):
    messages = []
    content = wav(sound(0.1), RATE)[:-lost]
    assert len(samples_of(content, messages=messages)) == 0.1 * RATE - -(-lost // 2)
    assert messages == [f"stdin: ends early: its header declares {lost:,} bytes more"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((16_000, None, None), "--rate 16000: stdin is a WAV file whose header says 48000"),
        ((None, "f32le", None), "--format f32le: .* says s16le"),
        ((None, None, 1), "--channels 1: .* says 2"),
    ],
)
def test_options_that_contradict_the_header_are_refused(given, message):
    content = wav(sound(0.1, 48_000, 2), 48_000)
    with pytest.raises(UsageError, match=message):
        samples_of(content, *given)
    assert len(samples_of(content, 48_000, "s16le", 2)) == 0.1 * RATE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((0,), "--rate 0: 1,000 to 768,000 Hz"),
        ((10**12,), "--rate 1000000000000: "),
        ((None, None, 0), "--channels 0: 1 to 64"),
        ((None, None, 65), "--channels 65: "),
    ],
)
def test_impossible_options_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        PipeFormat(*given)


@pytest.mark.parametrize(
    ("format_", "subtype", "kind"),
    [
        ("FLAC", "PCM_16", "is a FLAC file, not PCM"),
        ("OGG", "VORBIS", "is an Ogg file"),
        ("AIFF", "PCM_16", "is an AIFF file"),
        ("AU", "PCM_16", "is an AU file"),
        ("CAF", "PCM_16", "is a CAF file"),
        ("W64", "PCM_16", "is a W64 file"),
        ("MP3", "MPEG_LAYER_III", "is an MP3"),
        ("WAV", "ALAW", "is a WAV file of 8-bit samples of type 6"),
        ("WAV", "GSM610", "is a WAV file of 0-bit samples of type 49"),
    ],
)
def test_files_of_other_kinds_are_named(format_, subtype, kind):
    content = wav(sound(0.5), RATE, subtype, format=format_)
    with pytest.raises(DataError, match=f"stdin: {kind}"):
        samples_of(content)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x00\x00\x00\x20ftypM4A " + bytes(100), "an MP4 file"),
        (b"\x1aE\xdf\xa3" + bytes(100), "a WebM"),
        (b"ID3\x04" + bytes(100), "an MP3 file"),
        (2 * (b"\xff\xf1\x50\x80\x04\x1f\xfc" + bytes(25)), "an MP3 or AAC file"),
        (b"RIFF\x00\x00\x00\x00AVI " + bytes(100), "a RIFF file of b'AVI '"),
        (b"RIFF\xff\xff\xff\xffWAVEdata" + bytes(100), "whose header has no format"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt \x02\x00\x00\x00" + bytes(2), "header is cut off"),
        (b"RIFF\xff\xff\xff\xffWAVE", "a WAV file without samples"),
        (b"RIFF", "ends within the header of a WAV file, after 4 bytes"),
        (b"NIST_1A\n   1024\n" + bytes(100), "a NIST SPHERE file"),
        (b'{"text": "turn on the light"}\n', "is text; a WAV file or PCM is needed"),
        (
            b"RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00"
            + struct.pack("<HHIIHH", 1, 1_000, 2_000_000_000, 0, 0, 16),
            "a WAV file of 2000000000 Hz and 1000 channels",
        ),
    ],
)
def test_what_is_no_sound_is_named(content, kind):
    with pytest.raises(DataError, match=kind):
        samples_of(content)


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_not_taken_for_a_file(seed):
    """MPEG's sync words are rare in PCM, but they do occur."""
    samples = np.random.default_rng(seed).integers(-32_768, 32_767, 4_000).astype("<i2")
    samples[0] = -1_025  # 0xFBFF, as an MP3 begins
    assert len(samples_of(samples.tobytes())) == 4_000


def spoken(seconds=1.0):
    """Something with the spectrum of speech: (S,) float32 with gaps."""
    rng = np.random.default_rng(0)
    noise = np.convolve(rng.standard_normal(round(seconds * RATE)), np.ones(8) / 8, "same")
    return (0.2 * noise * (np.sin(np.arange(len(noise)) / 3_000) > 0)).astype(np.float32)


@pytest.mark.parametrize(
    ("content", "given", "message"),
    [
        ((spoken() * 32_767).astype(">i2").tobytes(), (), "sounds like noise"),
        (spoken().astype("<f4").tobytes(), (), "sounds like noise"),
        ((spoken() * 32_767).astype("<f4").tobytes(), (RATE, "f32le"), "the values of integers"),
        (np.clip(spoken() * 20, -1, 1).astype("<f4").tobytes(), (RATE, "f32le"), "clips"),
        (bytes(6 * 2 * RATE), (), "has been silent for 5 s"),
    ],
)
def test_samples_of_another_format_are_reported_once(content, given, message):
    messages = []
    samples_of(content, *given, messages=messages)
    assert len([text for text in messages if message in text]) == 1
    assert all(text.startswith("stdin: ") for text in messages)


def test_speech_is_not_reported(ambient_speech: Path):
    for path in sorted(ambient_speech.rglob("*.flac"))[:20]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        assert PcmWatch(PipeFormat(rate)).push(samples) == []


def test_what_follows_the_samples_is_read_so_that_its_writer_does_not_fail():
    pipe = Pipe(wav(sound(0.1), RATE) + bytes(100_000))
    content = list(PipedAudio(pipe, PipeFormat(), print).frames())
    assert sum(len(frames) for frames, _ in content) == 0.1 * RATE
    assert pipe.read1() == b""


def test_wav_files_follow_each_other():
    """As `cat` writes them: odd sizes, other chunks between, another rate and channels."""
    chunk = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    odd = wav(sound(1601 / RATE), RATE, "PCM_U8")
    parts = [wav(sound(0.1), RATE) + chunk, odd, wav(sound(0.2, 8_000, 2), 8_000), b""]
    messages = []
    blocks = PipedAudio(Pipe(b"".join(parts)), PipeFormat(), messages.append).frames()
    found = [(frames.shape, rate) for frames, rate in blocks if len(frames)]
    seconds = {}
    for (count, channels), rate in found:
        seconds[rate, channels] = seconds.get((rate, channels), 0) + count / rate
    assert seconds == {(RATE, 1): pytest.approx(0.2001, abs=1e-3), (8_000, 2): pytest.approx(0.2)}
    assert messages == []
    assert len(samples_of(parts[0] + parts[2])) == pytest.approx(0.3 * RATE, abs=8)


@pytest.mark.parametrize("between", [b"", wav(sound(0.0), RATE)])
def test_files_without_a_pad_byte_and_empty_ones_are_no_end(between):
    file = io.BytesIO()
    with wave.open(file, "wb") as written:  # it writes no pad byte
        written.setparams((1, 1, RATE, 0, "NONE", ""))
        written.writeframes(bytes([128, 130] * 800 + [128]))
    messages = []
    content = file.getvalue() + between + file.getvalue()
    assert len(samples_of(content, messages=messages)) == 2 * 1_601
    assert messages == []


@pytest.mark.parametrize("rest", [bytes(60_000), b"abcdefgh" + bytes(60_000)])
def test_what_is_no_chunk_is_told(rest):
    messages = []
    assert len(samples_of(wav(sound(0.1), RATE) + rest, messages=messages)) == 0.1 * RATE
    assert ["the rest is not heard" in text for text in messages] == [True]


def test_sound_beyond_what_the_header_declares_is_told():
    messages = []
    content = bytearray(wav(sound(1.0), RATE))
    content[40:44] = struct.pack("<I", 3_200)
    assert len(samples_of(bytes(content), messages=messages)) == 0.1 * RATE
    assert messages == [
        "stdin: goes on after the 3,200 bytes of sound that its header declares; the rest is not "
        "heard"
    ]


def test_integers_taken_for_floats_are_one_sentence(recwarn):
    messages = []
    content = (sound(1.0)[:, 0] * 2**31).astype("<i4").tobytes()
    with suppress(DataError):  # some are NaN
        samples_of(content, RATE, "f32le", messages=messages)
    assert len(messages) == 1
    assert "is the --format right" in messages[0]
    assert not recwarn.list


def test_unsigned_samples_taken_for_signed_are_told():
    messages = []
    rng = np.random.default_rng(0)
    quiet = (128 + rng.integers(-1, 2, RATE)).astype("u1").tobytes()
    samples_of(quiet, 8_000, "s16le", messages=messages)
    assert [text for text in messages if "stays near full scale: are --rate, --format" in text]


@pytest.mark.parametrize("text", ["größe fehlt: Datei nicht gefunden\n", "Gerät belegt 🙂" * 4])
def test_text_in_any_language_is_no_sound(text):
    with pytest.raises(DataError, match="stdin: is text"):
        samples_of(text.encode()[:-1])


@pytest.mark.parametrize(("channel", "count"), [(None, 1), (1, 0)])
def test_channels_that_cancel_each_other_are_reported_once(channel, count):
    mono = spoken(1.0)
    content = np.stack([mono, -mono], axis=1).astype("<f4").tobytes()
    said = []
    given = PipeFormat(RATE, "f32le", 2)
    for _ in piped_blocks(io.BytesIO(content), RATE, given, said.append, channel=channel):
        pass
    assert sum("cancel each other" in sentence for sentence in said) == count
