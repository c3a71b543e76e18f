"""What the documents show is run: every shell line and every Python block, on small data.

A section's commands are run in its order, in a folder with everything that they name
(`small_world`); `smaller` says what is made less of them. What cannot be run here is in `NOT_RUN`.
"""

import functools
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from documents import PAGES, Section, anchors, figures, is_rounded, links, read, sections
from places import PROJECT
from scripts import load_script
from servers import running
from small_world import QUICK, small_world, smaller, untrained

from speechgru.cli import main
from speechgru.decoding import Event
from speechgru.training import recipe as recipes
from speechgru.training.recipe_files import recipe_names

ALL = [section for page in PAGES for section in sections(page)]
COMMANDS = [section for section in ALL if section.commands]
PYTHON = [section for section in ALL if any(language == "python" for language, _ in section.blocks)]

_CI = "what .ci/run does with this suite itself"
_PIP = "tests/test_distributions.py builds and lists what pip installs"
#: Lines that are not run, each with the reason; the options of speechgru's are checked.
NOT_RUN = {
    "pip install .": _PIP,
    "pip install .[test]": _PIP,
    "pip install -e .[test]": _PIP,
    "pip install --no-deps .": _PIP,
    "pip install .[serve]": _PIP,
    "pip install numpy onnxruntime typer rich soundfile soxr sounddevice pydantic filelock "
    "psutil": "tests/backends/test_without_torch.py runs with these packages alone",
    "pytest": _CI,
    "pytest -m slow": _CI,
    "pytest -m fuzz --dist load": "tests/fuzz runs a small part of these inputs in every run",
    "pytest tests/audio -x": _CI,
    "pytest tests/decoding/test_ctc.py -k beam": _CI,
    "ruff format --check .": _CI,
    "ruff check .": _CI,
    "mypy": _CI,
    "arecord -f S16_LE -r 16000 -t raw": "needs a microphone; its samples come from elsewhere here",
    "speechgru data download speech-commands-v2": (
        "2.4 GB; tests/corpora/test_download.py downloads from a server of its own"
    ),
    "speechgru data download speech-commands-v2-test": (
        "0.1 GB; tests/corpora/test_download.py downloads from a server of its own"
    ),
    "speechgru data synthesize lumos nox --takes 100 --similar --out my-words": (
        "needs espeak-ng; tests/corpora/test_synthetic.py synthesizes where it is installed"
    ),
    "speechgru export runs/mine/model.safetensors --web site/": (
        "needs npm; tests/export/test_web.py writes such pages and opens them"
    ),
    "speechgru train --data speech-commands-v2 --devices 4": (
        "needs four GPUs; tests/training/test_distributed.py trains with two processes"
    ),
    "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 "
    "-m speechgru train --data speech-commands-v2 --out RUN": (
        "needs two machines; tests/training/test_distributed.py runs this line on one"
    ),
}

#: Where `serve` answers in the documents.
SERVED = "127.0.0.1:10400"
#: Verbs that take seconds even on small data, as do some options of `evaluate`.
SLOW = {
    "demo",
    "train",
    "compare",
    "bench",
    "export",
    "inspect",
    "record",
    "crossvalidate",
    "serve",
    "degraded_copies.py",
}


def verb(command: list[str]) -> str:
    return Path(command[1] if len(command) > 1 else command[0]).name


def is_slow(section: Section) -> bool:
    commands = [command for command in section.commands if " ".join(command) not in NOT_RUN]
    return any(
        verb(command) in SLOW or {"--tune", "--conversation"} & {*command} for command in commands
    )


def test_what_is_not_run_is_in_a_document():
    shown = {" ".join(command) for section in ALL for command in section.commands}
    assert set(NOT_RUN) - shown == set()
    for reason in NOT_RUN.values():
        for name in (word for word in reason.split() if word.startswith("tests/")):
            assert (PROJECT / name).exists()


