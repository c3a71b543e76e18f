"""Own words on the page, in a real Chromium: record, review and train, by mouse and keyboard."""

from itertools import product

import httpx
import numpy as np
import pytest
import soundfile
from chromium import chromium
from page_checks import READY, check_and_save
from servers import own_events, running, words_in_noise
from speech_like import room, spoken

from speechgru.audio.files import read
from speechgru.decoding.events import Event
from speechgru.recognition.recording import EventClips
from speechgru.serve.access import Access, Address
from speechgru.serve.own_words.places import Places
from speechgru.serve.server import ServerOptions

pytestmark = pytest.mark.slow

RATE = 16_000


@pytest.fixture
def places(tmp_path, own_recordings):
    """Recordings of "lumos" and "nox", and six caught clips."""
    clips = EventClips(tmp_path / "caught", RATE, model="mine")
    for i, word in enumerate(["lumos", "nox", "lumos", "nox", "lumos", "nox"]):
        sound = np.concatenate([room(0.3), spoken(0.4), room(0.3)])[:RATE]
        clips.push(sound, [Event(word, i + 0.3, i + 0.5, score=0.9 - i / 10, t=i + 0.55)])
    clips.flush()
    return Places(tmp_path / "data", tmp_path / "caught", tmp_path / "runs")


@pytest.fixture
def filled(places, own_recordings):
    for path in own_recordings.rglob("*.wav"):
        copy = places.data / path.relative_to(own_recordings)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return places


def serving(places):
    return running(options=ServerOptions(Address("127.0.0.1", 0), Access(), places=places))


def shown(page, identifier):
    return page.evaluate(f"document.getElementById('{identifier}').textContent")


def wait_for_text(page, identifier, text, timeout_s=30):
    page.wait_for(
        f"document.getElementById('{identifier}')?.textContent.includes({text!r})", timeout_s
    )


def go_to(page, identifier, most=40):
    """Press Tab until the element has the focus."""
    for _ in range(most):
        page.press("Tab")
        if page.evaluate("document.activeElement.id") == identifier:
            return
    raise AssertionError(f"{identifier} cannot be reached by Tab")


def enter(page, text):
    page.call("Input.insertText", text=text)


def open_anew(page, address):
    """Also where only the part after the # would change."""
    page.open("about:blank")
    page.open(address)
    page.wait_for(READY)


def press_enter(page):
    page.press("Enter", text="\r")


def pictures(page, name):
    for width in (360, 1200):
        for dark in (False, True):
            page.resize(width, dark=dark)
            check_and_save(page, width, f"{name}-{width}-{'dark' if dark else 'light'}")


