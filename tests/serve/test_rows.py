"""Rows of states: what one stream has is its own, whoever comes and goes meanwhile."""

import threading

import numpy as np

from speechgru.backends.loader import open_backend
from speechgru.modelfile.bundled import MODEL
from speechgru.serve.rows import _ROWS, BatchRows, rows_of


def sound(steps, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (steps, 1, 320)).astype(np.float32)


def test_a_stream_in_company_is_as_it_is_alone():
    backend = open_backend(MODEL)
    samples = sound(60)
    alone, _ = backend(samples.ravel(), backend.initial_state())
    rows, rng = rows_of(backend), np.random.default_rng(1)
    own, others = rows.add(), [rows.add() for _ in range(20)]
    found = []
    for step in samples:
        count = rng.integers(0, 20)
        company = rng.normal(0, 0.1, (count, 320)).astype(np.float32)
        found += list(rows.step([own, *others[:count]], np.concatenate([step, company]))[0])
    np.testing.assert_allclose(found, alone, atol=1e-4)


def test_room_for_more_streams_is_made_while_others_are_computed(monkeypatch):
    """A step that ends just as the arrays are copied to larger ones is in the larger ones."""
    backend = open_backend(MODEL)
    samples = sound(4)
    alone, _ = backend(samples.ravel(), backend.initial_state())
    rows = rows_of(backend)
    assert isinstance(rows, BatchRows)
    own, *_ = [rows.add() for _ in range(_ROWS)]
    found = [rows.step([own], samples[0])[0, 0]]
    thread = threading.Thread(target=lambda: found.append(rows.step([own], samples[1])[0, 0]))
    copied, copy = [], np.concatenate

    def interrupted(arrays, *rest):
        whole = copy(arrays, *rest)
        if threading.current_thread() is not thread and not copied:
            copied.append(whole)
            thread.start()
            thread.join(0.5)  # it may have to wait
        return whole

    monkeypatch.setattr(np, "concatenate", interrupted)
    rows.add()
    thread.join(10)
    assert copied
    found += [rows.step([own], step)[0, 0] for step in samples[2:]]
    np.testing.assert_allclose(found, alone, atol=1e-4)
