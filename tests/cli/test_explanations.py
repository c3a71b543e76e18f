"""What `listen --explain` says of a word that was not recognized."""

import pytest

from speechgru.cli.views.events import explanation
from speechgru.decoding.verdicts import Verdict


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (0.41, "near miss: go 0.41, below its threshold of 0.97"),
        (0.9671, "near miss: go 0.9671, below its threshold of 0.9700"),
    ],
)
def test_a_score_is_seen_to_be_below_its_threshold(score, told):
    verdict = Verdict(
        word="go", start_s=1.0, end_s=1.4, t=1.4, score=score, threshold=0.97, gate="threshold"
    )
    assert explanation(verdict).endswith(told)
