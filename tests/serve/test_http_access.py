"""Who is let through to HTTP and WebSocket, and for how long a request is waited for."""

import socket
from contextlib import ExitStack, suppress

import httpx
import pytest
from servers import eventually, running
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from speechgru.serve.access import Access, Address
from speechgru.serve.limits import Limits
from speechgru.serve.server import ServerOptions

LIMITS = Limits()
IMPATIENT = Limits(hello_s=1.0)
TOKEN = "a-token-of-more-than-16"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
THRESHOLDS = (
    b"PUT /models/commands-12/thresholds HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
)


@pytest.fixture(scope="module")
def guarded():
    access = Access(TOKEN, frozenset({"https://friend.example"}))
    with running(options=ServerOptions(Address("127.0.0.1", 0), access), limits=LIMITS) as found:
        yield found


def test_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with running(options=ServerOptions(Address("::1", 0), Access())) as server:
        assert httpx.get(f"{server.url}/health").is_success
        with connect(server.socket) as client:
            client.send(bytes(640))
            assert '"ready"' in client.recv(timeout=60)


def test_only_this_machine_by_its_own_name_needs_no_token(server):
    answer = httpx.get(f"{server.url}/metrics", headers={"Host": "evil.example"})
    assert answer.status_code == 403
    with pytest.raises(InvalidStatus) as refused:
        connect(server.socket, additional_headers={"Origin": "http://evil.example"})
    assert refused.value.response.status_code == 403
    with connect(server.socket, origin=server.url):
        pass


def test_a_token_in_a_header_and_no_way_without(guarded):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        answer = httpx.get(f"{guarded.url}/metrics", headers=headers)
        assert answer.status_code == 401
        with pytest.raises(InvalidStatus) as refused:
            connect(guarded.socket, additional_headers=headers)
        assert refused.value.response.status_code == 401
        assert TOKEN not in answer.text
    assert httpx.get(f"{guarded.url}/metrics?token={TOKEN}").status_code == 401
    assert httpx.get(f"{guarded.url}/health").status_code == 200
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"{guarded.url}/metrics", headers=bearer).status_code == 200
    with connect(guarded.socket, additional_headers=bearer):
        pass
    with connect(guarded.socket, subprotocols=["speechgru", f"bearer.{TOKEN}"]) as client:
        assert client.subprotocol == "speechgru"


def test_a_refused_client_leaves_no_line_in_the_log(guarded, caplog):
    with pytest.raises(InvalidStatus):
        connect(guarded.socket)
    assert httpx.get(f"{guarded.url}/health").status_code == 200
    assert caplog.messages == []


def test_a_page_of_another_site_needs_leave_too(guarded):
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for origin, status in (("https://friend.example", 200), ("https://evil.example", 403)):
        answer = httpx.get(f"{guarded.url}/metrics", headers={**bearer, "Origin": origin})
        assert answer.status_code == status


def test_a_page_of_an_allowed_site_reads_answers_by_cors(guarded):
    origin, bearer = "https://friend.example", {"Authorization": f"Bearer {TOKEN}"}
    asked = {
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }
    path = f"{guarded.url}/models"
    preflight = httpx.options(path, headers={"Origin": origin, **asked})
    assert preflight.status_code == 200
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    for headers, status in ((bearer, 200), ({}, 401)):
        answer = httpx.get(path, headers={"Origin": origin, **headers})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == origin
    evil = {"Origin": "https://evil.example"}
    for answer in (
        httpx.options(path, headers=evil | asked),
        httpx.get(path, headers=evil | bearer),
    ):
        assert answer.status_code in (400, 403)
        assert "access-control-allow-origin" not in answer.headers


def test_the_page_itself_loads_behind_a_proxy_and_can_say_what_is_refused(guarded):
    """A proxy's address is another one than the server's own; scripts are sent with it."""
    foreign = {"Origin": "https://hub.example"}
    assert httpx.get(f"{guarded.url}/page.js", headers=foreign).status_code == 200
    refused = httpx.get(f"{guarded.url}/models", headers=foreign)
    assert refused.status_code == 403
    assert "--origin" in refused.json()["error"]
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert httpx.get(f"{guarded.url}/models").headers["www-authenticate"] == "Bearer"
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"{guarded.url}/health/", headers=bearer).status_code == 404  # no redirection


@pytest.mark.parametrize("half", [HEALTH[:-9], THRESHOLDS], ids=["head", "content"])
@pytest.mark.parametrize("whole", [b"", HEALTH], ids=["first", "second"])
def test_half_a_request_is_not_waited_for(impatient, caplog, whole, half):
    """Neither as the first of a connection nor later."""
    refused = impatient.service.metrics.refused["silent"]
    address = impatient.address.host, impatient.address.port
    with socket.create_connection(address, 20) as client, suppress(ConnectionError):
        client.sendall(whole)
        assert not whole or client.recv(1000).startswith(b"HTTP/1.1 200 ")
        client.sendall(half)
        while client.recv(1000):
            pass
    assert eventually(lambda: impatient.service.metrics.refused["silent"] > refused, 5)
    assert caplog.messages == []


def test_nothing_that_a_client_owes_holds_up_a_stop(caplog):
    """Neither its first byte nor the rest of its request."""
    with ExitStack() as clients, running() as server:
        for content in (b"", THRESHOLDS):
            address = server.address.host, server.address.port
            client = clients.enter_context(socket.create_connection(address, 20))
            client.sendall(content)
        assert httpx.get(f"{server.url}/health").is_success  # by now it has been read
    assert caplog.messages == []
