"""`speechgru devices`: lists microphones and measures their levels."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.terminal import err, out, plain, print_json
from speechgru.errors import AudioDeviceError

if TYPE_CHECKING:
    from speechgru.audio.devices import Device

#: What each verdict of a level test means.
VERDICTS = {
    "good": "good",
    "quiet": "too quiet for speech: turn it up",
    "silent": "only silence: muted, or not connected",
    "clipping": "clips: turn it down",
}


@examples("speechgru devices", "speechgru devices --test", "speechgru devices --device usb --test")
def devices(
    device: Annotated[
        str | None,
        typer.Option(metavar="ID|NAME", help="Only this microphone: its id or part of its name."),
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Listen to each and measure its level.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=60.0, metavar="S", help="Length of the test in seconds.")
    ] = 1.5,
    json: options.Json = False,
) -> None:
    """List microphones and test their levels."""
    from speechgru.audio.devices import devices as all_devices
    from speechgru.audio.devices import find_device

    found = []
    for each in all_devices() if device is None else [find_device(device)]:
        if test:
            err.line(f"{each.id} {each.name}: speak for {seconds:g} s ...")
        found.append(_describe(each, seconds if test else None))
    if json:
        print_json({"devices": found})
    else:
        _print(found)


def _describe(device: "Device", test_s: float | None) -> dict[str, Any]:
    """What is known of a device; if it cannot be opened, its test says why."""
    from speechgru.audio.devices import supported_rates
    from speechgru.audio.microphone import level_test

    described: dict[str, Any] = asdict(device) | {"rates": supported_rates(device)}
    if test_s is not None:
        try:
            described["test"] = asdict(level_test(device, test_s))
        except AudioDeviceError as error:
            described["test"] = {"error": str(error)}
    return described


def _print(found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("id", "name", "interface", "channels", "opened at", "rates (kHz)"):
        table.add_column(heading, overflow="fold")
    tested = any("test" in device for device in found)
    if tested:
        table.add_column("level")
    for device in found:
        cells = [
            str(device["id"]),
            device["name"] + (" (default)" if device["default"] else ""),
            device["host"],
            str(device["channels"]),
            f"{device['rate']} Hz",
            " ".join(f"{rate / 1000:g}" for rate in device["rates"]),
        ]
        if tested:
            cells.append(_level(device["test"]))
        table.add_row(*(plain(cell) for cell in cells))
    out.show(table)


def _level(test: dict[str, Any]) -> str:
    if "error" in test:
        return str(test["error"])
    return f"peak {test['peak_db']:.0f} dB, {VERDICTS[test['verdict']]}"
