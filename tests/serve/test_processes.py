"""`serve --processes`: clients are shared, and the processes start and end together."""

import json
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from threading import Thread

import httpx
import psutil
import pytest
from servers import eventually, own_events, without_latency, words_in_noise
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from speechgru.cli import main
from speechgru.errors import DataError, UsageError

CLIENTS = 24
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux shares a port"),
]


@contextmanager
def server(*arguments):
    """The first of three processes, which starts the others, and its address."""
    command = [sys.executable, "-m", "speechgru", "serve", "--port", "0", "--processes", "2"]
    with subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            assert " on http://" in line
            family = psutil.Process(process.pid)
            assert eventually(lambda: len(family.children()) == 2)
            process.stderr.readline()  # Wyoming's address
            yield process, family.children(), line.split(" on http://")[1].strip()
        finally:
            if process.poll() is None:
                process.kill()


def events(address):
    found = []
    with connect(f"ws://{address}listen") as client:
        client.send(words_in_noise().tobytes())
        client.send('{"type": "end"}')
        try:
            while True:
                found.append(json.loads(client.recv(timeout=60)))
        except ConnectionClosed:
            return [without_latency(message) for message in found if "type" not in message]


def connections(process):
    return [c for c in process.net_connections() if c.status == psutil.CONN_ESTABLISHED]


def test_clients_are_shared_and_served_alike():
    with server() as (process, children, address):
        heard = []
        threads = [Thread(target=lambda: heard.append(events(address))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert heard == [own_events()] * 4
        with ExitStack() as stack:
            for _ in range(CLIENTS):
                stack.enter_context(connect(f"ws://{address}listen"))
            held = [len(connections(child)) for child in children]
            assert sum(held) == CLIENTS
            assert min(held) >= 1
        url = f"http://{address}models/commands-12/thresholds"
        refused = httpx.put(url, json={"go": 0.5})
        assert refused.status_code == 409
        assert "one process" in refused.json()["error"]
        process.terminate()
        assert process.wait(60) == 0
        assert not any(child.is_running() for child in children)
        assert process.stderr.read() == ""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 0), ("SIGHUP", 0)])
def test_a_signal_ends_all(name, code):
    with server() as (process, children, _):
        process.send_signal(getattr(signal, name))
        assert process.wait(60) == code
        assert not any(child.is_running() for child in children)


def test_they_do_not_outlive_the_process_that_started_them():
    with server() as (process, children, _):
        process.kill()
        process.wait(60)
        assert psutil.wait_procs(children, timeout=60)[1] == []


def test_if_one_is_killed_all_end_and_it_is_said():
    with server() as (process, children, _):
        children[1].kill()
        assert process.wait(60) == 1
        assert "killed by signal 9" in process.stderr.read()
        assert not children[0].is_running()


def test_errors_are_reported_once(tmp_path, capfd):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    command = [sys.executable, "-m", "speechgru", "serve", str(broken), "--processes", "2"]
    ended = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == DataError.exit_code
    assert ended.stderr.count("error:") == 1
    with server() as (_, _, address):
        port = address.strip("/").rpartition(":")[2]
        ended = subprocess.run([*command, "--port", port], capture_output=True, text=True)
        assert ended.returncode == UsageError.exit_code
        assert "in use" in ended.stderr
    assert main(["serve", "--processes", "2", "--data", str(tmp_path)]) == UsageError.exit_code
    assert "one process" in capfd.readouterr().err
