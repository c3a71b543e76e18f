"""A microphone: capture that survives dropped samples and unplugging."""

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from speechgru.audio.devices import COMMON_RATES, Device, devices, find_again, find_device
from speechgru.audio.levels import SignalWatch, Verdict, peak_db, rms_db, verdict
from speechgru.audio.native_messages import quiet_native_code
from speechgru.audio.portaudio import load_portaudio, restart_portaudio
from speechgru.audio.samples import Samples, check_channel, check_rate
from speechgru.errors import AudioDeviceError

BLOCK_S = 0.02
#: Asked of the driver: some stalled with less; 0.1 s never lost a sample under load.
_DRIVER_LATENCY_S = 0.1
#: Between the driver and the listener: how long the program may pause.
QUEUE_S = 5.0

#: A device gives its first block within seconds after it is opened, and then one every 20 ms.
_FIRST_BLOCK_TIMEOUT_S = 4.0
_BLOCK_TIMEOUT_S = 1.0
_RETRY_S = 0.5
#: A default device that is gone for longer is replaced by another default one.
_REPLACED_AFTER_S = 5.0
#: The driver says that it dropped samples, and only its clock says how many: at most these.
_MOST_LOST_S = 5.0

_INVALID_RATE, _INVALID_CHANNELS = -9997, -9998
_REASONS = {
    -9985: "is busy: another program is using it; close that, or choose another --device",
    -9996: "is no longer an input device; `speechgru devices` lists those that are connected",
    _INVALID_RATE: "does not support {rate} Hz; without --rate it is opened at its own rate",
    _INVALID_CHANNELS: "supports no number of channels up to its own {channels}",
}


@dataclass(frozen=True)
class Captured:
    """Frames (S, channels) at `rate` hertz; the last arrived at `at`, by time.monotonic().

    `lost` frames before these were dropped.
    """

    frames: Samples
    rate: int
    at: float
    lost: int = 0


@dataclass(frozen=True)
class LevelTest:
    """How loud a device is, in decibels of full scale, and what that means."""

    seconds: float
    peak_db: float
    rms_db: float
    verdict: Verdict


def level_test(device: Device, seconds: float) -> LevelTest:
    """Capture from a device for a moment.

    Raises:
        AudioDeviceError: it cannot be opened, or gives no sound.
    """
    stream = _Stream(device, None, queue_s=seconds + QUEUE_S)
    blocks: list[Samples] = []
    try:
        while sum(map(len, blocks)) < seconds * stream.rate:
            captured = stream.get()
            if captured is None:
                raise AudioDeviceError(f"microphone {device.id} ({device.name}) gives no sound")
            if not np.isfinite(captured.frames).all():
                raise AudioDeviceError(
                    f"microphone {device.id} ({device.name}) gives samples that are not finite"
                )
            blocks.append(captured.frames)
    finally:
        stream.close()
    frames = np.concatenate(blocks)
    return LevelTest(
        seconds=round(len(frames) / stream.rate, 2),
        peak_db=round(peak_db(frames), 1),
        rms_db=round(rms_db(frames), 1),
        verdict=verdict(frames),
    )


