import os
import sys
import time
from pathlib import Path

import pytest

from speechgru.decoding.events import Event
from speechgru.errors import UsageError
from speechgru.recognition.actions import Actions, check_words, parse_hook, shell_syntax

EVENT = Event("go", start_s=1.25, end_s=1.5, score=0.912345, t=1.64)


def python(code):
    """A hook's command that runs Python code."""
    return parse_hook(f"go={sys.executable} -c {code!r}")


def run(*hooks, events=1, **options):
    """The reports and the actions, after the programs' end."""
    reports = []
    with Actions(hooks, reports.append, **options) as actions:
        for _ in range(events):
            actions.push(EVENT)
    return reports, actions


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Killed, and waited for by nobody, is dead too.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_event_is_in_the_environment(tmp_path):
    names = ("WORD", "SCORE", "START", "END", "T")
    code = f"import os; print(*(os.environ['SPEECHGRU_' + n] for n in {names}))"
    reports, actions = run(python(code))
    assert reports == ["--on go: go 0.9123 1.250 1.500 1.640"]
    assert (actions.started, actions.failed) == (1, 0)


def test_the_command_runs_without_a_shell(tmp_path):
    reports, _ = run(parse_hook("go=echo '$HOME; `id`' * > out"))
    assert reports == ["--on go: $HOME; `id` * > out"]


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    program = tmp_path / "lamp"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    hook = parse_hook("go=~/lamp ~/go.wav a~/b")
    assert hook.arguments == (str(program), str(tmp_path / "go.wav"), "a~/b")


def test_all_hooks_of_the_events_word_run_and_no_others():
    reports, _ = run(
        parse_hook("go=echo one"), parse_hook("stop=echo no"), parse_hook("go=echo two")
    )
    assert sorted(reports) == ["--on go: one", "--on go: two"]


def test_a_failure_is_reported_with_the_last_line():
    reports, actions = run(
        python("import sys; print('first', flush=True); sys.exit('no light there')")
    )
    assert len(reports) == 1
    assert reports[0].endswith("exit code 1: no light there")
    assert actions.failed == 1


def test_a_signal_is_reported():
    reports, _ = run(parse_hook("go=sh -c 'kill -9 $$'"))
    assert reports[0].endswith("signal 9")


def test_starting_a_program_does_not_wait_for_it():
    with Actions([parse_hook("go=sleep 60")]) as actions:
        began = time.monotonic()
        actions.push(EVENT)
        assert time.monotonic() - began < 5.0
        actions.close(wait=False)


def test_a_hanging_program_is_killed_with_its_children(tmp_path):
    child = tmp_path / "child"
    hook = parse_hook(f"go=sh -c 'sleep 60 & echo $! > {child}; wait'")
    reports, actions = run(hook, timeout_s=0.5)
    assert reports[0].endswith("killed after 0.5 s")
    assert actions.failed == 1
    ends_by = time.monotonic() + 10  # a busy machine takes its time to let a process die
    while alive(int(child.read_text())) and time.monotonic() < ends_by:
        time.sleep(0.01)
    assert not alive(int(child.read_text()))


def test_a_child_in_the_background_is_not_waited_for():
    began = time.monotonic()
    reports, _ = run(parse_hook("go=sh -c 'sleep 5 & echo started'"))
    assert reports == ["--on go: started"]
    assert time.monotonic() - began < 4.0


def test_the_number_of_programs_at_once_is_limited(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reports = []
    with Actions([parse_hook(f"go=cat {pipe}")], reports.append, most=2) as actions:
        for _ in range(5):
            actions.push(EVENT)
        assert actions.started == 2
        assert len(reports) == 3
        assert all("2 programs are still running" in sentence for sentence in reports)
        actions.close(wait=False)


def test_events_of_a_file_wait_for_a_place():
    reports, actions = run(python("import time; time.sleep(0.1)"), events=5, most=2, waits=True)
    assert (actions.started, actions.failed, reports) == (5, 0, [])


def test_programs_that_wait_for_their_turn_do_not_start_once_listening_is_interrupted():
    began = time.monotonic()
    with Actions([parse_hook("go=sleep 60")], most=1, waits=True) as actions:
        for _ in range(3):
            actions.push(EVENT)
        actions.close(wait=False)
    assert actions.started == 1
    assert time.monotonic() - began < 30


def test_any_amount_of_output_is_read():
    code = "for i in range(100_000): print('line', i)"
    reports, _ = run(python(code))
    assert reports == ["--on go: line 99999"]


def test_an_error_ends_the_programs_at_once(tmp_path):
    reports = []

    def fail():
        with Actions([parse_hook("go=sleep 60")], reports.append) as actions:
            actions.push(EVENT)
            raise BrokenPipeError

    began = time.monotonic()
    with pytest.raises(BrokenPipeError):
        fail()
    assert time.monotonic() - began < 5.0
    assert reports == ["--on go=sleep 60: killed when listening ended"]


def test_a_program_that_has_disappeared_is_reported(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    hook = parse_hook(f"go={program}")
    program.unlink()
    reports, actions = run(hook)
    assert "cannot be started: No such file" in reports[0]
    assert (actions.started, actions.failed) == (0, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("go", "WORD=COMMAND is needed"),
        ("=echo", "WORD=COMMAND is needed"),
        ("go=", "WORD=COMMAND is needed"),
        ("go='echo", "no closing quotation"),
        ("go=no-such-program -x", "no-such-program is not an executable"),
        ("go=/etc/passwd", "/etc/passwd is not an executable"),
    ],
)
def test_an_invalid_hook_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        parse_hook(text)


@pytest.mark.parametrize(
    ("text", "word", "arguments"),
    [
        ("a=b=echo a=b", "a=b", ("echo", "a=b")),
        ("go=env x=echo", "go", ("env", "x=echo")),
        ("a=b='/bin/sh' -c true", "a=b", ("/bin/sh", "-c", "true")),
    ],
)
def test_a_word_may_have_an_equals_sign(text, word, arguments):
    hook = parse_hook(text)
    assert (hook.word, hook.arguments) == (word, arguments)


def test_a_hook_for_an_unknown_word_is_refused():
    with pytest.raises(UsageError, match=r"the model has no word go; it has yes, no"):
        check_words([parse_hook("go=echo")], ["yes", "no"])


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("echo go > log", ">"),
        ("echo go >log", ">"),
        ("echo go 2>> log", ">>"),
        ("echo go | tee log", "|"),
        ("true && false", "&&"),
        ("true; false", ";"),
        ("sleep 9 &", "&"),
        ("echo $SPEECHGRU_WORD", "$SPEECHGRU_WORD"),
        ('echo "${HOME}"', "${"),
        ("echo $(date)", "$("),
        ("echo `date`", "`"),
        ("sh -c 'echo go > log && date | wc'", None),
        ("sh -c 'echo $SPEECHGRU_WORD'", None),
        ('sh -c "echo word=$SPEECHGRU_WORD"', None),
        ('sh -c "echo \\"$SPEECHGRU_WORD\\""', None),
        ("sh -c \"echo $SPEECHGRU_WORD | grep -c 'go'\"", None),
        ('env bash -x -c "echo $SPEECHGRU_WORD"', None),
        ('/bin/bash -ec "echo `date`" > log', ">"),
        ('sh -c \'play "$1"\' x "$HOME/go.wav"', "$HOME"),
        ("mosquitto_pub -t home/word -m 'a > b'", None),
        ("echo 5$ '#' a", None),
    ],
)
def test_shell_syntax_is_found(command, found):
    assert shell_syntax(f"go={command}") == found
