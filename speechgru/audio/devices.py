"""Input devices: which there are, and what PortAudio says of them. No torch."""

import sys
from dataclasses import dataclass
from types import ModuleType

from speechgru.audio.portaudio import quiet_native_code
from speechgru.errors import AudioDeviceError

if sys.platform == "linux":
    _HELP_NO_PORTAUDIO = (
        "`apt-get install libportaudio2` (Debian, Ubuntu) or `dnf install portaudio`"
    )
    _HELP_NO_DEVICE = (
        "plug one in; with PulseAudio or PipeWire, `apt-get install libasound2-plugins` too, and "
        "see `arecord -l`"
    )
else:
    _HELP_NO_PORTAUDIO = "`pip install --force-reinstall sounddevice` brings it"
    _HELP_NO_DEVICE = "plug one in, and allow the terminal to use it in the system's settings"

#: Rates that a device is asked for where it refuses its own; the usual ones first.
COMMON_RATES = (48_000, 44_100, 16_000, 96_000, 32_000, 22_050, 8_000)


@dataclass(frozen=True)
class Device:
    """An input device as PortAudio names it; `rate` is its own, in hertz."""

    id: int
    name: str
    host: str
    channels: int
    rate: int
    default: bool


def devices() -> list[Device]:
    """Every input device.

    Raises:
        AudioDeviceError: PortAudio is not installed, or there is no input device.
    """
    module = portaudio()
    hosts = module.query_hostapis()
    default = module.default.device[0]
    found = [
        Device(
            id=number,
            name=told["name"],
            host=hosts[told["hostapi"]]["name"],
            channels=told["max_input_channels"],
            rate=round(told["default_samplerate"]),
            default=number == default,
        )
        for number, told in enumerate(module.query_devices())
        if told["max_input_channels"] > 0
    ]
    if not found:
        raise AudioDeviceError(f"no microphone was found: {_HELP_NO_DEVICE}")
    return found


def find_device(wanted: str | None = None) -> Device:
    """A device by its id, or by a part of its name in any case; None is the default one.

    Where one microphone is there through several of the system's interfaces, the default
    interface is taken.

    Raises:
        AudioDeviceError: PortAudio is not installed, or no device, or no single one, fits.
    """
    known = devices()
    default = next((device for device in known if device.default), known[0])
    if wanted is None:
        return default
    if wanted.isdecimal():
        fitting = [device for device in known if device.id == int(wanted)]
    else:
        fitting = [device for device in known if wanted.casefold() in device.name.casefold()]
    for narrower in (
        lambda device: device.name.casefold() == wanted.casefold(),
        lambda device: device.host == default.host,
    ):
        if len(fitting) > 1:
            fitting = [device for device in fitting if narrower(device)] or fitting
    if len(fitting) != 1:
        others = "; ".join(f"{device.id} {device.name}" for device in fitting or known)
        found = "several fit" if fitting else "there is none such"
        raise AudioDeviceError(f"--device {wanted}: {found}: {others}")
    return fitting[0]


def supported_rates(device: Device) -> list[int]:
    """Those of the common rates that the device can be opened at, in ascending order."""
    module = portaudio()

    def accepts(rate: int) -> bool:
        try:
            module.check_input_settings(device=device.id, channels=None, samplerate=rate)
        except (module.PortAudioError, ValueError):
            return False
        return True

    with quiet_native_code():
        return [rate for rate in sorted({*COMMON_RATES, device.rate}) if accepts(rate)]


def portaudio() -> ModuleType:
    """The sounddevice module, whose import looks for PortAudio.

    Raises:
        AudioDeviceError: PortAudio is not installed.
    """
    try:
        import sounddevice
    except OSError as error:
        raise AudioDeviceError(f"PortAudio is not there ({error}): {_HELP_NO_PORTAUDIO}") from error
    return sounddevice


def restart_portaudio() -> None:
    """Let PortAudio look for devices anew: it does so at its start only. No stream may be open.

    Raises:
        AudioDeviceError: it cannot be started.
    """
    module = portaudio()
    try:
        module._terminate()
        module._initialize()
    except module.PortAudioError as error:
        raise AudioDeviceError(f"PortAudio cannot be started: {error}") from error
