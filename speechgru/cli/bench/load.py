"""A note if other programs disturb a measurement."""

import os

from speechgru.cli.terminal import err


def note_load(cores: int) -> float:
    """The load average (0 on systems without one); reported if it is high."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > cores / 2:
        err.line(f"load average {load:.1f} on {cores} cores: other programs slow this down")
    return load
