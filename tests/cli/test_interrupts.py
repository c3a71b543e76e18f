"""Signals that stop a command: what is saved meanwhile is not lost to a second one."""

import signal

import pytest

from speechgru.cli.interrupts import Interrupts


def test_a_terminal_that_says_twice_that_it_is_closed_interrupts_once():
    with Interrupts():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # while what was recorded is saved
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_work_on_an_item_ends_before_the_interruption():
    seen = []

    def work(items):
        for item in items:
            if item == 2:
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGTERM)
            seen.append(item)

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        work(interrupts.between(range(5)))
    assert seen == [0, 1, 2]
