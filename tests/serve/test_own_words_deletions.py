"""A recording is deleted from a page; nothing else can be."""

import httpx
import pytest
import soundfile
from servers import running
from speech_like import spoken

from speechgru.serve.access import Access, Address
from speechgru.serve.own_words.places import Places
from speechgru.serve.server import ServerOptions

TOKEN = "a-token-of-more-than-16"


def serving(data, token=None):
    places = Places(data, None, data.parent / "runs")
    return running(options=ServerOptions(Address("127.0.0.1", 0), Access(token), places=places))


@pytest.fixture
def data(tmp_path):
    for name in ("go/anna_1.wav", "go/anna_2.wav", ".hidden/a.wav", "go/notes.txt"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".wav":
            soundfile.write(path, spoken(0.5), 16_000)
        else:
            path.write_text("precious")
    soundfile.write(tmp_path / "outside.wav", spoken(0.5), 16_000)
    return tmp_path / "data"


def test_a_take_is_deleted_once(data):
    with serving(data) as server:
        address = f"{server.url}/own-words/deletions"
        assert httpx.post(address, json={"file": "go/anna_1.wav"}).json() == {
            "deleted": "go/anna_1.wav"
        }
        assert httpx.post(address, json={"file": "go/anna_1.wav"}).status_code == 404
        (go,) = httpx.get(f"{server.url}/own-words").json()["words"]
    assert go["takes"] == 1
    assert not (data / "go" / "anna_1.wav").exists()


@pytest.mark.parametrize(
    "file", ["../outside.wav", "go/../../outside.wav", ".hidden/a.wav", "go/notes.txt", "go", 3, ""]
)
def test_nothing_else_is_deleted(data, file):
    before = sorted(data.parent.rglob("*"))
    with serving(data) as server:
        answer = httpx.post(f"{server.url}/own-words/deletions", json={"file": file})
    assert (answer.status_code, answer.json()) == (404, {"error": "there is no such recording"})
    assert sorted(data.parent.rglob("*")) == before


def test_deleting_needs_the_token_and_a_page_of_the_server(data):
    wish = {"json": {"file": "go/anna_1.wav"}}
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with serving(data, TOKEN) as server:
        address = f"{server.url}/own-words/deletions"
        assert httpx.post(address, **wish).status_code == 401
        elsewhere = bearer | {"Origin": "https://example.org"}
        assert httpx.post(address, headers=elsewhere, **wish).status_code == 403
        assert (data / "go" / "anna_1.wav").exists()
        assert httpx.post(address, headers=bearer, **wish).status_code == 200
    assert not (data / "go" / "anna_1.wav").exists()
