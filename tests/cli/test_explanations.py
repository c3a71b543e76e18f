"""What `listen` says of a word that was not recognized."""

import numpy as np
import pytest
import soundfile

from speechgru.audio.files import read
from speechgru.cli import main
from speechgru.cli.views.events import explanation
from speechgru.corpora import open_corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.corpora.word_bounds import word_bounds_s
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


def test_a_recording_that_ends_with_its_word_leads_to_recognize(tmp_path, capsys):
    """An event needs some time after the word; its beginning is a near miss at most."""
    clip = next(c for c in open_corpus(embedded_corpus()).split("testing") if c.word == "go")
    samples = read(clip.path, 16_000)
    _, end = word_bounds_s(samples, 16_000)
    told = {}
    for name, cut_s in (("cut", end - 0.1), ("whole", end + 1.0)):
        path = str(tmp_path / f"{name}.wav")
        sound = np.concatenate([samples, np.zeros(16_000, np.float32)])
        soundfile.write(path, sound[: round(cut_s * 16_000)], 16_000)
        assert main(["listen", "--input", path]) == 0
        told[name] = capsys.readouterr()
    assert "speechgru recognize" in told["cut"].err
    assert "go" in told["whole"].out
    assert "speechgru recognize" not in told["whole"].err
