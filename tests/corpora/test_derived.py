"""What is computed from packed recordings is computed once, and again where anything differs."""

from pathlib import Path

import numpy as np
import pytest

from speechgru.corpora import PackedAudio
from speechgru.corpora import derived as kept
from speechgru.corpora import word_bounds as positions
from speechgru.corpora.derived import MOST


def packed_in(folder: Path | None) -> PackedAudio:
    return PackedAudio((), np.zeros(0, np.int64), np.zeros(0, np.int16), 16_000, "", folder)


class Maker:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> np.ndarray:
        self.times += 1
        return np.arange(6.0).reshape(2, 3)


@pytest.fixture
def make() -> Maker:
    return Maker()


def keep(folder: Path | None, make: Maker, *of: object, name: str = "spans") -> np.ndarray:
    return kept.kept(packed_in(folder), name, positions, of, make)


def test_it_is_made_once(tmp_path, make):
    first, second = keep(tmp_path, make, 3, [1, 2]), keep(tmp_path, make, 3, [1, 2])
    assert make.times == 1
    assert first.dtype == second.dtype
    np.testing.assert_array_equal(first, second)
    second[:] = 0  # in this process's memory alone
    np.testing.assert_array_equal(keep(tmp_path, make, 3, [1, 2]), first)
    assert make.times == 1


@pytest.mark.parametrize("of", [[4, [1, 2]], [3, [1.0, 2.0]], [3, [[1], [2]]], [3, ["1", "2"]]])
def test_for_other_arguments_it_is_made_again(tmp_path, make, of):
    keep(tmp_path, make, 3, [1, 2])
    keep(tmp_path, make, *of)
    assert make.times == 2


def test_with_other_code_it_is_made_again(tmp_path, make):
    for module in (positions, kept, positions):
        kept.kept(packed_in(tmp_path), "spans", module, (), make)
    assert make.times == 2


def test_what_is_damaged_is_made_again(tmp_path, make):
    whole = keep(tmp_path, make)
    (file,) = tmp_path.glob("spans-*.npy")
    for number, damaged in enumerate((b"", file.read_bytes()[:-1], b"x" * 500)):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(keep(tmp_path, make), whole)
        assert make.times == number + 2


def test_where_it_cannot_be_kept_it_is_made_each_time(tmp_path, make):
    (tmp_path / "file").touch()
    for folder in (None, tmp_path / "file"):
        for _ in range(2):
            assert keep(folder, make).shape == (2, 3)
    assert make.times == 4


def test_the_oldest_and_what_is_half_written_are_thrown_away(tmp_path, make):
    (tmp_path / ".spans-0.npy.x.tmp").touch()
    keep(tmp_path, make, name="noise")
    for number in range(MOST + 2):
        keep(tmp_path, make, number)
    assert len(list(tmp_path.glob("spans-*.npy"))) == MOST
    assert len(list(tmp_path.glob("noise-*.npy"))) == 1
    assert not list(tmp_path.glob(".*.tmp"))
    before = make.times
    keep(tmp_path, make, MOST + 1)
    assert make.times == before