class Microphone:
    """Captures from a device until it is closed; waits for the device while it is unplugged.

    Args:
        wanted: the device's id or part of its name; None is the system's default.
        rate: hertz to open it at; None is its own.
        tell: called with sentences about what is wrong with it, and when it is right again.
        queue_s: seconds of sound that wait for a listener who pauses; what comes then is dropped.
        channel: the channel that the listener will take, from 1: so many are opened.

    Raises:
        AudioDeviceError: no such device or channel, no PortAudio, a busy device, or an unsupported
            rate.
        UsageError: an impossible rate or channel.
    """

    def __init__(
        self,
        wanted: str | None = None,
        rate: int | None = None,
        tell: Callable[[str], None] = lambda sentence: None,
        queue_s: float = QUEUE_S,
        channel: int | None = None,
    ) -> None:
        if rate is not None:
            check_rate(rate)
        check_channel(channel)
        self._rate, self._tell, self._queue_s, self._channel = rate, tell, queue_s, channel
        self._earlier_overruns = 0
        self._reported_overruns = self._reported_numbers = False
        #: Times that the device was unplugged and came back.
        self.returns = 0
        self.device = find_device(wanted)
        self._before = self._all_devices()
        self._is_default = wanted is None
        self._stream = _Stream(self.device, rate, queue_s, channel)

    @property
    def rate(self) -> int:
        """Hertz at which the device is open."""
        return self._stream.rate

    @property
    def channels(self) -> int:
        """Channels with which the device is open."""
        return self._stream.channels

    @property
    def overruns(self) -> int:
        """Times that samples were dropped: a block, or up to 5 s when the driver overflows."""
        return self._earlier_overruns + self._stream.overruns

    def blocks(self) -> Iterator[Captured]:
        """What it captures, without end, about 20 ms at a time; waits while it is unplugged."""
        has_returned = False
        while True:
            for captured in self._until_gone():
                # What comes after a pause must not be joined to what was before it.
                yield replace(captured, lost=captured.lost + 1) if has_returned else captured
                has_returned = False
            gone, gone_s = self.device, time.monotonic()
            self._say("gives no more sound; waiting for it to come back")
            self._stream.close()
            self._earlier_overruns, self._stream.overruns = self.overruns, 0
            is_another = self._reopen(gone_s)
            self.returns += 1
            has_returned = True
            if not is_another:
                self._say(f"is back after {time.monotonic() - gone_s:.1f} s")
            else:
                self._tell(
                    f"microphone {gone.name}: is gone; listening to microphone "
                    f"{self.device.name}, {self.rate} Hz"
                )
            self._before = self._all_devices()

    def close(self) -> None:
        """Release the device."""
        self._stream.close()

    def __enter__(self) -> "Microphone":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _until_gone(self) -> Iterator[Captured]:
        watch = SignalWatch(self.rate)
        while True:
            captured = self._stream.get()
            if captured is None:
                return
            if self.overruns and not self._reported_overruns:
                self._reported_overruns = True
                self._say(
                    "dropped samples: this computer is too slow; the total follows at the end"
                )
            if np.isfinite(captured.frames).all():
                for sentence in watch.push(captured.frames):
                    self._say(sentence)
            else:
                captured = self._without_samples(captured)
            yield captured

    def _without_samples(self, captured: Captured) -> Captured:
        """A block of which no sample can be used; a broken driver must not end the listening."""
        if not self._reported_numbers:
            self._reported_numbers = True
            self._say("gives samples that are not finite; they count as lost")
        lost = captured.lost + len(captured.frames)
        return replace(captured, frames=captured.frames[:0], lost=lost)

    def _reopen(self, gone_s: float) -> bool:
        """Try until the device gives sound again, or, of the default one, another that now is it.

        PortAudio sees new devices only at its start. Returns whether it is another one.
        """
        gone = self.device
        while True:
            try:
                restart_portaudio()
                self.device, is_another = self._find_again(gone, time.monotonic() - gone_s)
                self._stream = _Stream(self.device, self._rate, self._queue_s, self._channel)
            except AudioDeviceError:
                time.sleep(_RETRY_S)
                continue
            if self._stream.wait():
                return is_another
            self._stream.close()

    def _find_again(self, gone: Device, missing_s: float) -> tuple[Device, bool]:
        """The device to open, and whether it is another than the one that has gone."""
        try:
            return find_again(gone, self._before), False
        except AudioDeviceError:
            if not self._is_default or missing_s < _REPLACED_AFTER_S:
                raise
            return find_device(), True

    def _all_devices(self) -> list[Device]:
        try:
            return devices()
        except AudioDeviceError:  # it has gone this very moment
            return [self.device]

    def _say(self, sentence: str) -> None:
        self._tell(f"microphone {self.device.name}: {sentence}")


