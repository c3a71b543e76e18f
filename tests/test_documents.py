"""What the documents show is run: each shell line and Python block, in order, on small data."""

import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from speechgru.audio.files import read
from speechgru.cli import main
from speechgru.corpora.embedded import embedded_corpus
from speechgru.training.recipe_files import recipe_names

PROJECT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(PROJECT).as_posix()
    for path in (
        PROJECT / "README.md",
        *(PROJECT / "recipes").rglob("*.md"),
        *(PROJECT / ".github").glob("*.md"),
        *(PROJECT / "speechgru").rglob("*.md"),
    )
)
#: Pages whose lines are run from the first to the last, in one folder.
GUIDES = [
    "README.md",
    *(page for page in PAGES if page.startswith("recipes/guides/") and "commands" not in page),
]

#: Lines that no test can run here, by how they begin, and why. Their options are checked.
NOT_RUN = {
    "pip install": "the environment of the tests is installed already",
    "speechgru demo": "a minute; tests/cli/test_demo.py and the slow tests run it",
    "speechgru serve": "a server does not end; tests/serve runs it",
    "apt-get": "installs system packages",
    "npm": "installs packages",
    "docker": "needs a container engine",
    "podman": "needs a container engine",
    "systemctl": "needs systemd",
    "speechgru data download": "2.4 GB; tests/corpora/test_download.py runs it on a server here",
    "speechgru bench": "measures for minutes; tests/analysis runs it",
}

#: Where the words in a page's commands come from: six speakers say ten digits, or three words.
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
QUICK = (
    *("training.epochs=0.05", "training.least_steps=2", "training.validations=1"),
    *("training.batch_size=8", "model.hidden=16", "model.front_channels=[4,4]"),
    *("training.begin_with=", "training.choose_by=clips", "stream.talk_share=0"),
)


def text(page: str) -> str:
    return (PROJECT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text(page), re.DOTALL)


def shell_lines(page: str) -> list[str]:
    """Commands without comments; one that goes on over lines is joined."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    commands = (shlex.join(shlex.split(line, comments=True)) for line in lines)
    return [command for command in commands if command]


def commands_of(line: str) -> Iterator[str]:
    """The commands of a line that are joined by `&&` or a pipe."""
    words: list[str] = []
    for word in shlex.split(line):
        if word in ("&&", "|"):
            yield shlex.join(words)
            words = []
        else:
            words.append(word)
    yield shlex.join(words)


def why_not(command: str) -> str | None:
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), None)


ALL_COMMANDS = sorted(
    {command for page in PAGES for line in shell_lines(page) for command in commands_of(line)}
)


@pytest.mark.parametrize("command", [c for c in ALL_COMMANDS if c.startswith("speechgru ")])
def test_each_command_and_option_exists(command, capsys):
    # Options are parsed before --help is answered: one that does not exist exits 2.
    assert main([*shlex.split(command)[1:], "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_every_line_is_run_or_has_a_reason():
    known = ("speechgru ", "python recipes/", "pytest", "ruff ", "mypy", "cp ", "arecord ")
    unknown = [
        command for command in ALL_COMMANDS if not (command.startswith(known) or why_not(command))
    ]
    assert [c for c in unknown if not c.startswith("torchrun")] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text(page), flags=re.S)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (PROJECT / page).parent / name if name else PROJECT / page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


def anchors(path: Path) -> set[str]:
    """As a page's headings are linked to."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_each_recipe_has_its_row():
    for name in recipe_names():
        assert f"[`{name}`]({name}.toml)" in text("recipes/README.md")


