"""A folder with everything that the documents' commands name, and those commands made small."""

import re
import shutil
from pathlib import Path

import numpy as np
import soundfile
from once import made_once
from places import PROJECT

from speechgru.audio.files import read
from speechgru.corpora.embedded import embedded_corpus
from speechgru.corpora.protocols import TWELVE, WORDS_V2
from speechgru.labels import COMMANDS

RATE = 16_000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
OWN_WORDS = ("go", "lights", "music")

#: A training of a few steps on a few clips: what is left of a recipe is its task.
QUICK = (
    *("training.epochs=0.05", "training.least_steps=2", "training.validations=1"),
    *("training.batch_size=8", "model.hidden=16", "model.front_channels=[4,4]"),
    *("training.begin_with=", "training.choose_by=clips", "stream.talk_share=0"),
)
#: Options whose value is replaced wherever they are given.
LESS = {
    **{"--minutes": "0.5", "--orders": "1", "--beam": "2", "--seeds": "1"},
    **{"--clips": "40", "--batches": "2", "--rounds": "1"},
}
#: What a verb is given besides.
BESIDES = {
    "train": [word for setting in QUICK for word in ("--set", setting)],
    "compare": ["--set", "training.epochs=0.05", "--set", "training.validations=1"],
    "evaluate": ["--minutes", "0.5"],
    "data stream": ["--minutes", "0.5"],
    "calibrate": ["--minutes", "0.5"],
    "bench train": ["--set", "training.batch_size=8", "--workers", "1"],
    "bench cells": ["--steps", "20"],
    "bench loss": ["--draws", "1"],
    "bench serve": ["--streams", "2", "--seconds", "1"],
    "other_voices.py": ["--clips", "40"],
    "wake_words.py": ["--voices", "4"],
    "crossvalidate": [word for setting in QUICK for word in ("--set", setting)],
}


