"""Input devices, as PortAudio lists them."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from speechgru.audio.native_messages import quiet_native_code
from speechgru.audio.portaudio import load_portaudio
from speechgru.errors import AudioDeviceError

_NO_DEVICE = (
    "plug one in; with PulseAudio or PipeWire, `apt-get install libasound2-plugins` too, and "
    "see `arecord -l`"
    if sys.platform == "linux"
    else "plug one in, and allow the terminal to use it in the system's settings"
)

#: Rates to try where a device refuses its own, the most common first.
COMMON_RATES = (48_000, 44_100, 16_000, 96_000, 32_000, 22_050, 8_000, 24_000, 88_200, 192_000)
_CARD = re.compile(r"\s*\(hw:\d+,\d+\)")


@dataclass(frozen=True)
class Device:
    """An input device; `host` is the system's interface to it, `rate` its default, in hertz."""

    id: int
    name: str
    host: str
    channels: int
    rate: int
    default: bool

    @property
    def kind(self) -> str:
        """Its name without ALSA's number of the card, which changes when it is plugged in again."""
        return _CARD.sub("", self.name)


def devices() -> list[Device]:
    """Every input device.

    Raises:
        AudioDeviceError: PortAudio is not installed, or there is no input device.
    """
    module = load_portaudio()
    hosts = module.query_hostapis()
    default = module.default.device[0]
    inputs = [
        Device(
            id=number,
            name=entry["name"],
            host=hosts[entry["hostapi"]]["name"],
            channels=entry["max_input_channels"],
            rate=round(entry["default_samplerate"]),
            default=number == default,
        )
        for number, entry in enumerate(module.query_devices())
        if entry["max_input_channels"] > 0
    ]
    if not inputs:
        raise AudioDeviceError(f"no microphone was found: {_NO_DEVICE}")
    return inputs


def find_device(wanted: str | None = None) -> Device:
    """A device by its id, or by a part of its name in any case; None is the default one.

    A microphone that the system offers through several interfaces is taken from the default one's.

    Raises:
        AudioDeviceError: PortAudio is not installed, or no device, or more than one, matches.
    """
    known = devices()
    default = next((device for device in known if device.default), known[0])
    if wanted is None:
        return default
    if wanted.isdecimal():
        matches = [device for device in known if device.id == int(wanted)]
    else:
        matches = [device for device in known if wanted.casefold() in device.name.casefold()]
    for is_better in (
        lambda device: device.name.casefold() == wanted.casefold(),
        lambda device: device.host == default.host,
    ):
        if len(matches) > 1:
            matches = [device for device in matches if is_better(device)] or matches
    if len(matches) != 1:
        choices = "; ".join(f"{device.id} {device.name}" for device in matches or known)
        problem = "several devices match" if matches else "no device matches"
        raise AudioDeviceError(f"--device {wanted}: {problem}: {choices}")
    return matches[0]


def find_again(gone: Device, before: Sequence[Device]) -> Device:
    """A device that was unplugged, by its name, as ids and card numbers change.

    Args:
        before: all devices while it was there; another one of its kind is not taken for it.

    Raises:
        AudioDeviceError: PortAudio is not installed, or it is not there.
    """
    matches = [device for device in devices() if device.kind == gone.kind]
    for other in before:
        same = [d for d in matches if (d.name, d.host) == (other.name, other.host)]
        if other.id != gone.id and same:
            matches.remove(min(same, key=lambda device: abs(device.id - other.id)))
    if not matches:
        raise AudioDeviceError(f"microphone {gone.name}: is not there")
    return min(
        matches,
        key=lambda d: (d.name != gone.name, d.host != gone.host, abs(d.id - gone.id)),
    )


def supported_rates(device: Device) -> list[int]:
    """Those of the common rates at which the device can be opened, in ascending order."""
    module = load_portaudio()

    def accepts(rate: int) -> bool:
        try:
            module.check_input_settings(device=device.id, channels=None, samplerate=rate)
        except (module.PortAudioError, ValueError):
            return False
        return True

    with quiet_native_code():
        return [rate for rate in sorted({*COMMON_RATES, device.rate}) if accepts(rate)]
