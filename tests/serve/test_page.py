"""The page at /, in a real Chromium: what it shows, by mouse and keyboard, at any width."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import soundfile
from chromium import chromium
from page_checks import READY, check_and_save, save
from servers import own_events, running, words_in_noise
from tone_listener import exported_listener

from speechgru.backends.loader import open_backend, write_metadata
from speechgru.modelfile.bundled import MODEL
from speechgru.serve.access import Access, Address
from speechgru.serve.page_files import PAGE
from speechgru.serve.server import ServerOptions

BUTTON, MESSAGE = "document.getElementById('listen')", "document.getElementById('message')"
CLICK = f"{BUTTON}.click()"
TOKEN = "a-token-of-more-than-16"


@pytest.fixture(scope="module")
def server():
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A server of a model that is the user's own."""
    path = tmp_path_factory.mktemp("own") / "mine.onnx"
    path.write_bytes(MODEL.read_bytes())
    with running([str(path)]) as found:
        yield found, path


@pytest.fixture(scope="module")
def guarded():
    with running(options=ServerOptions(Address("127.0.0.1", 0), Access(TOKEN))) as found:
        yield found


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "words.wav"
    soundfile.write(path, words_in_noise(), 16_000, subtype="PCM_16")
    return path


def test_every_file_is_sent_and_loads_nothing_from_elsewhere(server):
    for path, (name, kind) in PAGE.items():
        answer = httpx.get(f"{server.url}{path}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"].startswith(kind.split(";")[0])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text
        assert "https://" not in answer.text.replace("open https:// instead", "")


def test_thresholds_are_kept_in_the_models_own_file(own):
    server, path = own
    url = f"{server.url}/models/mine/thresholds"
    answer = httpx.put(url, json={"go": 0.75, "stop": 0.25})
    assert answer.json()["written"] is True
    assert answer.json()["thresholds"]["go"] == 0.75
    with running([str(path)]) as again:
        (model,) = httpx.get(f"{again.url}/models").json()
    assert (model["thresholds"]["go"], model["thresholds"]["stop"]) == (0.75, 0.25)
    (model,) = httpx.get(f"{server.url}/models").json()
    assert model["thresholds"]["go"] == 0.75
    assert model["thresholds"]["yes"] == server.service.default.thresholds()["yes"]


def test_thresholds_that_others_keep_meanwhile_stay(own):
    """Those of another page at the same moment, and those that `calibrate` writes."""
    server, path = own
    url = f"{server.url}/models/mine/thresholds"
    words = server.service.default.words
    with ThreadPoolExecutor(len(words)) as pages:
        list(pages.map(lambda word: httpx.put(url, json={word: 0.6}), words))
    metadata = open_backend(path).metadata
    assert metadata["decoder"]["thresholds"] == dict.fromkeys(words, 0.6)
    calibrated = {**metadata["decoder"], "threshold": 0.7, "thresholds": {"yes": 0.8, "no": 0.9}}
    write_metadata(path, {**metadata, "decoder": calibrated})
    kept = httpx.put(url, json={"no": 0.5}).json()["thresholds"]
    assert (kept["yes"], kept["no"], kept["go"]) == (0.8, 0.5, 0.7)
    assert open_backend(path).metadata["decoder"]["thresholds"] == {"yes": 0.8, "no": 0.5}


def test_thresholds_are_not_written_into_another_model(own):
    server, path = own
    mine, other = path.read_bytes(), Path(exported_listener()).read_bytes()
    path.write_bytes(other)
    answer = httpx.put(f"{server.url}/models/mine/thresholds", json={"go": 0.6})
    written = path.read_bytes()
    path.write_bytes(mine)
    assert answer.status_code == 400
    assert "holds another model than when the server opened it" in answer.json()["error"]
    assert written == other