class _Stream:
    """An open device, and the queue between PortAudio's thread and ours."""

    def __init__(
        self, device: Device, rate: int | None, queue_s: float, channel: int | None = None
    ) -> None:
        self._queue: queue.Queue[Captured] = queue.Queue(max(1, round(queue_s / BLOCK_S)))
        self.overruns = 0
        #: Frames dropped since the last block that was queued.
        self._lost = 0
        #: The driver's time of the end of the last block; None before the first.
        self._end_s: float | None = None
        self._finished = False
        self._first: Captured | None = None
        self._last_block_at = time.monotonic()
        self._timeout_s = _FIRST_BLOCK_TIMEOUT_S
        rates = dict.fromkeys((device.rate, *COMMON_RATES)) if rate is None else (rate,)
        self._portaudio = load_portaudio()
        least = channel or 1
        if least > device.channels:
            raise AudioDeviceError(
                f"--channel {least}: microphone {device.id} ({device.name}) has "
                f"{device.channels} channels"
            )
        self._stream, self.rate, self.channels = self._open(device, list(rates), least)

    def get(self) -> Captured | None:
        """The next block; None once the device gives no more."""
        if self._first is not None:
            captured, self._first = self._first, None
            return captured
        while True:
            try:
                captured = self._queue.get(timeout=0.1)
            except queue.Empty:
                if self._finished or time.monotonic() - self._last_block_at > self._timeout_s:
                    return None
            else:
                self._timeout_s = _BLOCK_TIMEOUT_S
                return captured

    def wait(self) -> bool:
        """Whether the device gives a first block."""
        self._first = self.get()
        return self._first is not None

    def close(self) -> None:
        with quiet_native_code():
            self._stream.close(ignore_errors=True)

    def _open(self, device: Device, rates: list[int], least: int) -> tuple[Any, int, int]:
        """Open at the first rate, with the fewest channels from `least` on, that it accepts."""
        candidates = dict.fromkeys((least, 1, 2, device.channels))
        counts = sorted(n for n in candidates if least <= n <= device.channels)
        for rate in rates:
            for channels in counts:
                try:
                    return self._start(device, rate, channels), rate, channels
                except self._portaudio.PortAudioError as error:
                    refusal = error
                    code = error.args[1] if len(error.args) > 1 else None
                    if code not in (_INVALID_RATE, _INVALID_CHANNELS):
                        raise _explain(error, device, rates) from error
        raise _explain(refusal, device, rates) from refusal

    def _start(self, device: Device, rate: int, channels: int) -> Any:
        self.rate = rate
        with quiet_native_code():
            stream = self._portaudio.InputStream(
                device=device.id,
                samplerate=rate,
                channels=channels,
                dtype="float32",
                blocksize=max(1, round(BLOCK_S * rate)),
                latency=_DRIVER_LATENCY_S,
                callback=self._on_block,
                finished_callback=self._on_finished,
            )
            try:
                stream.start()
            except self._portaudio.PortAudioError:
                stream.close(ignore_errors=True)
                raise
        return stream

    def _on_block(self, frames: Samples, count: int, when: Any, status: Any) -> None:
        """In PortAudio's thread: queue the block, and do nothing that takes time."""
        self._last_block_at = time.monotonic()
        start_s = when.inputBufferAdcTime
        if status.input_overflow:
            self.overruns += 1
            if self._end_s is not None:
                gap_s = min(max(0.0, start_s - self._end_s), _MOST_LOST_S)
                self._lost += round(gap_s * self.rate)
        self._end_s = start_s + count / self.rate
        captured = Captured(frames.copy(), self.rate, self._last_block_at, self._lost)
        try:
            self._queue.put_nowait(captured)
        except queue.Full:
            self.overruns += 1
            self._lost += count
        else:
            self._lost = 0

    def _on_finished(self) -> None:
        self._finished = True


def _explain(error: Exception, device: Device, rates: list[int]) -> AudioDeviceError:
    """PortAudio's error as a sentence that names the device and what can be done."""
    code = error.args[1] if len(error.args) > 1 else None
    if code == _INVALID_RATE and len(rates) > 1:
        reason = "supports none of the usual rates; `listen --rate HZ` opens it at another"
    elif code in _REASONS:
        reason = _REASONS[code].format(rate=rates[0], channels=device.channels)
    else:
        host = error.args[2] if len(error.args) > 2 else None
        text = host[2] if host and host[2] else str(error.args[0] if error.args else error)
        reason = f"cannot be opened: {text}; is it plugged in, and the sound server running?"
    return AudioDeviceError(f"microphone {device.id} ({device.name}) {reason}")
