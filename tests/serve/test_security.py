"""TLS, tokens and what the command line refuses: a server that others can reach is closed."""

import asyncio
import hmac
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import httpx
import pytest
from cryptography import x509
from servers import own_events, running, without_latency, words_in_noise
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from speechgru.cli import main
from speechgru.errors import UsageError
from speechgru.serve import tls
from speechgru.serve.access import Access, Address, is_loopback, own_address, read_token
from speechgru.serve.limits import Limits
from speechgru.serve.server import ServerOptions
from speechgru.serve.tls import Certificate, self_signed

TOKEN = "a-token-of-more-than-16"


@contextmanager
def over_tls(certificate, limits=None):
    options = ServerOptions(Address("127.0.0.1", 0), Access(TOKEN), certificate=certificate)
    with running(options=options, limits=limits) as server:
        port = server.address.port
        yield server, port, ssl.create_default_context(cafile=certificate.certificate)


@pytest.fixture(scope="module")
def from_openssl(tmp_path_factory):
    """A certificate as another program makes it."""
    folder = tmp_path_factory.mktemp("openssl")
    made = Certificate(folder / "server.crt", folder / "server.key")
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        *("-out", str(made.certificate), "-keyout", str(made.key)),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return made


def answers(url, context, *messages, **options):
    """What a client hears that sends messages.

    It is asyncio's: one that reads and writes in two threads, as websockets' synchronous one does,
    now and then loses what it sends, as Python's TLS sockets are not safe for that.
    """

    async def heard():
        async with connect(url, ssl=context, **options) as client:
            for message in messages:
                await client.send(message)
            return [json.loads(message) async for message in client]

    return asyncio.run(heard())


def events_over(url, context):
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    sent = words_in_noise().tobytes(), '{"type": "end"}'
    found = answers(url, context, *sent, additional_headers=bearer)
    return [without_latency(message) for message in found if "type" not in message]


def test_a_certificate_from_files_serves_https_and_wss(from_openssl):
    from_openssl.check()
    with over_tls(from_openssl) as (_, port, context):
        assert httpx.get(f"https://localhost:{port}/health", verify=context).status_code == 200
        assert events_over(f"wss://localhost:{port}/listen", context) == own_events()
        with pytest.raises(InvalidStatus):
            answers(f"wss://localhost:{port}/listen", context)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://localhost:{port}/health")  # nobody vouches for it


def test_no_timer_fails_after_a_tls_client_has_left(from_openssl, caplog):
    """A TLS transport that is closed has neither a protocol nor a socket to ask for."""
    with over_tls(from_openssl, Limits(hello_s=0.5)) as (_, port, context):
        assert httpx.get(f"https://localhost:{port}/health", verify=context).status_code == 200
        assert events_over(f"wss://localhost:{port}/listen", context) == own_events()
        time.sleep(0.8)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_self_signed_certificate_is_created_once_and_names_this_machine(tmp_path, monkeypatch):
    made = self_signed(tmp_path / "tls", "0.0.0.0")
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    content = made.certificate.read_bytes()
    assert self_signed(tmp_path / "tls", "0.0.0.0").certificate.read_bytes() == content
    self_signed(tmp_path / "tls", "kitchen.example")
    assert made.certificate.read_bytes() != content  # another name
    monkeypatch.setattr(socket, "gethostname", lambda: "a..b")  # which no certificate can have
    self_signed(tmp_path / "accents", "büro.example")
    content = (tmp_path / "accents" / made.certificate.name).read_bytes()
    names = x509.load_pem_x509_certificate(content).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert set(names.value.get_values_for_type(x509.DNSName)) == {
        "localhost",
        "xn--bro-hoa.example",
    }
    with over_tls(made) as (_, port, context):
        for name in ("localhost", "127.0.0.1"):
            assert httpx.get(f"https://{name}:{port}/health", verify=context).is_success


def test_a_self_signed_certificate_that_cannot_be_used_is_replaced(tmp_path, from_openssl):
    made = self_signed(tmp_path, "localhost")
    foreign = from_openssl.key.read_bytes()  # as after a kill between the two
    for path, content in ((made.key, foreign), (made.key, b""), (made.certificate, b"damaged")):
        path.write_bytes(content)
        again = self_signed(tmp_path, "localhost")
        again.check()
        assert (again.certificate, again.key) == (made.certificate, made.key)
        assert path.read_bytes() != content
    with over_tls(made) as (_, port, context):
        assert httpx.get(f"https://localhost:{port}/health", verify=context).is_success


def test_an_encrypted_key_is_refused_without_asking(tmp_path, from_openssl):
    key = tmp_path / "encrypted.key"
    command = ["openssl", "pkey", "-in", from_openssl.key, "-aes256", "-passout", "pass:abcd"]
    subprocess.run([*command, "-out", key], check=True, capture_output=True)
    with pytest.raises(UsageError, match="key: is encrypted; `openssl pkey"):
        Certificate(from_openssl.certificate, key).check()


