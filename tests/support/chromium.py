"""A headless Chromium that a test steers through its debugging protocol."""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
from websockets.sync.client import connect

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--remote-debugging-port=0"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)


class Page:
    """A tab: JavaScript in, values out."""

    def __init__(self, socket):
        self._socket, self._id = socket, 0
        self.call("Runtime.enable")
        self.call("Page.enable")

    def call(self, method, **parameters):
        self._id += 1
        self._socket.send(json.dumps({"id": self._id, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=120))
            if message.get("id") == self._id:
                assert "error" not in message, message
                return message["result"]

    def evaluate(self, expression):
        """The value of an expression, a promise's once it is kept."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def open(self, url):
        self.call("Page.navigate", url=url)

    def wait_for(self, expression, timeout_s=30.0):
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if value := self.evaluate(expression):
                return value
            time.sleep(0.05)
        raise AssertionError(f"not so within {timeout_s:g} s: {expression}")

    def watch_microphone(self):
        """Keep the track of each microphone that the page opens from now on, as `microphone`."""
        self.evaluate(
            """(() => {
              const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices);
              devices.getUserMedia = async (wish) => {
                const stream = await open(wish);
                [window.microphone] = stream.getTracks();
                return stream;
              };
            })()"""
        )

    def disconnect_microphone(self):
        """Tell the page that its microphone has ended, which no page can bring about."""
        self.evaluate("microphone.dispatchEvent(new Event('ended'))")

    def resize(self, width, height=900, dark=False):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, whole=True):
        """A PNG, in base 64."""
        return self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]

    def press(self, key, code=None, text=""):
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=code or key, text=text if kind == "keyDown" else "",
                windowsVirtualKeyCode={"Tab": 9, "Enter": 13, " ": 32}.get(key, 0),
            )  # fmt: skip


@contextmanager
def chromium(profile, sound=None, flags=()):
    """A browser with an empty profile; `sound` is a WAV that its microphone hears, once."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    command = [program, *FLAGS, f"--user-data-dir={profile}", *flags]
    if sound is not None:
        command.append(f"--use-file-for-fake-audio-capture={sound}%noloop")
    process = subprocess.Popen(
        [*command, "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        port_file = profile / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (port_file.exists() and "\n" in port_file.read_text()):
            assert process.poll() is None, "chromium ended"
            assert time.monotonic() < end, "chromium does not start"
            time.sleep(0.1)
        port = port_file.read_text().splitlines()[0]
        targets = httpx.get(f"http://127.0.0.1:{port}/json").json()
        tab = next(target for target in targets if target["type"] == "page")
        with connect(tab["webSocketDebuggerUrl"], max_size=None, ping_interval=None) as socket:
            yield Page(socket)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


class _Quiet(SimpleHTTPRequestHandler):
    def guess_type(self, path):
        return "text/javascript" if str(path).endswith(".mjs") else super().guess_type(path)

    def log_message(self, format, *arguments):
        return


@contextmanager
def static_server(folder):
    """The folder on a free port of this machine; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
