"""The order of the rooms: a file imports only from rooms above its own."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "speechgru"

#: From the ground up: a room imports from its own level only itself, else from levels before it.
#: A room is a file or a folder of the package.
LEVELS = (
    ("version", "errors", "labels", "__init__"),
    ("common",),
    ("audio",),
    ("corpora", "model", "decoding"),
    ("modelfile", "recognition"),
    ("backends", "evaluation", "recording"),
    ("training", "export"),
    ("analysis",),
    ("serve",),
    ("cli",),
    ("__main__",),
)

#: What runs without torch: listening to an exported model, and everything about recordings.
TORCH_FREE = (
    *("__init__", "version", "errors", "labels", "common", "audio", "corpora", "decoding"),
    *("recognition", "recording", "evaluation", "serve", "cli"),
    *("modelfile.header", "modelfile.onnx", "modelfile.bundled"),
    *("backends.loader", "backends.onnx", "backends.onnx_step"),
)

HEAVY = {"torch", "torchaudio", "librosa"}
#: What makes a command's first word slow.
SLOW = HEAVY | {"numpy", "scipy", "soundfile", "soxr", "pydantic", "safetensors", "matplotlib"}
SLOW |= {"asyncio", "ssl"}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts).removesuffix(".__init__")] = path
    return names


MODULES = modules()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path, at_import: bool = False, types: bool = True) -> tuple[str, ...]:
    """What a file imports; only when it is itself imported, or only when it runs."""

    def visit(node: ast.AST, inside_function: bool) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                if types and not at_import:
                    yield from visit(child, inside_function)
            elif isinstance(child, ast.Import) and not (at_import and inside_function):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and not (at_import and inside_function):
                assert child.level == 0, f"{path}: relative import"
                module = child.module or ""
                for alias in child.names:
                    submodule = f"{module}.{alias.name}"
                    yield submodule if submodule in MODULES else module
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, inside_function or function)

    return tuple(visit(parsed(path), False))


def room(module: str) -> str:
    """speechgru.corpora.packed -> corpora"""
    return [*module.split("."), "__init__"][1]


def own(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "speechgru"}


def level(module: str) -> int:
    return next(place for place, rooms in enumerate(LEVELS) if room(module) in rooms)


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_only_from_rooms_before_its_own(module):
    # What the package itself hands out is imported when it is asked for.
    for name in own(imports(MODULES[module], at_import=room(module) == "__init__")):
        same_level = room(name) in ("__init__", "labels", "errors", "version", room(module))
        assert same_level or level(name) < level(module), f"{module} imports {name}"


def test_a_newcomer_can_draw_the_package():
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len([path for path in entries if path.is_dir()]) <= 16
    assert len([path for path in entries if path.is_file()]) <= 7
    assert len(LEVELS) <= 11
    rooms = {room(module) for module in MODULES}
    assert rooms == {name for rooms in LEVELS for name in rooms}


def test_the_map_has_every_room_in_order_and_names_files_that_exist():
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/`", text, re.MULTILINE)
    assert set(rows) == {name for rooms in LEVELS for name in rooms if (PACKAGE / name).is_dir()}
    assert [level(f"speechgru.{row}") for row in rows] == sorted(
        level(f"speechgru.{row}") for row in rows
    )
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", text)
    assert len(named) > 10
    places = (PACKAGE, PACKAGE.parent)
    assert all(any((place / name).is_file() for place in places) for name in named)


def test_no_two_files_need_each_other():
    graph = {name: own(imports(path, types=False)) for name, path in MODULES.items()}
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    for name in graph:  # whoever imports a file imports its package first
        graph[name] = {used for used in graph[name] if used not in packages or name in packages}
    assert set(TopologicalSorter(graph).static_order()) >= set(MODULES)  # a cycle raises


def is_torch_free(module: str) -> bool:
    return room(module) in TORCH_FREE or module.removeprefix("speechgru.") in TORCH_FREE


def loaded_by(module: str) -> set[str]:
    """All that an import of a module imports, as far as it is ours to say."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name in MODULES:
            waiting += imports(MODULES[name], at_import=True)
            waiting += [name.rpartition(".")[0]] * ("." in name)
    return found


@pytest.mark.parametrize("module", [name for name in MODULES if is_torch_free(name)])
def test_what_listens_and_what_reads_recordings_needs_no_torch(module):
    assert not {name.split(".")[0] for name in loaded_by(module)} & HEAVY


def test_the_command_line_imports_what_is_slow_when_it_runs():
    assert not {name.split(".")[0] for name in loaded_by("speechgru.cli.app")} & SLOW


def test_no_verb_of_the_command_line_imports_another():
    verbs = {
        name
        for name, path in MODULES.items()
        if room(name) == "cli" and re.search(r"^@examples\(", path.read_text("utf-8"), re.MULTILINE)
    }
    assert len(verbs) > 20
    assert not {verb: shared for verb in verbs if (shared := verbs & own(imports(MODULES[verb])))}


def test_the_search_finds_what_is_there():
    """Or the tests above would pass on anything."""
    assert "torch" in loaded_by("speechgru.training.loop")
    assert "numpy" in loaded_by("speechgru.recognition.recognizer")
    assert "speechgru.training.loop" in set(imports(MODULES["speechgru.cli.train"]))
    assert "speechgru.training.loop" not in set(
        imports(MODULES["speechgru.cli.train"], at_import=True)
    )


@pytest.mark.parametrize(
    "arguments", [[], ["train", "--help"], ["data", "--help"], ["bench", "train", "--help"]]
)
def test_help_loads_nothing_slow(arguments):
    """In a process of its own: what is really loaded, by whatever way."""
    code = f"""
import json, sys
import speechgru
before = sorted(sys.modules)
from speechgru.cli import main
code = main({arguments or ["--help"]})
print(json.dumps([code, before, sorted(sys.modules)]), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    code, after_import, after_help = json.loads(done.stderr)
    assert code == 0
    assert "Usage:" in done.stdout
    assert not {"typer", "rich", *SLOW} & set(after_import)
    assert not SLOW & set(after_help)
