"""Recording, review and training over the network: what is written where, and what is refused."""

import io
import json
import time
from collections import namedtuple
from contextlib import suppress

import httpx
import numpy as np
import pytest
import soundfile
from full_disk import fill
from servers import own_events, running, without_latency, words_in_noise
from speech_like import room, spoken
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from speechgru.audio.files import read
from speechgru.audio.pcm import to_packed
from speechgru.cli import main
from speechgru.corpora.own_recordings import OwnRecordings
from speechgru.decoding.events import Event
from speechgru.recognition.recording import EventClips
from speechgru.serve.access import Access, Address
from speechgru.serve.own_words import places as places_module
from speechgru.serve.own_words import trainer as trainer_module
from speechgru.serve.own_words.places import Places
from speechgru.serve.server import ServerOptions

RATE = 16_000
TOKEN = "a-token-of-more-than-16"
#: A word with a pause before and after it.
WORD = np.concatenate([room(0.8), spoken(0.5), room(0.8)])
HISS = np.concatenate([room(0.8), 100 * room(0.5), room(0.8)])
FAINT = np.concatenate([room(0.8), spoken(0.5, peak=0.013), room(0.8)])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with caught clips of "go" and "stop", and recordings to file them into."""
    folder = tmp_path_factory.mktemp("own")
    for word in ("go", "stop"):
        path = folder / "data" / word / "ben_1.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, WORD, RATE)
    clips = EventClips(folder / "caught", RATE, model="mine")
    for i, word in enumerate(["go", "stop", "go"]):
        sound = np.random.default_rng(i).uniform(-0.5, 0.5, RATE).astype(np.float32)
        clips.push(sound, [Event(word, i + 0.3, i + 0.5, score=0.8, t=i + 0.55)])
    clips.flush()
    places = Places(folder / "data", folder / "caught", folder / "runs")
    options = ServerOptions(Address("127.0.0.1", 0), Access(), places=places)
    with running(options=options) as found:
        found.places = places
        yield found


class Recorder:
    """A client that records."""

    def __init__(self, server, **options):
        self.socket = connect(f"ws://{server.address}/own-words/record").__enter__()
        self.send(type="start", rate=RATE, **options)

    def send(self, **message):
        self.socket.send(json.dumps(message))

    def say(self, samples):
        """Send it, up to where the server closes: `next` and `rest` tell why."""
        content = to_packed(samples).tobytes()
        with suppress(ConnectionClosed):
            for first in range(0, len(content), 6400):
                self.socket.send(content[first : first + 6400])

    def next(self, *kinds):
        """The next message of one of these types."""
        for text in self.socket:
            message = json.loads(text)
            if message["type"] in kinds:
                return message
        raise AssertionError(f"no {kinds} came: {self.socket.close_reason}")

    def rest(self):
        return [json.loads(text) for text in self.socket]


def test_words_are_recorded_as_record_does(server):
    client = Recorder(server, words=["lumos", "größe"], speaker="anna", takes=1)
    asked = client.next("prompt")
    assert (asked["word"], asked["take"], asked["takes"], asked["remaining"]) == ("lumos", 1, 1, 2)
    client.say(FAINT)
    refused = client.next("refused")
    assert refused["fault"] == "faint"
    assert "come closer" in refused["advice"]
    client.say(WORD)
    assert client.next("kept")["file"] == "lumos/anna_1.wav"
    assert client.next("prompt")["word"] == "größe"
    client.say(HISS)
    kept = client.next("kept")
    assert kept["file"] == "größe/anna_1.wav"
    assert kept["advice"] == "it does not sound like speech"
    client.next("done")
    client.send(type="undo")
    assert client.next("undone")["file"] == "größe/anna_1.wav"
    assert client.next("prompt")["word"] == "größe"
    client.send(type="skip")
    client.next("done")
    client.send(type="end")
    assert client.rest()[-1] == {"type": "end"}
    assert client.socket.close_code == 1000
    assert [path.name for path in (server.places.data / "lumos").iterdir()] == ["anna_1.wav"]
    assert not list((server.places.data / "größe").glob("*.wav"))
    assert read(server.places.data / "lumos" / "anna_1.wav").max() > 0.2
    (lumos,) = [w for w in own_words(server)["words"] if w["word"] == "lumos"]
    assert lumos == {"word": "lumos", "takes": 1, "speakers": {"anna": 1}}
    answer = httpx.get(f"{server.url}/own-words/takes/lumos/anna_1.wav")
    assert answer.content == (server.places.data / "lumos" / "anna_1.wav").read_bytes()
    assert answer.headers["content-type"] == "audio/wav"


def own_words(server):
    return httpx.get(f"{server.url}/own-words").json()


def test_two_who_record_at_once_overwrite_nothing(server):
    clients = [Recorder(server, words=["twice"], speaker="anna", takes=3) for _ in range(2)]
    for client in clients:
        client.say(WORD)
    files = {client.next("kept")["file"] for client in clients}
    assert files == {"twice/anna_1.wav", "twice/anna_2.wav"}
    for client in clients:
        client.socket.close()


def test_lost_sound_is_in_no_take(server):
    client = Recorder(server, words=["gap"], speaker="anna", takes=1)
    client.next("prompt")
    client.say(WORD[: round(1.1 * RATE)])  # in the middle of the word
    client.next("speaking")
    client.send(type="lost", samples=8000)
    client.say(np.concatenate([room(1.5), WORD]))
    assert client.next("kept")["seconds"] == pytest.approx(0.5, abs=0.15)
    client.socket.close()


def test_the_room_and_talk_are_files_of_their_own(server):
    client = Recorder(server, room=1, speaker="anna")
    client.say(room(1.2))
    assert client.next("kept")["file"] == "_background_noise_/room_anna_1.wav"
    client.next("done")
    client.send(type="end")
    client.rest()
    # What was recorded until the connection broke is kept.
    client = Recorder(server, talk=60, speaker="anna")
    client.say(spoken(8))
    while client.next("progress")["seconds"] < 7:
        pass
    client.socket.close()
    path = server.places.data / "_unknown_" / "anna_1.wav"
    end = time.monotonic() + 10
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert len(read(path)) >= 7 * RATE


def test_a_muted_microphone_is_a_sentence(server):
    client = Recorder(server, room=1, speaker="muted")
    client.say(np.zeros(2 * RATE, np.float32))
    assert "gives only silence" in client.next("error")["error"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"words": ["a/b"]}, "word 'a/b'"),
        ({"words": [".."]}, "word '..'"),
        ({"words": ["_unknown_"]}, "word '_unknown_'"),
        ({"words": ["con"]}, "reserves"),
        ({"words": ["a\u0007b"]}, "word 'a"),
        ({"words": ["a\u0085b"]}, "word 'a"),
        ({"words": []}, "1 to 100 words"),
        ({"words": "lumos"}, "1 to 100 words"),
        ({"words": ["go", "go"]}, "each once"),
        ({"words": ["go"], "room": 3}, "one of words, room and talk"),
        ({}, "one of words, room and talk"),
        ({"words": ["go"], "speaker": "../anna"}, "speaker '../anna'"),
        ({"words": ["go"], "speaker": "an_na"}, "speaker an_na: must not contain"),
        ({"words": ["go"], "speaker": 7}, "speaker 7: a string"),
        ({"words": ["go"], "takes": 10**6}, "takes 1000000: 1 to 1000"),
        ({"words": ["go"], "takes": float("nan")}, "takes nan"),
        ({"words": ["go"], "out": "/tmp"}, "'out': one of"),
        ({"room": 10**6}, "room 1000000: 1 to 600"),
        ({"words": ["go"], "format": "mp3"}, "format 'mp3'"),
    ],
)
def test_what_cannot_be_recorded_is_refused(server, options, said):
    before = sorted(server.places.data.rglob("*"))
    client = Recorder(server, **options)
    assert said in client.next("error")["error"]
    with pytest.raises(ConnectionClosed, match=r"1007|1008"):
        client.rest()
    assert sorted(server.places.data.rglob("*")) == before


def test_a_full_disk_is_a_sentence(server, monkeypatch):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(places_module.shutil, "disk_usage", lambda path: Usage(1, 1, 2**20))
    client = Recorder(server, words=["full"], speaker="anna")
    assert "only 1 MB are free on this disk" in client.next("error")["error"]
    assert not (server.places.data / "full").exists()


@pytest.mark.parametrize(
    "name", ["../caught/review.jsonl", "%2e%2e/caught/x.wav", "go", "go/none.wav", ".x/y.wav", ""]
)
def test_only_recordings_below_the_data_are_sent(server, name):
    (server.places.data / ".x").mkdir(exist_ok=True)
    (server.places.data / ".x" / "y.wav").write_bytes(b"RIFF")
    assert httpx.get(f"{server.url}/own-words/takes/{name}").status_code == 404


def test_a_link_out_of_the_data_is_not_followed(server, tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(b"RIFF")
    (server.places.data / "go" / "link.wav").symlink_to(secret)
    assert httpx.get(f"{server.url}/own-words/takes/go/link.wav").status_code == 404
    (server.places.data / "go" / "link.wav").unlink()


def test_clips_are_listed_played_filed_and_undone(server):
    url = f"{server.url}/own-words"
    listed = httpx.get(f"{url}/clips").json()
    assert (listed["left"], listed["total"]) == (3, 3)
    assert {"go", "stop"} <= set(listed["words"])
    first = listed["pending"][0]
    assert (first["word"], first["kind"], first["score"]) == ("go", "event", 0.8)
    sound, rate = soundfile.read(io.BytesIO(httpx.get(f"{url}/clips/{first['file']}").content))
    assert rate == RATE
    assert len(sound) > RATE / 2
    wish = {"file": first["file"], "decision": "right", "speaker": "anna"}
    answer = httpx.post(f"{url}/decisions", json=wish).json()
    path = server.places.data / "go" / "anna_1.wav"
    assert answer["filed"]["to"] == "go/anna_1.wav"
    assert answer["left"] == 2
    assert path.read_bytes() == (server.places.caught / first["file"]).read_bytes()
    again = httpx.post(f"{url}/decisions", json=wish)
    assert again.status_code == 400
    assert "was reviewed already" in again.json()["error"]
    answer = httpx.post(f"{url}/decisions", json={"decision": "undo"}).json()
    assert answer["undone"]["file"] == first["file"]
    assert answer["left"] == 3
    assert not path.exists()


def test_what_the_page_recognizes_is_saved_for_review(tmp_path):
    places = Places(tmp_path / "data", tmp_path / "caught")
    OwnRecordings(places.data, "ben", RATE).add("go", WORD)
    with running(options=ServerOptions(Address("127.0.0.1", 0), Access(), places=places)) as server:
        url = f"{server.url}/own-words"
        nothing = httpx.get(f"{url}/clips")
        assert (nothing.status_code, nothing.json()["total"]) == (200, 0)
        query = "near_misses=true&posteriors=100"
        with connect(f"{url.replace('http', 'ws')}/listen?{query}") as client:
            sound = words_in_noise().tobytes()
            for first in range(0, len(sound), 6400):
                client.send(sound[first : first + 6400])
            client.send('{"type": "end"}')
            messages = [json.loads(text) for text in client]
        events = [m for m in messages if "type" not in m]
        assert [without_latency(event) for event in events] == own_events()
        near = [m for m in messages if m.get("type") == "near_miss"]
        listed = httpx.get(f"{url}/clips").json()
        assert listed["total"] == len(events) + len(near)
        found = {clip["file"] for clip in listed["pending"]}
        assert found == {m["file"] for m in messages if m.get("type") == "saved"}
        first = listed["pending"][0]
        assert (first["word"], first["model"]) == (events[0]["word"], "commands-12")
        clip = read(places.caught / first["file"])
        start = round((events[0]["start"] - 0.7) * RATE)
        whole = words_in_noise()[max(0, start) :].astype(np.float32) / 32768
        np.testing.assert_allclose(clip, whole[: len(clip)], atol=1e-4)
        with connect(f"{url.replace('http', 'ws')}/listen") as client:
            client.send('{"type": "reset"}')
            with pytest.raises(ConnectionClosed, match="not while clips are saved"):
                client.recv(timeout=20)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"decision": "right"}, "the name of the clip"),
        ({"decision": "maybe", "file": "x"}, "decision 'maybe'"),
        ({"decision": "right", "file": "../../etc/passwd"}, "is not a caught clip"),
        ({"decision": "right", "file": "FIRST", "speaker": "an_na"}, "speaker an_na"),
        ({"decision": "word", "file": "FIRST", "word": "abba"}, "has no such word"),
        ({"decision": "right", "file": ["x"]}, "must be strings"),
    ],
)
def test_decisions_that_make_no_sense_are_refused(server, wish, said):
    url = f"{server.url}/own-words"
    listed = httpx.get(f"{url}/clips").json()
    if wish.get("file") == "FIRST":
        wish = wish | {"file": listed["pending"][0]["file"]}
    answer = httpx.post(f"{url}/decisions", json=wish)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert httpx.get(f"{url}/clips").json()["left"] == listed["left"]


def test_only_caught_clips_are_played(server):
    answer = httpx.get(f"{server.url}/own-words/clips/../../data/go/ben_1.wav")
    assert answer.status_code in (400, 404)
    answer = httpx.get(f"{server.url}/own-words/clips/review.jsonl")
    assert (answer.status_code, "not a caught clip" in answer.json()["error"]) == (400, True)


def test_without_a_directory_nothing_can_be_written():
    with running() as server:
        assert own_words(server) == {"data": None}
        for path in ("clips", "training", "takes/go/anna_1.wav"):
            assert httpx.get(f"{server.url}/own-words/{path}").status_code == 404
        for path in ("decisions", "training/start", "training/use"):
            assert httpx.post(f"{server.url}/own-words/{path}", json={}).status_code == 404
        with pytest.raises(InvalidStatus):
            connect(f"ws://{server.address}/own-words/record")


def test_every_path_needs_the_token_and_a_page_of_this_server(tmp_path):
    places = Places(tmp_path / "data", runs=tmp_path / "runs")
    options = ServerOptions(Address("127.0.0.1", 0), Access(TOKEN), places=places)
    evil = {"Origin": "http://evil.example", "Authorization": f"Bearer {TOKEN}"}
    with running(options=options) as server:
        url = f"{server.url}/own-words"
        for path in ("", "/clips", "/training", "/takes/go/anna_1.wav"):
            assert httpx.get(url + path).status_code == 401
            assert httpx.get(url + path, headers=evil).status_code == 403
        for path in ("/decisions", "/training/start", "/training/stop", "/training/use"):
            assert httpx.post(url + path, json={}).status_code == 401
            assert httpx.post(url + path, json={}, headers=evil).status_code == 403
        for headers in ({}, evil):
            with pytest.raises(InvalidStatus):
                connect(url.replace("http", "ws") + "/record", additional_headers=headers)
    assert not (tmp_path / "data").exists()


def test_training_without_torch_is_a_sentence(server, monkeypatch):
    monkeypatch.setattr(
        trainer_module, "find_spec", lambda name: None if name == "torch" else object()
    )
    status = httpx.get(f"{server.url}/own-words/training").json()
    assert status["obstacle"].startswith("Training needs torch, which")
    answer = httpx.post(f"{server.url}/own-words/training/start", json={})
    assert (answer.status_code, answer.json()["error"]) == (400, status["obstacle"])
    answer = httpx.post(f"{server.url}/own-words/training/use", json={})
    assert "no finished training" in answer.json()["error"]


def test_refining_an_unknown_model_is_refused(server):
    answer = httpx.post(f"{server.url}/own-words/training/start", json={"refine": "../x"})
    assert (answer.status_code, "refine '../x'" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--caught", "x"], "--caught: needs --data"),
        (["--recipe", "digits-ctc"], "--recipe: only has an effect together with --data"),
        (["--data", ".", "--recipe", "no-recipe"], "recipe 'no-recipe': not a file"),
        (["--data", "file"], "--data file: is not a directory"),
        (["--data", ".", "--caught", "file"], "--caught file: is not a directory"),
        (["--data", ".", "--caught", "caught"], "--caught caught: a folder apart from . is"),
        (
            ["--data", "split"],
            "--data split: is divided into test, train; name one of them, such as split/train",
        ),
    ],
)
def test_the_command_checks_its_directories(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for split in ("train", "test"):
        path = tmp_path / "split" / split / "go" / "anna_1.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.zeros(1_600), 16_000)
    assert main(["serve", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_the_recording_with_a_sentence(small_disk, monkeypatch):
    monkeypatch.setattr(places_module, "FREE_BYTES", 0)
    options = ServerOptions(Address("127.0.0.1", 0), Access(), places=Places(small_disk / "data"))
    with running(options=options) as server:
        client = Recorder(server, words=["lumos"], speaker="anna")
        client.next("prompt")
        fill(small_disk / "ballast")
        client.say(WORD)
        assert "No space left" in client.next("error")["error"]
    assert not list((small_disk / "data").rglob("*.wav"))