def test_words_are_recorded_by_keyboard_from_the_microphone(places, tmp_path):
    """A faint word, then good ones: two of each, of which the last is undone."""
    words = [spoken(0.5, peak=0.013), spoken(0.5), spoken(0.4), spoken(0.6), spoken(0.5)]
    sound = np.concatenate([room(2), *(part for word in words for part in (word, room(2.5)))])
    soundfile.write(tmp_path / "words.wav", np.concatenate([sound, room(20)]), RATE)
    with serving(places) as server, chromium(tmp_path / "profile", tmp_path / "words.wav") as page:
        page.resize(1200)
        page.open(server.url)
        page.wait_for(READY)
        go_to(page, "nav-record")
        press_enter(page)
        page.wait_for("document.activeElement.id === 'record-title'")
        go_to(page, "speaker")
        page.evaluate("document.activeElement.select()")
        enter(page, "dora")
        go_to(page, "takes")
        page.evaluate("document.activeElement.select()")
        enter(page, "2")
        go_to(page, "new-word")
        enter(page, "lumos, nox")
        press_enter(page)
        page.wait_for("document.querySelectorAll('#own-words li').length === 2")
        pictures(page, "record-words")
        go_to(page, "record-start")
        press_enter(page)
        page.wait_for("document.activeElement.id === 'recording'")
        wait_for_text(page, "outcome", "too faint")
        assert shown(page, "record-word") == "lumos"
        pictures(page, "record-refused")
        wait_for_text(page, "takes-list", "lumos/dora_1.wav")
        wait_for_text(page, "record-word", "nox")
        pictures(page, "record-kept")
        wait_for_text(page, "takes-list", "nox/dora_1.wav")
        wait_for_text(page, "takes-list", "lumos/dora_2.wav")
        wait_for_text(page, "takes-list", "nox/dora_2.wav")
        wait_for_text(page, "record-word", "Done")
        page.press("u", text="u")
        wait_for_text(page, "outcome", "Deleted nox/dora_2.wav")
        page.press("q", text="q")
        page.wait_for("document.activeElement.id === 'record-start'")
        page.wait_for("document.getElementById('own-words').textContent.includes('2 takes')")
        assert page.evaluate("document.getElementById('takes-list').children.length") == 3
        pictures(page, "record-done")
        page.evaluate("document.querySelector('#takes-list [aria-label^=Play]').click()")
        played = "performance.getEntriesByType('resource').some((e) => e.name.includes('/takes/'))"
        page.wait_for(played)
        assert page.evaluate("document.getElementById('message').hidden")
        page.wait_for("!document.querySelector('[data-delete]').disabled")
        page.evaluate("document.querySelector('[aria-label=\"Delete nox/dora_1.wav\"]').click()")
        page.wait_for("document.getElementById('takes-list').children.length === 2")
        page.wait_for("document.getElementById('own-words').textContent.includes('0 takes')")
    files = sorted(path.relative_to(places.data).as_posix() for path in places.data.rglob("*.wav"))
    assert files == ["lumos/dora_1.wav", "lumos/dora_2.wav"]
    for path in places.data.rglob("*.wav"):
        assert 0.6 < len(read(path)) / RATE < 1.1


def test_words_that_were_entered_stay_until_they_are_removed(places, tmp_path):
    with serving(places) as server, chromium(tmp_path / "profile") as page:
        page.open(f"{server.url}/#train")
        wait_for_text(page, "few", "There are no words yet")
        assert page.evaluate("document.getElementById('train-start').disabled")
        for words in ("lumos, nox", "accio"):
            open_anew(page, f"{server.url}/#record")
            page.wait_for("document.getElementById('data-name')?.textContent")
            page.evaluate("document.getElementById('new-word').focus()")
            enter(page, words)
            press_enter(page)
        page.wait_for("document.querySelectorAll('#own-words li').length === 3")
        pictures(page, "record-entered")
        page.evaluate("document.querySelector('#own-words [aria-label=\"Remove nox\"]').click()")
        page.evaluate("document.querySelector('#own-words input').click()")  # lumos, not today
        open_anew(page, f"{server.url}/#record")
        page.wait_for("document.querySelectorAll('#own-words li').length === 2")
        boxes = "[...document.querySelectorAll('#own-words input')].map((box) => box.checked)"
        assert page.evaluate(f"JSON.stringify({boxes})") == "[false,true]"
        assert page.evaluate("document.getElementById('speaker').value") == "me"
        (places.data / "lumos").mkdir(parents=True)
        soundfile.write(places.data / "lumos" / "dora_1.wav", spoken(0.5), RATE)
        open_anew(page, f"{server.url}/#record")
        page.wait_for("document.getElementById('speaker').value === 'dora'")  # the only one
        page.open(f"{server.url}/#review")
        page.wait_for("document.getElementById('review-speaker').value === 'dora'")
        assert "accio" in shown(page, "own-words")


def test_words_that_are_entered_before_the_server_answers_stay(places, tmp_path):
    late = """
        const fetched = window.fetch;
        window.fetch = async (...wish) => {
          await new Promise((resolve) => setTimeout(resolve, 1500));
          window.isLate = true;
          return fetched(...wish);
        };
        location.hash = "record";
    """
    with serving(places) as server, chromium(tmp_path / "profile") as page:
        open_anew(page, server.url)
        page.evaluate(late)
        page.wait_for("!document.getElementById('record-panel').hidden")
        page.evaluate("document.getElementById('new-word').focus()")
        enter(page, "lumos, nox")
        press_enter(page)
        page.wait_for("window.isLate && document.getElementById('data-name').textContent")
        assert page.evaluate("document.querySelectorAll('#own-words li').length") == 2
        open_anew(page, f"{server.url}/#record")
        page.wait_for("document.querySelectorAll('#own-words li').length === 2")