@pytest.mark.parametrize(
    "command",
    sorted({" ".join(c) for section in ALL for c in section.commands if c[0] == "speechgru"}),
)
def test_each_command_and_option_exists(command, capsys):
    words = next(c for section in ALL for c in section.commands if " ".join(c) == command)
    # Options are parsed before --help is answered: one that does not exist exits 2.
    assert main([*words[1:], "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


@pytest.fixture
def world(tmp_path, monkeypatch) -> Iterator[Path]:
    """The folder in which the commands run."""
    small_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    (tmp_path / "samples.raw").write_bytes(bytes(64_000))
    with (tmp_path / "samples.raw").open(encoding="latin-1") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield tmp_path


@pytest.fixture
def quick_demo(monkeypatch) -> None:
    """`demo`, which takes no overrides, trains as little as the other commands do."""
    load = recipes.load_recipe
    monkeypatch.setattr(recipes, "load_recipe", functools.partial(load, overrides=QUICK))


@pytest.mark.parametrize(
    "section",
    [
        pytest.param(section, id=str(section), marks=[pytest.mark.slow] * is_slow(section))
        for section in COMMANDS
    ],
)
def test_the_lines_of_a_section_run(section, world, request, capsys):
    for language, block in section.blocks:
        if language == "text" and block.startswith("# "):  # a file: its first line is its name
            (world / block[2:].splitlines()[0]).write_text(block)
    for name, fixture in (("demo", "quick_demo"), ("compare", "quick_costs")):
        if any(verb(command) == name for command in section.commands):
            request.getfixturevalue(fixture)
    provide(section, world)
    for command in section.commands:
        if " ".join(command) in NOT_RUN:
            continue
        code = run(command)
        assert code in allowed(command), (command, capsys.readouterr().err)


def provide(section: Section, world: Path) -> None:
    """The models that the section's commands take and that earlier sections have made."""
    made = ""
    for command in section.commands:
        text = " ".join(command)
        for run_name in ("mine", "digits-ctc", "speech-commands-v2-12"):
            model = world / "runs" / run_name / "model.safetensors"
            is_made = f"runs/{run_name}" in made or f"train {run_name}" in made
            if f"runs/{run_name}/" in text and not (is_made or model.exists()):
                untrained(run_name, model)
        exported = world / "mine.onnx"
        if "mine.onnx" in text and "-o mine.onnx" not in made + text and not exported.exists():
            shutil.copy(PROJECT / "speechgru/modelfile/bundled/commands-12.onnx", exported)
        others = world / "gsc-open-others"
        if others.name in text and f"--out {others.name}" not in made + text:
            others.unlink(missing_ok=True)
            others.symlink_to(world / "gsc-open")
        made += f" {text}"


def run(command: list[str]) -> int:
    """A command in this process, made smaller."""
    program, *words = command
    if program == "cp":
        shutil.copy(*words)
        return 0
    if program == "python":
        script, *words = smaller(words)
        return load_script(Path(script).stem).main(words)
    if verb(command) == "review":
        sys.stdin = io.StringIO("right\nspeech\n")
    assert program == "speechgru", f"{command}: neither run nor in NOT_RUN"
    if words[0] == "serve":
        return serve(words)
    return main(smaller(words))


def serve(words: list[str]) -> int:
    """A server on free ports, stopped once it is there."""
    for option, port in (("--port", "0"), ("--wyoming", "127.0.0.1:0")):
        if option in words:
            words[words.index(option) + 1] = port
    words += [] if "--port" in words else ["--port", "0"]
    line = [sys.executable, "-m", "speechgru", *words]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as server:
        assert " on http" in server.stderr.readline()
        server.terminate()
        server.stderr.read()
        return server.wait(30)


def allowed(command: list[str]) -> tuple[int, ...]:
    """Exit codes that are no fault of the command."""
    if verb(command) == "devices":
        return (0, 3)  # no microphone, or no PortAudio
    if verb(command) in ("calibrate", "export"):
        return (0, 5)  # a network after two steps need not pass a check
    return (0,)


@pytest.mark.parametrize("section", [pytest.param(section, id=str(section)) for section in PYTHON])
def test_python_blocks_run(section, world):
    """With the names that they take for granted."""
    untrained("mine", world / "runs" / "mine" / "model.safetensors")
    shutil.copy(PROJECT / "speechgru/modelfile/bundled/commands-12.onnx", world / "model.onnx")
    tone = np.sin(np.arange(16_000) * 0.2).astype(np.float32) * 0.1
    batch = torch.from_numpy(tone)[None]
    names = {"samples": tone, "chunks": [tone, tone], "batch": batch, "next_batch": batch}
    with ExitStack() as servers:
        for language, code in section.blocks:
            if language == "python":
                if SERVED in code:
                    code = code.replace(SERVED, str(servers.enter_context(running()).address))
                exec(compile(code, str(section), "exec"), names)
    if "log_posteriors" in names:
        whole, _ = names["model"](torch.cat([batch, batch], dim=1))
        chunks = torch.cat([names["log_posteriors"], names["more"]], dim=1)
        assert torch.allclose(whole, chunks, atol=1e-4)


def test_the_line_of_an_event_is_as_it_is_written():
    (line,) = (code for _, code in section_of("recipes/guides/listening.md", "json").blocks[-1:])
    assert list(json.loads(line)) == list(Event("go", 11.9, 12.3, 0.97, 12.34).as_dict())


def section_of(page: str, language: str) -> Section:
    return next(
        section
        for section in sections(page)
        if any(block[0] == language for block in section.blocks)
    )


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (PROJECT / page).parent / name if name else PROJECT / page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


@pytest.mark.parametrize("page", ["README.md", "recipes/README.md"])
def test_figures_are_those_of_the_results(page):
    results = figures(read("recipes/RESULTS.md"))
    told = {figure for figure in figures(read(page)) if figure != "95"}  # the intervals' own
    assert told
    assert [figure for figure in told if not is_rounded(figure, results)] == []


def test_each_recipe_has_its_row():
    for name in recipe_names():
        assert f"[`{name}`]({name}.toml)" in read("recipes/README.md")


def test_the_front_pages_are_short():
    assert len(read("README.md").splitlines()) <= 110
    assert len(read("recipes/README.md").splitlines()) <= 80