def smaller(words: list[str]) -> list[str]:
    """A command on less: fewer steps, minutes and takes, and a file in a microphone's place."""
    words = [LESS.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    words = [re.sub(r"\b(theo):\d+$", r"\1:1", word) for word in words]
    words = ["my-words" if word == "FOLDER" else word for word in words]
    if words[0] == "compare":
        words += [] if "--cells" in words else ["--cells", "gru,rnn"]
        at = words.index("--cells") + 1
        words[at] = ",".join(words[at].replace("all", "gru,rnn").split(",")[:2])
    verb = words[0] if words[0] not in ("bench", "data") else " ".join(words[:2])
    if verb == "listen" and "--input" not in words:
        words += ["--input", "some.wav"]
    if verb == "record" and "--input" not in words:
        speaker, out = (words.index(option) for option in ("--speaker", "--out"))
        kept = [*words[speaker : speaker + 2], *words[out : out + 2]]
        words = [*words[:2], "--input", "some.wav", *kept]
    if verb == "train" and "--resume" in words:
        return words
    makes_stream = "--streaming" in words and "--audio" not in words
    if verb == "evaluate" and not makes_stream and "--conversation" not in words:
        return words  # --minutes would be an error
    return words + BESIDES.get(Path(verb).name, [])


def small_world(folder: Path) -> None:
    """Fill an empty folder; what commands write to is copied there, the rest is linked."""
    shared = made_once("documents", _make)
    for path in shared.iterdir():
        if path.name in ("my-words", "bin", "caught"):
            shutil.copytree(path, folder / path.name)
        else:
            (folder / path.name).symlink_to(path)
    for name in ("recipes", "speechgru", "tests"):
        (folder / name).symlink_to(PROJECT / name)


def _make(root: Path) -> None:
    corpus = embedded_corpus()
    spoken = [
        sorted(path.glob("*.ogg")) for path in sorted(corpus.iterdir()) if path.name[0].isalpha()
    ]
    spoken = [clips for clips in spoken if clips]

    def say(target: Path, word: int, voice: int) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(spoken[word % len(spoken)][voice])

    for number, word in enumerate(DIGITS):
        for voice, speaker in enumerate(SPEAKERS):
            for take in range(3):
                say(root / "fsdd" / word / f"{speaker}_{take}.ogg", number, 3 * voice + take)
    for number, word in enumerate((*OWN_WORDS, "_unknown_")):
        for voice, speaker in enumerate(("anna", "ben", "cleo", "dan", "eve")):
            for take in (1, 2):
                name = f"{speaker}_{take}.ogg"
                say(root / "my-words" / word / name, number, 5 * take + voice)
    for voice in range(3):
        say(root / "caught" / "go" / f"{voice}.ogg", 0, voice)
    for name in ("gsc-open", "gsc-wide", "speech-commands-v2"):
        _speech_commands(root / name, say)
    for number, word in enumerate((*COMMANDS, "_silence_", "_unknown_")):
        for voice in range(2):
            name = f"{voice:08x}_nohash_0.ogg"
            say(root / "speech-commands-v2-test" / word / name, number, voice)
    _recordings(root, spoken)
    (root / "bin").mkdir()
    for name in ("play", "mosquitto_pub", "curl"):
        (root / "bin" / name).write_text("#!/bin/sh\n")
        (root / "bin" / name).chmod(0o755)


def _speech_commands(root: Path, say) -> None:
    """All words of the second version by 12 voices, of which lists name two and two."""
    lists = {"validation": (0, 1), "testing": (2, 3)}
    for number, word in enumerate(WORDS_V2):
        for voice in range(12):
            say(root / word / f"{voice:08x}_nohash_0.ogg", number, voice)
    for split, voices in lists.items():
        names = [f"{word}/{voice:08x}_nohash_0.ogg" for word in WORDS_V2 for voice in voices]
        (root / f"{split}_list.txt").write_text("\n".join(names))
    (root / "_background_noise_").mkdir()
    noise = np.random.default_rng(1).normal(0, 0.01, 15 * RATE)
    soundfile.write(root / "_background_noise_" / "noise.wav", noise, RATE)


def _recordings(root: Path, spoken: list[list[Path]]) -> None:
    """Eight words with a second of quiet around each, by another voice in each file."""
    quiet = np.random.default_rng(0).normal(0, 1e-3, RATE).astype(np.float32)
    names = ("some.wav", "other.flac", "long-recording.wav", "room/a.wav")
    names += ("ambient-speech/a.wav", "ambient-testing/a.wav", "esc-testing/a.wav")
    names += ("ambient-speech/b.flac", "ambient-speech/c.flac", "an4/utterances/d.ogg")
    names += ("esc-10/rain/a.ogg", "esc-10/rain/b.ogg")
    for voice, name in enumerate(names):
        words = [part for clips in spoken[:8] for part in (read(clips[voice]), quiet)]
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, np.concatenate([quiet, *words]), RATE)
    (root / "an4" / "transcripts.tsv").write_text("c\tanna\tYES\nd\tben\tNINE\n")


def untrained(run: str, path: Path) -> None:
    """A run's model without its training, for the commands that come after it."""
    from speechgru.model.features import FeatureConfig
    from speechgru.model.network import ModelConfig, SpeechGRU
    from speechgru.modelfile import save_model

    words, heads, protocol = {
        "mine": (("_silence_", "_unknown_", *OWN_WORDS), ("classify",), "folder"),
        "digits-ctc": (("_silence_", "_unknown_", *DIGITS), ("ctc", "classify"), "folder"),
        "speech-commands-v2-12": (TWELVE, ("classify",), "v2-12"),
    }[run]
    network = SpeechGRU(ModelConfig(hidden=16, layers=1, heads=heads), FeatureConfig(), words)
    network.metadata |= {"protocol": protocol}
    path.parent.mkdir(parents=True)
    save_model(network, path)