def test_without_tls_nothing_is_answered_on_a_tls_port(from_openssl):
    with over_tls(from_openssl) as (server, port, _):
        for content in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b'{"type": "describe"}\n'):
            with socket.create_connection(("127.0.0.1", port), 60) as sock:
                sock.sendall(content)
                answer = b""
                with suppress(ConnectionError):  # a refusal may be a reset
                    while part := sock.recv(4096):
                        answer += part
            assert b"HTTP" not in answer
            assert b"info" not in answer
        assert not server.service.sessions


def test_half_a_handshake_is_not_waited_for(from_openssl):
    with (
        over_tls(from_openssl, Limits(hello_s=1.0)) as (_, port, _),
        socket.create_connection(("127.0.0.1", port), 60) as half,
    ):
        started = time.monotonic()
        with suppress(ConnectionError):
            assert half.recv(100) == b""
        assert time.monotonic() - started < 30


def test_files_that_are_no_certificate_with_its_key_are_refused(tmp_path, from_openssl, capsys):
    nothing = tmp_path / "empty.pem"
    nothing.write_text("")
    for certificate, key in ((nothing, from_openssl.key), (tmp_path / "none", from_openssl.key)):
        code = main(["serve", "--tls-cert", str(certificate), "--tls-key", str(key)])
        assert code == 2
        assert str(certificate) in capsys.readouterr().err


def test_an_expired_certificate_is_served_but_said_to_be_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tls, "_DAYS", -0.02)
    made = self_signed(tmp_path, "localhost")
    given = ["--tls-cert", str(made.certificate), "--tls-key", str(made.key)]
    code = main(["serve", *given, "--origin", "refused"])
    said = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert "certificate.pem: expired on 20" in said
    assert "--origin refused" in said


def test_a_file_is_no_directory_for_certificates(tmp_path, capsys):
    (tmp_path / "tls").write_text("")
    assert main(["serve", "--tls-self-signed", str(tmp_path / "tls")]) == 2
    assert "tls: is a file; a directory is needed" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "--token-file"),
        (["--host", "192.0.2.7"], "--token-file"),
        (["--host", "::"], "--token-file"),
        (["--tls-cert", "a.pem"], "both"),
        (["--wyoming", "here"], "PORT"),
        (["--origin", "hub.local:8123"], "--origin hub.local:8123: http://HOST[:PORT]"),
        (["--origin", "https://hub.local/page"], "--origin https://hub.local/page"),
        (["--origin", "https://hub.local:port"], "--origin https://hub.local:port"),
    ],
)
def test_the_command_refuses_what_is_not_safe(arguments, said, capsys):
    assert main(["serve", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("::1", True), ("[::1]", True), ("127.9.9.9", True), ("0.0.0.0", False)],
)
def test_what_others_can_reach(host, own):
    assert is_loopback(host) is own


def test_others_are_told_an_address_that_they_can_type(monkeypatch):
    assert own_address(10400).host not in ("0.0.0.0", "::")

    def no_route(*_):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", no_route)
    assert own_address(10400) == Address(socket.gethostname(), 10400)


def test_a_token_is_created_for_its_owner_alone_and_a_weak_one_is_refused(tmp_path):
    path = tmp_path / "deep" / "token"
    token = read_token(path)
    assert len(token) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_token(path) == token
    utf_16 = TOKEN.encode("utf-16")  # as a shell of Windows writes it
    for weak in (b"short", b"two words of sixteen letters", b"", utf_16):
        path.write_bytes(weak)
        with pytest.raises(UsageError, match="at least 16"):
            read_token(path)


def test_tokens_are_compared_in_constant_time(monkeypatch):
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(b) or real(a, b))
    access = Access(TOKEN)
    for token, refused in (("wrong", "token"), (TOKEN, None), (TOKEN[:-1], "token")):
        headers = {"host": "kitchen", "authorization": f"Bearer {token}"}
        assert access.refusal(headers, "http") == refused
    assert [token.decode() for token in compared] == ["wrong", TOKEN, TOKEN[:-1]]


@pytest.mark.slow
def test_the_token_is_never_written_anywhere_but_to_its_file(tmp_path):
    path = tmp_path / "token"
    command = [sys.executable, "-m", "speechgru", "--debug", "serve", "--port", "0"]
    command += ["--token-file", str(path), "--tls-self-signed", str(tmp_path / "tls")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        line = process.stdout.readline()
        url = line.split(" on ")[1].strip()
        token = path.read_text().strip()
        context = ssl.create_default_context(cafile=tmp_path / "tls" / "certificate.pem")
        for headers, query in (
            ({"Authorization": f"Bearer {token}"}, ""),
            ({"Authorization": f"Basic {token}"}, ""),
            ({}, f"?token={token}"),
        ):
            httpx.get(f"{url}metrics{query}", headers=headers, verify=context)
        socket_url = url.replace("https", "wss") + "listen"
        protocols = ["speechgru", f"bearer.{token}"]
        with pytest.raises(ConnectionClosedError):
            answers(socket_url, context, "garbage", subprotocols=protocols)
        process.send_signal(signal.SIGTERM)
        written = line + process.stdout.read()
        assert process.wait(60) == 0
    assert "token in" in written
    assert token not in written
