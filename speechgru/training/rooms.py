"""Impulse responses of rooms to train with, by the image method.

Sources: J. Allen and D. Berkley, "Image method for efficiently simulating small-room acoustics",
1979; E. De Sena et al., "On the modeling of rectangular geometries in room acoustic simulations",
2015, for the random displacement of images, without which echoes of a shoebox sweep like a chirp.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Meters per second.
SPEED_OF_SOUND = 343.0
#: Ranges of the length, width and height of a room, in meters.
SIZES_M = ((2.5, 8.0), (2.0, 6.0), (2.3, 3.2))
#: Range of the time in which sound decays by 60 dB.
T60_S = (0.15, 0.8)
#: Range of the distance between mouth and microphone, in meters, and the least one from a wall.
DISTANCE_M, _WALL_M = (0.3, 5.0), 0.2
#: Number of rooms in a bank, and the length of their responses.
ROOMS, RESPONSE_S = 128, 0.6
#: Images are displaced by up to this much.
_DISPLACEMENT_M = 0.08
#: The image method adds up pulses of one sign, which no loudspeaker or wall does below this.
_LOWEST_HZ = 60.0


def room_bank(rate: int, seed: int = 0, count: int = ROOMS) -> NDArray[np.float32]:
    """Responses of random rooms, direct sound first, of energy 1: (count, samples)."""
    rng = np.random.default_rng(seed)
    responses = (random_room(rate, rng, rng.uniform(*T60_S)) for _ in range(count))
    return np.stack(list(responses)).astype(np.float32)


def random_room(
    rate: int,
    rng: np.random.Generator,
    t60_s: float,
    distance_m: tuple[float, float] = DISTANCE_M,
) -> NDArray[np.float64]:
    """The response of a room of random size from a random place: (samples,), energy 1.

    A distance is drawn, and of 100 random pairs of places the one that comes nearest to it is used.
    """
    size = np.array([rng.uniform(*limits) for limits in SIZES_M])
    wanted = math.exp(rng.uniform(*np.log(distance_m)))
    places = rng.uniform(_WALL_M, size - _WALL_M, (2, 100, 3))
    distances = np.linalg.norm(places[0] - places[1], axis=1)
    best = np.abs(distances - wanted).argmin()
    response = room_response(size, places[0, best], places[1, best], t60_s, rate, rng)
    return response / np.linalg.norm(response)


def room_response(
    size_m: NDArray[np.float64],
    source_m: Sequence[float] | NDArray[np.float64],
    microphone_m: Sequence[float] | NDArray[np.float64],
    t60_s: float,
    rate: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """The response of a shoebox room with six equal walls, from the direct sound on.

    Args:
        size_m, source_m, microphone_m: (3,) each, in meters from one corner.
        t60_s: the time in which sound decays by 60 dB; in a room that cannot be so dry, only the
            direct sound is left.

    Returns:
        Pressure of `RESPONSE_S`, 1 for the direct sound, (samples,).
    """
    reach_m = SPEED_OF_SOUND * min(RESPONSE_S, t60_s)
    volume, surface = size_m.prod(), 2 * (size_m.prod() / size_m).sum()
    absorbed = min(1.0, 24 * math.log(10) * volume / (SPEED_OF_SOUND * surface * t60_s))  # Sabine
    reflected = math.sqrt(1 - absorbed)

    squares, orders = [], []
    for length, source, microphone in zip(size_m, source_m, microphone_m, strict=True):
        periods = np.arange(-math.ceil(reach_m / 2 / length), math.ceil(reach_m / 2 / length) + 1)
        same, mirrored = 2 * periods * length + source, 2 * periods * length - source
        squares.append(np.square(np.concatenate([same, mirrored]) - microphone))
        orders.append(np.concatenate([np.abs(2 * periods), np.abs(2 * periods - 1)]))
    distance = np.sqrt(_sums(squares)).ravel()
    order = _sums(orders).ravel()
    direct_m = distance[order == 0].item()
    near = distance <= direct_m + reach_m
    distance, order = distance[near], order[near]
    moved = distance + rng.uniform(-1, 1, len(distance)) * _DISPLACEMENT_M * (order > 0)

    samples = round(RESPONSE_S * rate)
    delay = ((moved - direct_m) / SPEED_OF_SOUND * rate).round().astype(np.int64).clip(0)
    pressure = reflected**order * direct_m / distance
    response = np.bincount(delay, pressure, samples)[:samples]
    hertz = np.fft.rfftfreq(2 * samples, 1 / rate)
    high_pass = hertz / np.hypot(hertz, _LOWEST_HZ)
    filtered: NDArray[np.float64] = np.fft.irfft(
        np.fft.rfft(response, 2 * samples) * high_pass, 2 * samples
    )[:samples]
    return filtered


def _sums(axes: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Sums of one number of each axis: (X,), (Y,), (Z,) -> (X, Y, Z)."""
    x, y, z = (np.asarray(axis, np.float64) for axis in axes)
    return x[:, None, None] + y[:, None] + z
