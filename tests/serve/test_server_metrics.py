"""Metrics of a server that has run for months."""

import pytest

from speechgru.serve.metrics import Metrics


def test_large_numbers_are_given_in_full():
    metrics = Metrics()
    metrics.sound_s = 1_234_567.8
    metrics.events["mine", "go"] = 1_234_567
    metrics.opened["wyoming"] = 1_000_001
    values = dict(
        line.rsplit(" ", 1) for line in metrics.text().splitlines() if not line.startswith("#")
    )
    assert float(values["speechgru_sound_seconds_total"]) == pytest.approx(1_234_567.8, abs=1e-6)
    assert values['speechgru_events_total{model="mine",word="go"}'] == "1234567"
    assert values['speechgru_sessions_total{door="wyoming"}'] == "1000001"