def test_caught_clips_are_sorted_by_keys(filled, tmp_path):
    with serving(filled) as server, chromium(tmp_path / "profile") as page:
        page.open(f"{server.url}/#review")
        page.wait_for("document.getElementById('clip')?.hidden === false")
        pictures(page, "review")
        page.resize(1200)
        go_to(page, "review-speaker")
        page.evaluate("document.activeElement.select()")
        enter(page, "dora")
        page.evaluate("document.getElementById('review-title').focus()")
        page.press("y", text="y")
        wait_for_text(page, "review-filed", "lumos/dora_1.wav")
        page.wait_for("document.getElementById('clip-sound').currentSrc.startsWith('blob:')")
        for key, folder in (("o", "_unknown_"), ("n", "_background_noise_")):
            page.press(key, text=key)
            wait_for_text(page, "review-filed", f"{folder}/alarm_1.wav")
        page.press("w", text="w")
        page.evaluate("document.activeElement.value = 'lumos'")
        press_enter(page)
        wait_for_text(page, "review-filed", "lumos/dora_2.wav")
        page.press("u", text="u")
        wait_for_text(page, "review-filed", "Undone")
        page.press("x", text="x")
        wait_for_text(page, "review-filed", "Thrown away")
        wait_for_text(page, "review-left", "2 of 6")
        page.evaluate("document.querySelector('#pending li:last-child button').click()")
        wait_for_text(page, "clip-about", "40 %")
        for left in ("1 of 6", "All 6 clips are sorted"):
            page.evaluate("document.getElementById('right').click()")
            wait_for_text(page, "review-left", left)
        pictures(page, "review-done")
    names = {path.relative_to(filled.data).as_posix() for path in filled.data.rglob("*.wav")}
    assert {"lumos/dora_2.wav", "_unknown_/alarm_1.wav", "nox/dora_1.wav"} <= names


def test_what_was_recognized_is_saved_and_reviewed(filled, tmp_path):
    places = Places(filled.data, tmp_path / "new")
    soundfile.write(tmp_path / "words.wav", words_in_noise(), RATE, subtype="PCM_16")
    with serving(places) as server, chromium(tmp_path / "profile", tmp_path / "words.wav") as page:
        page.open(f"{server.url}/#review")
        wait_for_text(page, "review-left", "There are no clips yet")
        assert page.evaluate("document.getElementById('message').hidden")  # nothing failed
        assert page.evaluate("document.getElementById('review-undo').hidden")
        pictures(page, "review-empty")
        page.evaluate("document.getElementById('nav-listen').click()")
        page.wait_for("document.getElementById('listen-panel').hidden === false")
        page.evaluate("document.getElementById('save').click()")
        page.evaluate("document.getElementById('listen').click()")
        wait_for_text(page, "saved", f"{len(own_events())} clips saved", 30)
        pictures(page, "listen-saving")
        page.evaluate("document.getElementById('nav-review').click()")
        page.wait_for("document.getElementById('clip').hidden === false")
        assert shown(page, "clip-word") == own_events()[0]["word"]
        assert page.evaluate("document.getElementById('message').hidden")
        pictures(page, "review-words")


