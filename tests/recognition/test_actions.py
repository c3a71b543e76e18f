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
    """What was told, and the actions, after their end."""
    told = []
    with Actions(hooks, told.append, **options) as actions:
        for _ in range(events):
            actions.push(EVENT)
    return told, actions


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
    told, actions = run(python(code))
    assert told == ["--on go: go 0.9123 1.250 1.500 1.640"]
    assert (actions.started, actions.failed) == (1, 0)


def test_no_shell_sees_the_command(tmp_path):
    told, _ = run(parse_hook("go=echo '$HOME; `id`' * > out"))
    assert told == ["--on go: $HOME; `id` * > out"]


def test_only_the_events_word_starts_a_program_and_all_of_its_programs_run():
    told, _ = run(parse_hook("go=echo one"), parse_hook("stop=echo no"), parse_hook("go=echo two"))
    assert sorted(told) == ["--on go: one", "--on go: two"]


def test_a_failure_is_told_with_the_last_line():
    told, actions = run(python("import sys; print('first'); sys.exit('no light there')"))
    assert len(told) == 1
    assert told[0].endswith("exit code 1: no light there")
    assert actions.failed == 1


def test_a_program_that_kills_itself_is_told():
    told, _ = run(parse_hook("go=sh -c 'kill -9 $$'"))
    assert told[0].endswith("signal 9")


def test_starting_a_program_does_not_wait_for_it():
    with Actions([parse_hook("go=sleep 60")]) as actions:
        began = time.monotonic()
        actions.push(EVENT)
        assert time.monotonic() - began < 5.0
        actions.close(wait=False)


def test_a_program_that_hangs_is_killed_with_all_that_it_started(tmp_path):
    child = tmp_path / "child"
    hook = parse_hook(f"go=sh -c 'sleep 60 & echo $! > {child}; wait'")
    told, actions = run(hook, timeout_s=0.5)
    assert told[0].endswith("killed after 0.5 s")
    assert actions.failed == 1
    ends_by = time.monotonic() + 10  # a busy machine takes its time to let a process die
    while alive(int(child.read_text())) and time.monotonic() < ends_by:
        time.sleep(0.01)
    assert not alive(int(child.read_text()))


def test_a_program_that_leaves_another_in_the_background_is_not_waited_for():
    began = time.monotonic()
    told, _ = run(parse_hook("go=sh -c 'sleep 5 & echo started'"))
    assert told == ["--on go: started"]
    assert time.monotonic() - began < 4.0


def test_no_more_programs_run_at_once_than_allowed(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    told = []
    with Actions([parse_hook(f"go=cat {pipe}")], told.append, most=2) as actions:
        for _ in range(5):
            actions.push(EVENT)
        assert actions.started == 2
        assert len(told) == 3
        assert all("2 programs are still running" in sentence for sentence in told)
        actions.close(wait=False)


def test_much_output_is_read_and_only_its_end_kept():
    code = "for i in range(100_000): print('line', i)"
    told, _ = run(python(code))
    assert told == ["--on go: line 99999"]


def test_an_error_ends_the_programs_at_once(tmp_path):
    told = []

    def fail():
        with Actions([parse_hook("go=sleep 60")], told.append) as actions:
            actions.push(EVENT)
            raise BrokenPipeError

    began = time.monotonic()
    with pytest.raises(BrokenPipeError):
        fail()
    assert time.monotonic() - began < 5.0
    assert told == ["--on go=sleep 60: killed at the end"]


def test_a_program_that_has_gone_since_is_told(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    hook = parse_hook(f"go={program}")
    program.unlink()
    told, actions = run(hook)
    assert "cannot be started: No such file" in told[0]
    assert (actions.started, actions.failed) == (0, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("go", "WORD=COMMAND is needed"),
        ("=echo", "WORD=COMMAND is needed"),
        ("go=", "WORD=COMMAND is needed"),
        ("go='echo", "no closing quotation"),
        ("go=no-such-program -x", "no-such-program is no program"),
        ("go=/etc/passwd", "/etc/passwd is no program"),
    ],
)
def test_a_hook_that_cannot_work_is_told_at_once(text, said):
    with pytest.raises(UsageError, match=said):
        parse_hook(text)


def test_a_hook_for_a_word_that_is_never_recognized_is_told():
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
        ("mosquitto_pub -t home/word -m 'a > b'", None),
        ("echo 5$ '#' a", None),
    ],
)
def test_what_only_a_shell_understands_is_found(command, found):
    assert shell_syntax(f"go={command}") == found
