"""`speechgru evaluate --conversation`, as it is typed."""

import json

import numpy as np
import pytest
import soundfile
from listener import tone_split
from speech_like import room, spoken
from tones import RATE

from speechgru.cli import main


def test_evaluate_conversation(stream_model, tmp_path, capsys):
    for number in range(3):
        parts = [room(0.5), spoken(1.2 + 0.3 * number), room(0.5)]
        soundfile.write(tmp_path / f"{number}.wav", np.concatenate(parts), RATE)
    manifest = str(tone_split().corpus.root / "tones.csv")
    options = ["evaluate", str(stream_model), "--data", manifest, "--conversation"]
    options += ["--talk", str(tmp_path), "--minutes", "1.5"]
    assert main([*options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["conversation"]
    assert told["words"] == told["matched"] + told["wrong"] + told["missed"] >= 6
    assert told["recall"] == told["matched"] / told["words"]
    assert told["stream"]["talk"]["recordings"] == 3
    assert told["talk_hours"] > 0.003
    keys = ("after_quiet", "after_talk", "by_pause", "by_talk", "by_place", "recall_ci95")
    assert set(keys) <= told.keys()
    assert main(options) == 0
    table = capsys.readouterr().out
    for expected in ("after quiet", "events in talk", "of talk and such a pause", "number 1 after"):
        assert expected in table
    assert max(map(len, table.splitlines())) <= 80
    # Three recordings are heard again and again, so that events in them are not independent.
    speech_s = told["stream"]["talk_speech_s"]
    times = 3600 * told["talk_hours"] / speech_s
    assert times > 1.2
    assert f"{speech_s / 60:.1f} minutes of speech, {times:.1f} times each" in table


@pytest.mark.parametrize("minutes", ["nan", "-5", "0"])
def test_a_conversation_has_a_length(stream_model, capsys, minutes):
    manifest = str(tone_split().corpus.root / "tones.csv")
    options = ["evaluate", str(stream_model), "--data", manifest, "--conversation"]
    assert main([*options, "--minutes", minutes]) == 2
    assert f"{minutes}" in (said := capsys.readouterr().err)
    assert "minutes 0:" not in said or minutes == "0"
