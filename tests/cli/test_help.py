"""Help: every option explained, every example valid, nothing cut off, verbs apart."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.cells import cell_len

import speechgru.cli
from speechgru.cli import completion, main
from speechgru.cli.app import command_line
from speechgru.training.recipe_files import recipe_names

ROOM = Path(speechgru.cli.__file__).parent
VERB_FILES = {
    *("bench", "calibrate", "compare", "crossvalidate", "data", "demo", "devices", "evaluate"),
    *("export", "info"),
    *("inspect", "listen", "recipes", "recognize", "record", "review", "serve", "train", "verify"),
}


def commands(command=None, path=()):
    """Every command and group by its words: (), ("train",), ("data",), ("data", "check")."""
    command = command or command_line()
    found = {path: command}
    for name, below in getattr(command, "commands", {}).items():
        found |= commands(below, (*path, name))
    return found


COMMANDS = commands()
LEAVES = {path: command for path, command in COMMANDS.items() if not hasattr(command, "commands")}


def help_of(path, capsys, option="--help"):
    assert main([*path, option]) == 0
    return capsys.readouterr().out


def example_lines(command):
    """The examples of a command, continued lines joined."""
    return command.epilog.replace("\\\n", " ").splitlines()


EXAMPLES = [
    line for command in (command_line(), *LEAVES.values()) for line in example_lines(command)
]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_has_help(path):
    for param in COMMANDS[path].params:
        assert param.help, f"{path} {param.name}"
        assert (
            param.help[0].isupper()
            or param.help[0].isdigit()
            or param.name
            in (
                *("device", "split", "name"),  # lists of values
            )
        ), param.help


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_verb_has_an_example(path):
    assert any(" ".join(("speechgru", *path)) in line for line in example_lines(LEAVES[path]))


@pytest.mark.parametrize("line", EXAMPLES)
def test_every_example_parses(line, monkeypatch):
    """All of it but the call itself: options that exist, values in range, nothing missing."""
    for leaf in LEAVES.values():
        monkeypatch.setattr(leaf, "callback", lambda **_: 0)
    words = shlex.split(line.rpartition("| ")[2])
    assert words[0] == "speechgru"
    command_line()(args=words[1:], standalone_mode=False)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_line_of_help_is_cut_or_too_wide(path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = help_of(path, capsys).splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert not [line for line in lines[1:] if line.endswith("...") or "…" in line]


@pytest.mark.parametrize("path", [path for path in COMMANDS if path not in LEAVES], ids=" ".join)
def test_lists_of_commands_have_each_ones_first_sentence(path, capsys):
    text = " ".join(help_of(path, capsys).split())
    for name, command in COMMANDS[path].commands.items():
        first = " ".join(command.help.partition("\n\n")[0].split())
        assert f"{name} {first}" in text


def test_commands_and_long_lists_of_options_are_in_panels(capsys):
    text = help_of((), capsys)
    assert [line for line in text.splitlines() if re.fullmatch(r"\w+:", line)] == [
        *("Train:", "Listen:", "Data:", "Tools:", "Options:", "Examples:"),
    ]
    for verb in ("evaluate", "listen"):
        sections = help_of((verb,), capsys).split("\n\n")
        assert max(len(re.findall(r"^  -", section, re.MULTILINE)) for section in sections) <= 7


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_h_is_help(path, capsys):
    assert help_of(path, capsys, "-h") == help_of(path, capsys)


def test_without_arguments_the_help_is_shown_and_the_exit_code_is_that_of_usage(capsys):
    assert main([]) == 2
    assert "speechgru train my-words" in capsys.readouterr().err

    assert main(["bench"]) == 2
    assert "\x1b" not in capsys.readouterr().err  # no bold letters where there is no terminal


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("speechgru tra", ["train"]),
        ("speechgru train my", ["my-words"]),
        ("speechgru listen comm", ["commands-12", "commands-12-small"]),
        ("speechgru evaluate x --split v", ["validation"]),
    ],
)
def test_the_shell_completes_verbs_recipes_and_models(typed, offered):
    environment = os.environ | {
        "_SPEECHGRU_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    code = "import sys; sys.argv[0] = 'speechgru'; from speechgru.cli import entry_point as e; e()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == offered, done.stderr


def test_recipes_are_completed_with_their_descriptions():
    found = dict(completion.complete_recipe(""))
    assert list(found) == recipe_names()
    assert all(found.values())


def test_a_script_for_completion_can_be_shown():
    done = subprocess.run(
        [sys.executable, "-m", "speechgru", "--show-completion"],
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": ""},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr


def test_recipes_are_listed_with_the_place_where_they_lie(capsys):
    assert main(["recipes"]) == 0
    text = capsys.readouterr().out
    assert all(f"{name} " in text for name in recipe_names())
    assert "my-words" in text
    assert "TOML file in" in text


def imports_of(path: Path) -> set[str]:
    """The modules of this room that a file imports, whenever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("speechgru.cli."):
            found.add((node.module or "").split(".")[2])
    return found


@pytest.mark.parametrize("path", sorted(ROOM.rglob("*.py")), ids=lambda path: path.stem)
def test_no_verb_imports_another(path):
    own = path.relative_to(ROOM).parts[0].removesuffix(".py")
    if own == "app":
        assert imports_of(path) >= VERB_FILES
    else:
        assert not imports_of(path) & VERB_FILES - {own}


def test_a_usage_error_names_the_option_and_where_it_is_explained(capsys):
    assert main(["train", "--colour", "red"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: No such option: --colour")
    assert lines[1].startswith("Usage: ")
    assert lines[2].endswith("train -h` explains the options")
    assert typer.__name__ not in lines[0]


@pytest.mark.parametrize("verb", ["listen", "record"])
def test_an_input_that_is_given_twice_is_refused(verb, capsys):
    assert main([verb, "--input", "a.wav", "--input=b.wav"]) == 2
    assert "--input: is given more than once; only one is used" in capsys.readouterr().err
