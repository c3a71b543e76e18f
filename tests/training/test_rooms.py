"""Impulse responses of rooms: when sound arrives, how loud, and how it decays."""

import numpy as np
import pytest

from speechgru.training.rooms import (
    RESPONSE_S,
    SPEED_OF_SOUND,
    random_room,
    room_bank,
    room_response,
)

RATE = 16_000


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def decay_s(response) -> float:
    """The time of a decay by 60 dB, from that by 20 (Schroeder, 1965)."""
    energy_db = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] + 1e-12)
    energy_db -= energy_db[0]
    return 3 * float(np.argmax(energy_db < -25) - np.argmax(energy_db < -5)) / RATE


@pytest.mark.parametrize("t60_s", [0.2, 0.35, 0.5])
def test_sound_decays_in_the_time_asked_for(t60_s, rng):
    found = [decay_s(random_room(RATE, rng, t60_s)) for _ in range(12)]
    assert np.median(found) == pytest.approx(t60_s, rel=0.2)


def test_direct_sound_comes_first_and_the_floor_when_it_should(rng):
    # Far from all walls but the floor, whose image is 3 m below a source at 1.5 m.
    size, source, microphone = np.array([60.0, 60.0, 40.0]), (30, 30, 1.5), (34, 30, 1.5)
    response = room_response(size, source, microphone, 3.0, RATE, rng)
    assert response.argmax() == 0
    assert response[0] == pytest.approx(1.0, abs=0.05)
    floor = (5.0 - 4.0) / SPEED_OF_SOUND * RATE
    after = response.copy()
    after[: round(0.5 * floor)] = 0
    displaced = 0.09 / SPEED_OF_SOUND * RATE + 1
    assert after[: round(2 * floor)].argmax() == pytest.approx(floor, abs=displaced)


def test_nearer_rooms_have_more_direct_sound(rng):
    def direct(distance_m):
        rooms = [random_room(RATE, rng, 0.4, (distance_m, distance_m)) for _ in range(10)]
        return np.mean([np.square(room[:16]).sum() for room in rooms])

    assert direct(0.4) > 2 * direct(3.0)


def test_bank_is_the_same_again_and_of_energy_one():
    bank = room_bank(RATE, count=3)
    assert bank.shape == (3, round(RESPONSE_S * RATE))
    np.testing.assert_array_equal(bank, room_bank(RATE, count=3))
    np.testing.assert_allclose(np.square(bank).sum(axis=1), 1, rtol=1e-5)
    assert not np.allclose(bank, room_bank(RATE, seed=1, count=3))
