"""stdin, stdout and stderr as other programs hand them over: without waiting, full, empty, slow."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from speechgru.audio.files import read
from speechgru.cli import stream_source

PROGRAM = [sys.executable, "-m", "speechgru"]


def words(output):
    return [json.loads(line)["word"] for line in output.splitlines()]


@pytest.fixture
def spoken(tone_stream):
    """Five words as 16-bit PCM."""
    return (read(Path(tone_stream.file)) * 32_767).astype("<i2").tobytes()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of Windows always wait")
def test_pipes_that_do_not_wait_lose_nothing(tone_stream, spoken):
    """A pause on stdin is not its end, and a slow reader of stdout gets every line."""
    theirs, ours = os.pipe()
    os.set_blocking(theirs, False)
    process = subprocess.Popen(
        [*PROGRAM, "listen", tone_stream.exported, "--input", "-", "--rate", "16000", "--jsonl"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    half = len(spoken) // 4 * 2
    os.write(ours, spoken[:half])
    time.sleep(0.5)
    os.write(ours, spoken[half:])
    os.close(ours)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(words(out)) == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_messages_that_a_full_disk_does_not_take_cost_no_result(tone_stream):
    command = [*PROGRAM, "listen", tone_stream.exported, "--input", tone_stream.file, "--jsonl"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, timeout=60)
        assert (done.returncode, len(words(done.stdout))) == (0, 5)
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == 1
        assert b"error: the output: No space left on device" in done.stderr
        for command, code in ((["foo"], 2), (["recognize", "missing.wav"], 4)):
            assert subprocess.run([*PROGRAM, *command], stderr=full, timeout=60).returncode == code


def test_an_error_that_nobody_reads_keeps_its_exit_code():
    reader, writer = os.pipe()
    os.close(reader)
    for command, code in ((["foo"], 2), (["recognize", "missing.wav"], 4)):
        done = subprocess.run([*PROGRAM, *command], stderr=writer, timeout=60)
        assert done.returncode == code
    os.close(writer)


def test_nothing_at_all_on_stdin_is_an_error(tone_stream):
    done = subprocess.run(
        [*PROGRAM, "listen", tone_stream.exported, "--input", "-"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 4
    assert done.stderr.endswith(b"error: stdin: has ended without any sound\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot wait for a pipe")
def test_a_pipe_that_stalls_is_mentioned_once(monkeypatch):
    monkeypatch.setattr(stream_source, "_STALLED_S", 0.05)
    theirs, ours = os.pipe()
    told = []
    with os.fdopen(theirs, "rb") as stream:
        pipe = stream_source._WatchedPipe(stream, told.append)
        for _ in range(2):
            writer = threading.Timer(0.2, os.write, (ours, np.zeros(10, "<i2").tobytes()))
            writer.start()
            assert pipe.read1(100) == bytes(20)
            writer.join()
        os.close(ours)
        assert pipe.read1(100) == b""
    assert told == ["stdin: has given nothing for 0.05 s; waiting", "stdin: goes on"]
    assert not pipe.is_empty