def test_thresholds_of_a_bundled_model_hold_until_the_server_stops(server):
    before = MODEL.read_bytes()
    url = f"{server.url}/models/{server.service.default.name}/thresholds"
    answer = httpx.put(url, json={"go": server.service.default.thresholds()["go"]})
    assert answer.json()["written"] is False
    assert "bundled" in answer.json()["note"]
    assert MODEL.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"{", 400, "JSON"),
        (b"[1]", 400, "object"),
        (b'{"abba": 0.5}', 400, "abba"),
        (b'{"go": 2}', 400, "above 0"),
        (b" " * 100_000, 400, "bytes"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(server, content, status, said):
    name = server.service.default.name
    before = server.service.default.thresholds()
    answer = httpx.put(f"{server.url}/models/{name}/thresholds", content=content)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert server.service.default.thresholds() == before
    assert httpx.put(f"{server.url}/models/nobody/thresholds", content=b"{}").status_code == 404


def test_only_a_page_of_the_server_and_a_token_change_thresholds(server, guarded):
    name = server.service.default.name
    path = f"/models/{name}/thresholds"
    foreign = {"Origin": "http://evil.example"}
    assert httpx.put(server.url + path, json={}, headers=foreign).status_code == 403
    assert httpx.put(guarded.url + path, json={}).status_code == 401
    assert httpx.get(f"{guarded.url}/").status_code == 200  # it asks for the token


@pytest.mark.slow
def test_words_from_the_microphone_are_shown_as_listen_reports_them(server, tmp_path, recording):
    with chromium(tmp_path / "profile", recording) as page:
        page.resize(1200)
        page.open(server.url)
        page.wait_for(READY)
        save(page, "wide-light")
        page.evaluate("document.getElementById('listen').click()")
        page.wait_for("document.querySelector('#level-text').textContent.includes('dB')")
        loud = "Number(document.getElementById('level').getAttribute('aria-valuenow')) > -40"
        page.wait_for(loud)
        rows = "document.querySelectorAll('#events tbody tr:not(.near)').length"
        page.wait_for(f"{rows} >= {len(own_events())}", timeout_s=30)
        words = page.evaluate(
            "[...document.querySelectorAll('#events tbody tr:not(.near) td:first-child')]"
            ".map((e) => e.textContent)"
        )
        assert words[::-1][: len(own_events())] == [event["word"] for event in own_events()]
        assert page.evaluate("document.getElementById('word').textContent") == words[0]
        page.resize(360, dark=True)
        save(page, "narrow-dark-live")
        page.evaluate("document.getElementById('listen').click()")
        page.wait_for("document.getElementById('listen').textContent === 'Listen'")
        end = time.monotonic() + 10
        while server.service.sessions and time.monotonic() < end:
            time.sleep(0.05)
        assert not server.service.sessions


@pytest.mark.slow
def test_listening_ends_without_a_microphone_and_without_a_server(server, tmp_path):
    with chromium(tmp_path / "profile") as page:
        page.open(server.url)
        page.wait_for(READY)
        page.watch_microphone()
        page.evaluate(CLICK)
        page.wait_for(f"{BUTTON}.textContent === 'Stop'")
        page.disconnect_microphone()
        page.wait_for(f"{MESSAGE}.textContent === 'The microphone was disconnected.'")
        assert page.evaluate(f"{BUTTON}.textContent") == "Listen"
        page.evaluate(CLICK)
        page.wait_for(f"{BUTTON}.textContent === 'Stop'")
        page.evaluate(f"WebSocket.prototype.send = () => {{}}; {CLICK}")
        assert page.evaluate("microphone.readyState") == "ended"  # at once
        page.wait_for(f"{MESSAGE}.textContent === 'The server does not answer.'")
        assert page.evaluate(f"{BUTTON}.textContent") == "Listen"


@pytest.mark.slow
def test_thresholds_by_keyboard_alone(own, tmp_path):
    server, _ = own
    with chromium(tmp_path / "profile") as page:
        page.resize(360)
        page.open(server.url)
        page.wait_for(READY)
        places = []
        for _ in range(12):
            page.press("Tab")
            places.append(page.evaluate("document.activeElement.id"))
            if places[-1].startswith("threshold-"):
                break
        assert places[0] == "listen"
        word = page.evaluate("document.activeElement.labels[0].firstChild.textContent")
        before = float(page.evaluate("document.activeElement.value"))
        for _ in range(3):
            page.press("ArrowLeft")
        assert page.evaluate("document.activeElement.value") == f"{before - 0.03:.2f}".rstrip("0")
        page.evaluate("document.getElementById('keep').focus()")
        page.press("Enter", text="\r")
        page.wait_for("document.getElementById('kept').textContent.includes('Kept')")
        kept = server.service.default.thresholds()[word]
        assert kept == pytest.approx(before - 0.03)


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 768, 1200])
def test_nothing_is_wider_than_the_page_and_everything_has_a_name(own, tmp_path, width):
    server, _ = own
    with chromium(tmp_path / "profile") as page:
        for dark in (False, True):
            page.resize(width, dark=dark)
            page.open(server.url)
            page.wait_for(READY)
            check_and_save(page, width, f"{width}-{'dark' if dark else 'light'}")


@pytest.mark.slow
def test_the_page_asks_for_the_token(guarded, tmp_path):
    with chromium(tmp_path / "profile") as page:
        page.resize(360)
        page.open(guarded.url)
        page.wait_for("document.getElementById('token-form')?.hidden === false")
        save(page, "token")
        for text, shown in (("wrong", "That is not"), (TOKEN, "")):
            page.evaluate(
                f"document.getElementById('token').value = '{text}';"
                "document.querySelector('#token-form button').click()"
            )
            page.wait_for(f"document.getElementById('message').textContent.includes('{shown}')")
        page.wait_for(READY)
        assert TOKEN not in page.evaluate("location.href")
