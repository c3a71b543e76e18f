import io
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgru.audio.files import read
from speechgru.audio.pcm import PcmDecoder, parse_format
from speechgru.audio.piped import PipeFormat
from speechgru.audio.samples import StreamResampler, to_mono
from speechgru.audio.sources import file_blocks, piped_blocks
from speechgru.errors import DataError, UsageError

RATE = 16_000


def sound(seconds=0.7, rate=RATE, channels=1, seed=0):
    """Coloured noise, (S, channels) float32."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0.0, 1.0, (round(seconds * rate), channels)), axis=0)
    return (0.5 * walk / np.abs(walk).max()).astype(np.float32)


def joined(blocks):
    return np.concatenate([block.samples for block in blocks])


@settings(max_examples=25, deadline=None)
@given(
    from_rate=st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000, 96_000]),
    cuts=st.lists(st.integers(0, 3_000), max_size=12),
    channels=st.integers(1, 3),
)
def test_streamed_resampling_equals_the_whole(from_rate, cuts, channels):
    frames = sound(0.1, from_rate, channels)
    resampler = StreamResampler(from_rate)
    pieces = [resampler.push(piece) for piece in np.split(frames, sorted(cuts))]
    streamed = np.concatenate([*pieces, resampler.flush()])
    assert np.array_equal(streamed, to_mono(frames, from_rate, RATE))


def test_resampling_delay_is_bounded():
    for from_rate, delay_s in ((44_100, 0.041), (48_000, 0.041), (96_000, 0.081)):
        resampler, block = StreamResampler(from_rate), from_rate // 50
        heard = given_back = 0
        for piece in np.split(sound(1.0, from_rate), range(block, from_rate, block)):
            heard += len(piece)
            given_back += len(resampler.push(piece))
            assert heard / from_rate - given_back / RATE <= delay_s


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_samples_of_a_stream_are_named_with_their_position(value):
    resampler = StreamResampler(48_000, name="stdin")
    resampler.push(np.zeros(1_000, np.float32))
    broken = np.zeros(500, np.float32)
    broken[7] = value
    with pytest.raises(DataError, match="stdin: sample 1007 is"):
        resampler.push(broken)


@pytest.mark.filterwarnings("error")
def test_channels_without_a_finite_mean_cause_no_numpy_warnings():
    for frame in ([np.inf, -np.inf], [3e38, 3e38]):
        with pytest.raises(DataError, match=r"stdin: sample 0 is (nan|inf)"):
            StreamResampler(RATE, name="stdin").push(np.array([frame], np.float32))


@pytest.mark.parametrize(("sample_format", "numpy_type"), [("s16le", "<i2"), ("f32le", "<f4")])
@pytest.mark.parametrize("channels", [1, 2])
def test_pcm_is_decoded_in_any_chunking(sample_format, numpy_type, channels):
    frames = sound(0.01, channels=channels)
    scale = 32_768 if sample_format == "s16le" else 1
    content = (frames * scale).astype(numpy_type).tobytes()
    for size in (1, 3, 64, len(content)):
        decoder = PcmDecoder(parse_format(sample_format), channels)
        chunks = [content[i : i + size] for i in range(0, len(content), size)]
        decoded = np.concatenate([decoder.push(chunk) for chunk in chunks])
        assert decoded.shape == frames.shape
        assert np.abs(decoded - frames).max() <= 1 / 32_768
        assert decoder.rest == b""


def test_full_scale_pcm_is_full_scale():
    decoded = PcmDecoder("s16le").push(np.array([-32_768, 32_767], "<i2").tobytes())
    assert decoded[0, 0] == -1.0
    assert decoded[1, 0] == pytest.approx(1.0, abs=1e-4)


def test_wrong_pcm_options_are_named():
    with pytest.raises(UsageError, match="--format mp3: s16le or f32le"):
        parse_format("mp3")
    with pytest.raises(UsageError, match="--channels 0"):
        PcmDecoder("s16le", 0)
    for rate in (0, 1, 2_000_000_000):
        with pytest.raises(UsageError, match=f"--rate {rate}: 1,000 to 768,000 Hz"):
            PipeFormat(rate)


@pytest.mark.parametrize("channel", [1, 6])
def test_one_channel_of_an_array_is_used(tmp_path, channel):
    frames = sound(0.5, 48_000, 6)
    wanted = to_mono(frames[:, channel - 1], 48_000, RATE)
    soundfile.write(tmp_path / "six.wav", frames, 48_000, "FLOAT")
    played = joined(file_blocks(tmp_path / "six.wav", RATE, channel=channel))
    np.testing.assert_array_equal(played, wanted)
    content = frames.astype("<f4").tobytes()
    piped = joined(
        piped_blocks(io.BytesIO(content), RATE, PipeFormat(48_000, "f32le", 6), channel=channel)
    )
    np.testing.assert_array_equal(piped, wanted)
    with pytest.raises(DataError, match=r"six\.wav: there is no channel 7; it has 6 channels"):
        list(file_blocks(tmp_path / "six.wav", RATE, channel=7))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_blocks_of_a_file_equal_the_whole_file(tmp_path, rate, suffix):
    path = tmp_path / f"sound.{suffix}"
    soundfile.write(path, sound(2.3, rate, 2), rate)
    assert np.array_equal(joined(file_blocks(path, RATE)), read(path))


def test_realtime_playback_takes_as_long_as_the_file(tmp_path):
    path = tmp_path / "sound.wav"
    soundfile.write(path, sound(0.3), RATE)
    began = time.monotonic()
    blocks = []
    for block in file_blocks(path, RATE, realtime=True):
        blocks.append(block)
        heard_s = sum(len(each.samples) for each in blocks) / RATE
        # A block is there once it has been spoken, and not before.
        assert time.monotonic() >= block.start_clock_s + heard_s
    assert time.monotonic() - began >= 0.3
    assert np.array_equal(joined(blocks), read(path))


def test_truncated_and_other_files_are_named(tmp_path):
    whole = tmp_path / "whole.wav"
    soundfile.write(whole, sound(0.5), RATE)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(whole.read_bytes()[:-1_000])
    with pytest.raises(DataError, match=r"broken\.wav: truncated"):
        list(file_blocks(broken, RATE))
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(DataError, match=r"text\.wav: not a readable audio file"):
        list(file_blocks(tmp_path / "text.wav", RATE))
    with pytest.raises(DataError, match=r"none\.wav"):
        list(file_blocks(tmp_path / "none.wav", RATE))