def test_the_front_page_fits_a_screen_and_a_half():
    assert len(text("README.md").splitlines()) <= 120
    assert len(text("recipes/README.md").splitlines()) <= 80


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Recordings with the names that the pages use, and a `play` that does nothing."""
    monkeypatch.chdir(tmp_path)
    corpus = embedded_corpus()
    words = sorted(p.name for p in corpus.iterdir() if p.is_dir() and not p.name.startswith("_"))
    voices = [sorted((corpus / word).glob("*.ogg")) for word in words]
    for digit, clips in zip(DIGITS, voices, strict=False):
        for number, speaker in enumerate(SPEAKERS):
            target = tmp_path / "fsdd" / digit / f"{speaker}_0.ogg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(clips[number], target)
    for word, clips in zip(("lights", "music", "go"), voices, strict=False):
        for number, speaker in enumerate(("anna", "ben", "cleo", "dan", "eve")):
            for take in (1, 2):
                target = tmp_path / "my-words" / word / f"{speaker}_{take}.ogg"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(clips[5 * take + number], target)
    (tmp_path / "gsc-open").symlink_to(corpus)
    sound = np.concatenate([np.zeros(16_000, np.float32), read(voices[0][0])])
    sound = np.concatenate([sound, np.zeros(16_000, np.float32)])
    sound += np.random.default_rng(0).normal(0, 1e-3, len(sound)).astype(np.float32)
    for name in ("some.wav", "other.flac", "long.wav", "long-recording.wav", "speech.flac"):
        soundfile.write(tmp_path / name, sound, 16_000)
    for room in ("room", "ambient-speech"):
        (tmp_path / room).mkdir()
        soundfile.write(tmp_path / room / "evening.wav", np.tile(sound, 3), 16_000)
    (tmp_path / "phrases.txt").write_text("zero [six] (one|two)\nthree (four|five)\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "play").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "play").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    (tmp_path / "recipes").symlink_to(PROJECT / "recipes")
    return tmp_path


def small(words: list[str]) -> list[str]:
    """The same command on less: fewer steps and minutes, a file in the place of a microphone."""
    verb = words[0]
    if verb == "train" and "--resume" not in words:
        for setting in QUICK:
            words += ["--set", setting]
    if verb == "listen" and "--input" not in words:
        words += ["--input", "some.wav"]
    if verb == "record" and "--input" not in words:
        words = ["record", "lights", "--input", "long-recording.wav", "--out", "recorded"]
    if "--tune" in words:  # minutes of replays: tests/cli/test_evaluate_streaming.py runs it
        words = [word for word in words if word not in ("--tune", "--keep")]
    for option, value in (("--minutes", "0.5"), ("--orders", "1"), ("--beam", "2")):
        if option in words:
            words[words.index(option) + 1] = value
    return words


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES)
def test_the_lines_of_a_page_run_in_order(page, folder, monkeypatch, capsys):
    ran = 0
    if page != "README.md":  # whose reader has trained this already
        assert main(small(["train", "my-words", "--data", "my-words", "--out", "runs/mine"])) == 0
    for line in shell_lines(page):
        for command in commands_of(line):
            if why_not(command) or not command.startswith(("speechgru ", "cp ")):
                continue
            words = shlex.split(command)
            if words[0] == "cp":
                shutil.copy(PROJECT / words[1], folder / words[2])
                continue
            if "devices" in words[1:2]:
                continue  # whatever microphones there are: tests/audio runs it on one
            if "--out runs/mine" in command:
                shutil.rmtree("runs/mine", ignore_errors=True)
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(**pcm_on_stdin()))
            code = main(small(words[1:]))
            # A detector that heard nothing of two steps' training is no failure of the command.
            assert code in ((0, 5) if "calibrate" in command or "export" in command else (0,)), (
                command,
                capsys.readouterr().err,
            )
            ran += 1
    assert ran or not shell_lines(page)


def pcm_on_stdin() -> dict[str, object]:
    return {"buffer": io.BytesIO(bytes(64_000)), "isatty": lambda: False, "fileno": lambda: 0}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_blocks_run(page, folder):
    """With the names that they take for granted."""
    from speechgru.model.features import FeatureConfig
    from speechgru.model.network import ModelConfig, SpeechGRU
    from speechgru.modelfile import save_model

    tone = np.sin(np.arange(16_000) * 0.2).astype(np.float32) * 0.1
    network = SpeechGRU(ModelConfig(hidden=8, layers=1), FeatureConfig(), ("left", "right"))
    (folder / "runs" / "mine").mkdir(parents=True)
    save_model(network, folder / "runs" / "mine" / "model.safetensors")
    shutil.copy(PROJECT / "speechgru/modelfile/bundled/commands-12.onnx", folder / "model.onnx")
    batch = torch.from_numpy(tone)[None]
    names = {"samples": tone, "chunks": [tone, tone], "batch": batch, "next_batch": batch}
    for code in blocks(page, "python"):
        exec(compile(code, page, "exec"), names)
    if "log_posteriors" in names:
        whole, _ = network.eval()(torch.cat([batch, batch], dim=1))
        chunks = torch.cat([names["log_posteriors"], names["more"]], dim=1)
        assert torch.allclose(whole, chunks, atol=1e-4)
