"""An array is computed once, and again where anything that decides it differs."""

import os
from pathlib import Path

import numpy as np
import pytest

from speechgru.corpora import PackedAudio
from speechgru.corpora.derived import MAX_CACHED, DerivedArray, cached

SPANS = DerivedArray("spans", version=1)


def packed_in(folder: Path | None, fingerprint: str = "f") -> PackedAudio:
    no_samples = np.zeros(0, np.int16)
    return PackedAudio((), np.zeros(0, np.int64), no_samples, 16_000, fingerprint, folder)


class Counter:
    """Computes an array, and counts how often it is asked to."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> np.ndarray:
        self.times += 1
        return np.arange(6.0).reshape(2, 3)


@pytest.fixture
def compute() -> Counter:
    return Counter()


def spans(folder: Path | None, compute: Counter, *inputs: object) -> np.ndarray:
    return cached(SPANS, packed_in(folder), inputs, compute)


def test_an_array_is_computed_once(tmp_path, compute):
    first, second = spans(tmp_path, compute, 3, [1, 2]), spans(tmp_path, compute, 3, [1, 2])
    assert compute.times == 1
    assert first.dtype == second.dtype
    np.testing.assert_array_equal(first, second)
    second[:] = 0  # in this process's memory alone
    np.testing.assert_array_equal(spans(tmp_path, compute, 3, [1, 2]), first)
    assert compute.times == 1


@pytest.mark.parametrize("inputs", [[4, [1, 2]], [3, [1.0, 2.0]], [3, [[1], [2]]], [3, ["1", "2"]]])
def test_other_inputs_are_computed_again(tmp_path, compute, inputs):
    spans(tmp_path, compute, 3, [1, 2])
    spans(tmp_path, compute, *inputs)
    assert compute.times == 2


@pytest.mark.parametrize(
    ("derived", "fingerprint"),
    [
        (DerivedArray("spans", version=2), "f"),
        (DerivedArray("noise", version=1), "f"),
        (SPANS, "of other recordings"),
    ],
)
def test_other_versions_and_recordings_are_computed_again(tmp_path, compute, derived, fingerprint):
    spans(tmp_path, compute)
    cached(derived, packed_in(tmp_path, fingerprint), (), compute)
    assert compute.times == 2
    spans(tmp_path, compute)
    assert compute.times == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: b"x" * 500,
        lambda content: content[:-8] + bytes(8),  # of the right size, with a wrong number
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "seal"])
def test_a_damaged_file_is_computed_again(tmp_path, compute, damage, suffix):
    whole = spans(tmp_path, compute)
    (file,) = tmp_path.glob(f"spans-*.{suffix}")
    file.write_bytes(damage(file.read_bytes()))
    np.testing.assert_array_equal(spans(tmp_path, compute), whole)
    assert compute.times == 2
    spans(tmp_path, compute)
    assert compute.times == 2


def test_a_copied_cache_is_used(tmp_path, compute):
    """Its times differ, its content does not."""
    spans(tmp_path, compute)
    (file,) = tmp_path.glob("spans-*.npy")
    os.utime(file, (0, 0))
    spans(tmp_path, compute)
    assert compute.times == 1


def test_without_a_cache_it_is_computed_each_time(tmp_path, compute):
    (tmp_path / "file").touch()
    for folder in (None, tmp_path / "file"):
        for _ in range(2):
            assert spans(folder, compute).shape == (2, 3)
    assert compute.times == 4


def test_the_oldest_arrays_and_leftovers_are_deleted(tmp_path, compute):
    spans(tmp_path, compute, MAX_CACHED + 1)
    (file,) = tmp_path.glob("*.npy")
    left_over = tmp_path / f".{file.name}.abcd_123.tmp"
    file.rename(left_over)
    cached(DerivedArray("noise", version=1), packed_in(tmp_path), (), compute)
    for number in range(MAX_CACHED + 2):
        spans(tmp_path, compute, number)
    assert len(list(tmp_path.glob("spans-*.npy"))) == MAX_CACHED
    assert len(list(tmp_path.glob("spans-*.seal"))) == MAX_CACHED
    assert len(list(tmp_path.glob("noise-*.npy"))) == 1
    assert not left_over.exists()
    before = compute.times
    spans(tmp_path, compute, MAX_CACHED + 1)
    assert compute.times == before
