"""`speechgru data synthesize`."""

import json
import shutil

import pytest

from speechgru.cli import main
from speechgru.corpora import open_corpus
from speechgru.corpora.synthetic import espeak, kokoro, piper


@pytest.mark.skipif(not espeak.is_installed(), reason="espeak-ng is not installed")
def test_words_and_similar_words_are_written(tmp_path, capsys):
    out = tmp_path / "own"
    arguments = ["data", "synthesize", "lumos", "hey nox", "--out", str(out), "--takes", "4"]
    assert main([*arguments, "--similar", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["engine"], answer["existing"], len(answer["written"])) == ("espeak", 0, 16)
    assert answer["similar"]["hey nox"] == ["hey"]
    assert open_corpus(out).words == ("hey nox", "lumos")
    assert main(arguments) == 0
    assert "0 takes written" in capsys.readouterr().out


@pytest.mark.skipif(not espeak.is_installed(), reason="espeak-ng is not installed")
def test_words_of_other_languages_are_not_read_as_english_unsaid(tmp_path, capsys):
    out = tmp_path / "own"
    arguments = ["data", "synthesize", "--out", str(out), "--takes", "1"]
    for word in ("привет", "灯"):
        assert main([*arguments, word]) == 2
        assert (
            f"WORD {word}: an English voice cannot read it; --language" in capsys.readouterr().err
        )
    assert not out.exists()
    assert main([*arguments, "Küche"]) == 0
    assert "Küche: read by English voices; --language" in capsys.readouterr().err
    assert main([*arguments, "привет", "--language", "ru"]) == 0
    assert "English" not in capsys.readouterr().err


def test_without_an_engine_the_error_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    for module in (piper, kokoro):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert main(["data", "synthesize", "lumos", "--out", str(tmp_path / "own")]) == 1
    assert "no speech engine is installed" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "own").exists()
