"""Choice of thresholds: the fewest errors within a number of false alarms."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgru.evaluation.thresholds import THRESHOLDS, ThresholdTable


def table(alarms, errors):
    """Of words a, b, ... at the first thresholds; the last column is repeated for the others."""
    missing = len(THRESHOLDS) - len(alarms[0])
    pad = ((0, 0), (0, missing))
    return ThresholdTable(
        "abcdefg"[: len(alarms)], np.pad(alarms, pad, "edge"), np.pad(errors, pad, "edge")
    )


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(), words=st.integers(1, 3), thresholds=st.integers(1, 4), most=st.integers(0, 8)
)
def test_best_thresholds_against_brute_force(data, words, thresholds, most):
    """Against every combination."""
    cells = st.lists(
        st.lists(st.integers(0, 5), min_size=thresholds, max_size=thresholds),
        min_size=words,
        max_size=words,
    )
    alarms, errors = np.array(data.draw(cells)), np.array(data.draw(cells)).astype(float)
    found = table(alarms, errors).best(most)
    allowed = [
        picks
        for picks in itertools.product(range(thresholds), repeat=words)
        if alarms[np.arange(words), picks].sum() <= most
    ]
    if not allowed:
        assert found is None
        return
    columns = [min(THRESHOLDS.index(t), thresholds - 1) for t in found.values()]
    assert alarms[np.arange(words), columns].sum() <= most
    totals = [errors[np.arange(words), picks].sum() for picks in allowed]
    assert errors[np.arange(words), columns].sum() == min(totals)


def test_middle_of_equal_thresholds_is_chosen():
    alarms = np.array([[3, 1, 1, 1, 1, 1, 0, 0]])
    errors = np.array([[0.0, 2, 2, 2, 2, 2, 9, 9]])
    assert table(alarms, errors).best(1) == {"a": THRESHOLDS[3]}


def test_fewer_false_alarms_break_ties():
    alarms, errors = np.array([[4, 2, 0]]), np.array([[1.0, 1.0, 1.0]])
    found = table(alarms, errors).best(10)
    assert THRESHOLDS.index(found["a"]) >= 2


def test_thresholds_are_sorted_probabilities():
    assert list(THRESHOLDS) == sorted(set(THRESHOLDS))
    assert 0 < THRESHOLDS[0] < 0.5 < THRESHOLDS[-1] < 1
    assert 0.5 in THRESHOLDS


def test_current_threshold_stays_where_others_are_no_better():
    """In the middle of the stretch it would be far lower, for no reason."""
    counts = np.zeros((1, len(THRESHOLDS)))
    alarms, errors = counts.astype(np.int64), counts.copy()
    alarms[0, :4], errors[0, 36:] = 1, 1
    now = THRESHOLDS[30]
    kept = ThresholdTable(["zero"], alarms, errors, THRESHOLDS, [now])
    assert kept.best(0) == {"zero": now}
    assert ThresholdTable(["zero"], alarms, errors).best(0) == {"zero": THRESHOLDS[20]}
    alarms[0, :33] = 1
    assert kept.best(0) == {"zero": THRESHOLDS[34]}
