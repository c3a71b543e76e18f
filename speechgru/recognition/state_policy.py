"""When a stream's recurrent state is reset: the setting, and the object that applies it."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from pydantic import Field

from speechgru.audio.samples import Samples
from speechgru.common.settings import Settings
from speechgru.decoding.events import Event

#: The state may be reset at every fifth step of the stream. The places thus do not depend on the
#: chunking, and the steps between two places can run in one call.
GRID_STEPS = 5

#: A tenth of a second is quiet if it is at most this much louder than the quietest of the last
#: `FLOOR_MEMORY` tenths; below the lowest level everything is quiet.
QUIET_MARGIN_DB, LOWEST_DB, FLOOR_MEMORY = 6.0, -60.0, 100


Mode = Literal["carry", "silence", "event"]
MODES = get_args(Mode)


class StatePolicy(Settings):
    """When a stream's recurrent state is reset to zeros; a model's file may hold its own policy.

    "carry": never. "silence": while it has been quiet for `silence_s` or longer; the level is
    compared with the lowest one of the last ten seconds. "event": after each event. The context of
    samples and of the convolutions' frames is always carried, as the sound goes on.

    Models trained on streams carry their state. The default is for those trained on single clips.
    One of them (373 K, `commands-12`) on a 20-minute stream of validation clips, 342 words, with
    the best of 84 detectors each: 81 errors (missed or wrong words, and false alarms) with
    "silence", 117 with "event", 198 with "carry". `evaluate --streaming --tune --keep` chooses the
    policy for a model and stores it in its file.
    """

    mode: Mode = "silence"
    silence_s: float = Field(0.5, ge=0.1, le=60.0)

    def __str__(self) -> str:
        return f"silence of {self.silence_s:g} s" if self.mode == "silence" else self.mode


CARRY = StatePolicy(mode="carry")


class StateResets:
    """Follows a stream and decides when its state is reset.

    Args:
        step_samples: samples in a step; the state may be reset every `GRID_STEPS` steps.
        step_s: the same in seconds.
    """

    def __init__(self, policy: StatePolicy, step_samples: int, step_s: float) -> None:
        self.policy = policy
        self._step_samples = step_samples
        self._quiet_needed = max(1, round(policy.silence_s / (GRID_STEPS * step_s)))
        self._energies: list[float] = []
        self._levels_db: deque[float] = deque(maxlen=FLOOR_MEMORY)
        self._quiet = 0
        self._had_event = False

    @property
    def steps_ahead(self) -> int:
        """Steps to the next place where the state may be reset."""
        return GRID_STEPS - len(self._energies)

    def update(self, samples: Samples, events: Sequence[Event]) -> bool:
        """Take whole steps, at most `steps_ahead`, and their events; True: reset the state now."""
        # One sum per step, so that the level is the same to the bit in any chunking.
        for step in samples.reshape(-1, self._step_samples):
            self._energies.append(float(np.dot(step, step)))
        self._had_event |= bool(events)
        if self.steps_ahead:
            return False
        self._add_level(sum(self._energies) / (GRID_STEPS * self._step_samples))
        self._energies = []
        had_event, self._had_event = self._had_event, False
        return had_event if self.policy.mode == "event" else self._quiet >= self._quiet_needed

    def _add_level(self, power: float) -> None:
        level_db = max(LOWEST_DB, 10 * math.log10(power + 1e-12))
        self._levels_db.append(level_db)
        is_quiet = level_db <= min(self._levels_db) + QUIET_MARGIN_DB
        self._quiet = self._quiet + 1 if is_quiet else 0
