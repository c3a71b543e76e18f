"""A process that does not outlive the one that started it."""

import os
import signal
import threading

import psutil
import pytest

from speechgru.common import parents


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_parent_that_is_gone_already_interrupts_at_once(monkeypatch, when):
    sent, signalled = [], threading.Event()

    def kill(process, number):
        sent.append((process, number))
        signalled.set()

    def gone(process):
        raise psutil.NoSuchProcess(process)

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(os, "getppid", lambda: 99 if when == "meanwhile" else 1)
    monkeypatch.setattr(psutil, "Process", gone)
    parents.end_with(99)
    assert signalled.wait(10)
    assert sent == [(os.getpid(), signal.SIGINT)]