def test_a_model_is_trained_and_listened_with(filled, short, tmp_path):
    places = Places(filled.data, None, filled.runs, short)
    with serving(places) as server, chromium(tmp_path / "profile") as page:
        page.open(server.url)
        page.wait_for(READY)
        assert page.evaluate("document.getElementById('nav-review').hidden")
        go_to(page, "nav-train")
        press_enter(page)
        page.wait_for("document.activeElement.id === 'train-title'")
        page.wait_for("document.querySelectorAll('#train-words tbody tr').length === 2")
        pictures(page, "train")
        go_to(page, "train-start")
        press_enter(page)
        page.wait_for("document.getElementById('train-stop').disabled === false")
        assert httpx.post(f"{server.url}/own-words/training/start", json={}).status_code == 400
        pictures(page, "train-running")
        wait_for_text(page, "train-status", "Trained.", 240)
        assert str(places.runs) in shown(page, "train-result")
        pictures(page, "train-done")
        go_to(page, "train-use")
        press_enter(page)
        page.wait_for("document.getElementById('model').value === 'small'")
        page.wait_for("document.getElementById('listen-panel').hidden === false")
        words = "document.getElementById('words').textContent"
        assert "lumos" in page.evaluate(words)
        pictures(page, "trained")
        assert [m["name"] for m in httpx.get(f"{server.url}/models").json()][-1] == "small"
    assert (places.runs / "small" / "model.safetensors").exists()


def test_a_training_is_stopped(filled, endless, tmp_path):
    places = Places(filled.data, None, filled.runs, endless)
    with serving(places) as server, chromium(tmp_path / "profile") as page:
        page.open(f"{server.url}/#train")
        page.wait_for("document.getElementById('train-panel')?.hidden === false")
        page.evaluate("document.getElementById('train-start').click()")
        wait_for_text(page, "train-step", "Step", 120)
        page.evaluate("document.querySelector('details').open = true")
        pictures(page, "train-live")
        page.evaluate("document.getElementById('train-stop').click()")
        wait_for_text(page, "train-status", "Stopped", 60)
        pictures(page, "train-stopped")
        assert (places.runs / "small" / "last" / "checkpoint.safetensors").exists()
        assert httpx.post(f"{server.url}/own-words/training/start", json={"resume": 1}).is_error
    with serving(places) as server, chromium(tmp_path / "another") as page:
        page.open(f"{server.url}/#train")  # of another server, which knows it from its directory
        wait_for_text(page, "train-status", "Stopped", 60)
        pictures(page, "train-stopped-before")
        page.evaluate("document.getElementById('train-resume').click()")
        wait_for_text(page, "train-step", "Step", 120)
        page.evaluate("document.getElementById('train-stop').click()")
        wait_for_text(page, "train-status", "Stopped", 60)
        assert [run.name for run in places.runs.iterdir()] == ["small"]


def test_a_microphone_that_is_answered_for_too_late_stays_closed(filled, tmp_path):
    """The panel has been left while the browser asked: nothing may be recorded unseen."""
    delayed = """
        const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.inputs = [];
        navigator.mediaDevices.getUserMedia = async (wish) => {
          await new Promise((allow) => { window.allow = allow; });
          const input = await ask(wish);
          window.inputs.push(input);
          if (window.refuses) {
            input.getTracks().forEach((track) => track.stop());
            throw new DOMException("", "NotAllowedError");
          }
          return input;
        };
    """
    with serving(filled) as server, chromium(tmp_path / "profile") as page:
        page.open(server.url)
        page.wait_for(READY)
        page.evaluate(delayed)
        panels = ("record", "record-start"), ("listen", "listen")
        for (panel, button), refuses in product(panels, (False, True)):
            page.evaluate(f"window.refuses = {str(refuses).lower()}")
            page.evaluate(f"location.hash = '#{panel}'")
            page.wait_for(f"!document.getElementById('{panel}-panel').hidden")
            page.wait_for("document.querySelector('#own-words input') !== null")
            page.evaluate("delete window.allow")
            page.evaluate(f"document.getElementById('{button}').click()")
            page.wait_for("window.allow !== undefined")
            page.evaluate("location.hash = '#review'")
            page.wait_for("!document.getElementById('review-panel').hidden")
            page.evaluate("window.inputs = [], window.allow()")
            page.wait_for("window.inputs.length === 1")
            page.wait_for("window.inputs[0].getTracks().every((t) => t.readyState === 'ended')")
            page.wait_for(f"!document.getElementById('{button}').disabled")
            assert page.evaluate("document.getElementById('message').hidden")
        assert not server.service.sessions
