"""When a stream's recurrent state is reset: a setting, and what follows it along a stream."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from pydantic import Field

from speechgru.audio.files import Samples
from speechgru.common.settings import Settings
from speechgru.decoding.events import Event

#: The state may be reset at every fifth step of the stream, so that the places depend on no
#: chunking, and what lies between two of them can be computed at once.
GRID_STEPS = 5

#: Quiet is what is at most this much louder than the quietest tenth of a second of late; below
#: the lowest level all is quiet.
QUIET_MARGIN_DB, LOWEST_DB, FLOOR_MEMORY = 6.0, -60.0, 100


Mode = Literal["carry", "silence", "event"]
MODES = get_args(Mode)


class StatePolicy(Settings):
    """When a stream's recurrent state goes back to zeros; a model's file may hold its own.

    "carry": never. "silence": while it has been quiet for `silence_s` or longer, measured by the
    level against its lowest one of the last ten seconds. "event": after each event. The samples and
    the convolutions' frames are carried always: the sound goes on.

    The default is for models that were trained on single clips. One such (373 K, `commands-12`) on
    a 20-minute stream of validation clips, 342 words, with the best of 84 detectors each: 81 errors
    (words not matched, and false alarms) with "silence", 117 with "event", 198 with "carry".
    `evaluate --streaming --tune --keep` chooses for a model, and writes it into its file.
    """

    mode: Mode = "silence"
    silence_s: float = Field(0.5, ge=0.1, le=60.0)

    def __str__(self) -> str:
        return f"silence of {self.silence_s:g} s" if self.mode == "silence" else self.mode


CARRY = StatePolicy(mode="carry")


class Resets:
    """Follows a stream and says where its state is to be reset.

    Args:
        step_samples: samples of a step; every `GRID_STEPS` of them the state may be reset.
        step_s: the same in seconds.
    """

    def __init__(self, policy: StatePolicy, step_samples: int, step_s: float) -> None:
        self.policy = policy
        self._step_samples = step_samples
        self._quiet_needed = max(1, round(policy.silence_s / (GRID_STEPS * step_s)))
        self._energies: list[float] = []
        self._levels_db: deque[float] = deque(maxlen=FLOOR_MEMORY)
        self._quiet = 0
        self._wanted = False

    @property
    def steps_ahead(self) -> int:
        """Steps to the next place where the state may be reset."""
        return GRID_STEPS - len(self._energies)

    def hear(self, samples: Samples, events: Sequence[Event]) -> bool:
        """Whole steps, no more than `steps_ahead`, and their events; True: reset the state now."""
        # A sum for each step, so that the level has the same last bit in any chunking.
        for step in samples.reshape(-1, self._step_samples):
            self._energies.append(float(np.dot(step, step)))
        self._wanted |= bool(events)
        if self.steps_ahead:
            return False
        self._note_level(sum(self._energies) / (GRID_STEPS * self._step_samples))
        self._energies, wanted, self._wanted = [], self._wanted, False
        return wanted if self.policy.mode == "event" else self._quiet >= self._quiet_needed

    def _note_level(self, power: float) -> None:
        level_db = max(LOWEST_DB, 10 * math.log10(power + 1e-12))
        self._levels_db.append(level_db)
        quiet = level_db <= min(self._levels_db) + QUIET_MARGIN_DB
        self._quiet = self._quiet + 1 if quiet else 0
