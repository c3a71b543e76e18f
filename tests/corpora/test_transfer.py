"""The way of a download: a real server that breaks off, lies and is hostile; archives too."""

import base64
import gzip
import os
import random
import resource
import socket
import tarfile
import threading
import tracemalloc

import pytest
from mirror import CORPUS, Mirror, names_in, serving, tar_gz

from speechgru.corpora.archive import atomic_folder, unpack
from speechgru.corpora.transfer import fetch
from speechgru.errors import DataError, SpeechGRUError, UsageError

CONTENT = random.Random(1).randbytes(200_000)


@pytest.fixture
def mirror():
    with serving(Mirror(CONTENT)) as running:
        yield running


@pytest.fixture
def part(tmp_path):
    return tmp_path / "file.part"


# The transfer


def test_a_file_is_downloaded_with_progress(mirror, part):
    reported = []
    fetch(mirror.url, part, progress=lambda done, total: reported.append((done, total)))
    assert part.read_bytes() == CONTENT
    assert reported[0] == (0, len(CONTENT))
    assert reported[-1] == (len(CONTENT), len(CONTENT))
    assert reported == sorted(reported)


def test_a_broken_connection_resumes_at_the_byte_where_it_broke(mirror, part):
    mirror.breaks = [70_000, 50_000]
    fetch(mirror.url, part, pause_s=0)
    assert part.read_bytes() == CONTENT
    assert mirror.ranges == [None, "bytes=70000-", "bytes=120000-"]
    assert [request.get("If-Range") for request in mirror.requests] == [None, '"one"', '"one"']


def test_a_later_run_resumes(mirror, part):
    mirror.breaks = [70_000, 0, 0]
    with pytest.raises(SpeechGRUError, match=r"file\.part has 70,000 bytes, run again") as failure:
        fetch(mirror.url, part, attempts=3, pause_s=0)
    assert failure.value.exit_code == 1
    assert part.read_bytes() == CONTENT[:70_000]
    fetch(mirror.url, part)
    assert part.read_bytes() == CONTENT
    assert mirror.ranges[-1] == "bytes=70000-"


def test_attempts_with_progress_are_not_limited(mirror, part):
    mirror.breaks = [10_000] * 15
    fetch(mirror.url, part, attempts=2, pause_s=0)
    assert part.read_bytes() == CONTENT
    assert len(mirror.requests) == 16


def test_a_server_that_ignores_range_is_read_from_the_start(mirror, part):
    mirror.knows_range = False
    mirror.breaks = [70_000]
    fetch(mirror.url, part, pause_s=0)
    assert part.read_bytes() == CONTENT
    assert mirror.ranges == [None, "bytes=70000-"]


def test_attempts_without_progress_are_limited(mirror, part):
    mirror.knows_range = False
    mirror.breaks = [70_000] * 10
    with pytest.raises(SpeechGRUError, match="broke off after 70,000 of 200,000 bytes"):
        fetch(mirror.url, part, attempts=3, pause_s=0)
    assert len(mirror.requests) == 3


@pytest.mark.parametrize("knows_if_range", [True, False])
def test_a_changed_file_is_never_mixed_with_the_old_one(mirror, part, knows_if_range):
    mirror.breaks = [70_000, 0]
    with pytest.raises(SpeechGRUError):
        fetch(mirror.url, part, attempts=2, pause_s=0)
    mirror.content = random.Random(2).randbytes(150_000)
    mirror.headers = {"ETag": '"two"'}
    mirror.knows_if_range = knows_if_range
    fetch(mirror.url, part, pause_s=0)
    assert part.read_bytes() == mirror.content


def test_weak_etags_are_not_trusted_but_dates_are(mirror, part):
    date = "Wed, 11 Apr 2018 10:00:00 GMT"
    mirror.headers = {"ETag": 'W/"one"', "Last-Modified": date}
    mirror.breaks = [70_000]
    fetch(mirror.url, part, pause_s=0)
    assert mirror.requests[1]["If-Range"] == date
    assert part.read_bytes() == CONTENT


def test_without_etag_and_date_the_size_decides(mirror, part):
    mirror.headers = {}
    mirror.breaks = [70_000]
    fetch(mirror.url, part, pause_s=0)
    assert "If-Range" not in mirror.requests[1]
    assert part.read_bytes() == CONTENT


def test_an_answer_without_a_length_is_measured_against_the_known_size(mirror, part):
    mirror.tells_length = False
    mirror.breaks = [70_000]
    fetch(mirror.url, part, expected_bytes=len(CONTENT), pause_s=0)
    assert part.read_bytes() == CONTENT
    assert len(mirror.requests) == 2


def test_a_complete_part_is_not_requested_again(mirror, part):
    fetch(mirror.url, part)
    fetch(mirror.url, part)
    assert len(mirror.requests) == 1


def test_a_part_longer_than_the_file_is_discarded(mirror, part):
    fetch(mirror.url, part)
    with part.open("ab") as file:
        file.write(b"more")
    fetch(mirror.url, part, pause_s=0)
    assert part.read_bytes() == CONTENT


def test_a_part_of_unknown_origin_is_overwritten(mirror, part):
    part.write_bytes(b"something else")
    fetch(mirror.url, part)
    assert part.read_bytes() == CONTENT
    assert mirror.ranges == [None]


def test_not_found_is_not_retried(mirror, part):
    mirror.statuses = [404]
    with pytest.raises(
        SpeechGRUError, match=r"archive\.tar\.gz: the server answered 404"
    ) as failure:
        fetch(mirror.url, part)
    assert failure.value.exit_code == 1
    assert len(mirror.requests) == 1
    assert not part.exists()


def test_server_errors_are_retried(mirror, part):
    mirror.statuses = [503, 500]
    fetch(mirror.url, part, pause_s=0)
    assert part.read_bytes() == CONTENT
    mirror.statuses = [500] * 9
    part.unlink()
    with pytest.raises(SpeechGRUError, match="answered 500"):
        fetch(mirror.url, part, attempts=3, pause_s=0)
    assert len(mirror.statuses) == 6


def test_refused_connections_are_not_retried(part):
    with serving(Mirror(b"")) as gone:
        pass
    with pytest.raises(SpeechGRUError, match="no connection: Connection refused"):
        fetch(gone.url, part, pause_s=60)


@pytest.mark.parametrize("url", ["archive.tar.gz", "file:///etc/passwd", "ftp://x/y", "http://:x/"])
def test_only_web_addresses_are_accepted(url, part):
    with pytest.raises(UsageError, match="--url"):
        fetch(url, part)


def test_a_password_is_sent_but_neither_shown_nor_kept(mirror, part):
    secret = mirror.url.replace("://", "://anna:s%40crt@") + "?key=t0ken"
    mirror.statuses = [404]
    with pytest.raises(SpeechGRUError, match="answered 404") as failure:
        fetch(secret, part)
    fetch(secret, part)
    login = base64.b64encode(b"anna:s@crt").decode()
    assert mirror.requests[-1]["Authorization"] == f"Basic {login}"
    kept = str(failure.value) + "".join(path.read_text("latin-1") for path in part.parent.iterdir())
    assert not any(word in kept for word in ("anna", "crt", "t0ken", login))
    with pytest.raises(UsageError) as wrong:
        fetch("https://anna:s%40crt@:x/", part)
    assert "crt" not in str(wrong.value)


def test_server_messages_are_shown_in_a_short_line(mirror, part):
    mirror.statuses = [403]
    mirror.reason = "go\x1b[31m away " + 500 * "x"
    with pytest.raises(SpeechGRUError, match="answered 403 go") as failure:
        fetch(mirror.url, part)
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 300


def test_a_wrong_file_does_not_replace_the_part(mirror, part):
    mirror.breaks = [70_000, 0]
    with pytest.raises(SpeechGRUError):
        fetch(mirror.url, part, attempts=2, pause_s=0)
    mirror.content = b"<html>Log in to the hotel's network</html>"
    mirror.headers = {"ETag": '"hotel"', "Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(DataError, match="a web page"):
        fetch(mirror.url, part)
    mirror.headers = {"ETag": '"other"'}
    with pytest.raises(DataError, match=r"42 bytes; the published archive has 200,000"):
        fetch(mirror.url, part, expected_bytes=len(CONTENT))
    assert part.read_bytes() == CONTENT[:70_000]


def test_a_full_disk_keeps_what_arrived(mirror, part):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(SpeechGRUError, match=r"file\.part: cannot be written: "):
            fetch(mirror.url, part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    fetch(mirror.url, part)
    assert part.read_bytes() == CONTENT


# The archive


@pytest.mark.parametrize(("max_files", "max_bytes"), [(5, 10**9), (10**6, 50_000)])
def test_too_large_archives_are_refused(max_files, max_bytes, tmp_path):
    archive = tmp_path / "bomb.tar.gz"
    archive.write_bytes(tar_gz({f"yes/{n}.wav": bytes(10_000) for n in range(20)}))
    with pytest.raises(DataError, match="holds more than"):
        unpack(archive, tmp_path / "out", max_files, max_bytes)
    assert len(list((tmp_path / "out").rglob("*.wav"))) <= 5


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "plain tar"])
def test_damaged_archives_are_refused(damage, tmp_path):
    whole = tar_gz(CORPUS)
    content = {
        "cut": whole[: len(whole) // 2],
        "text": b"not found",
        "empty": b"",
        "plain tar": bytes(10_240),
    }[damage]
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"archive\.tar\.gz: not a complete tar\.gz"):
        unpack(archive, tmp_path / "out", 1000, 10**9)


def large_header() -> bytes:
    member = tarfile.TarInfo("yes/a.wav")
    member.pax_headers = {"comment": "x" * 50_000_000}
    return tar_gz({}, (member,))


def with_header(**fields: bytes) -> bytes:
    """An archive of one member, whose header is not one that tarfile writes."""
    places = {"size": 124, "type": 156}
    header = bytearray(tarfile.TarInfo("yes/a.wav").tobuf(tarfile.USTAR_FORMAT))
    for name, value in fields.items():
        header[places[name] : places[name] + len(value)] = value
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * ord(" "))
    return gzip.compress(bytes(header) * 1_500 + bytes(1_024))


@pytest.mark.parametrize(
    "content",
    [
        large_header(),
        tar_gz({"a/" * 40_000 + "b.wav": b""}),
        with_header(size=b"\xff" * 12),
        with_header(type=b"x"),
        with_header(type=b"L"),
        with_header(type=b"L", size=b"77777777777"),
    ],
    ids=["header of 50 MB", "long name", "negative size", "chain", "names", "name of 8 GB"],
)
def test_hostile_headers_take_no_memory(content, tmp_path):
    (tmp_path / "archive.tar.gz").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"archive\.tar\.gz: (hostile|not a complete)") as raised:
        unpack(tmp_path / "archive.tar.gz", tmp_path / "out", 10_000, 10**9)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert len(str(raised.value)) < 400


def test_unpacked_files_are_plain_files(tmp_path):
    member = tarfile.TarInfo("yes/program.wav")
    member.mode, member.uid = 0o6777, 12345
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(tar_gz({}, (member,)))
    unpack(archive, tmp_path / "out", 10, 1000)
    status = (tmp_path / "out/yes/program.wav").stat()
    assert status.st_mode & 0o7022 == 0
    assert status.st_uid == os.getuid()


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    target = tmp_path / "corpus"
    leftover = tmp_path / ".corpus.unpacking"
    leftover.mkdir()
    (leftover / "of-a-killed-process").touch()
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as folder:
        (folder / "half").write_text(str(1 / len(names_in(folder))))
    assert names_in(tmp_path) == []
    with atomic_folder(target) as folder:
        (folder / "whole").touch()
        assert not target.exists()
    assert names_in(target) == ["whole"]
    with pytest.raises(SpeechGRUError, match="corpus: cannot be written"), atomic_folder(target):
        pass
    assert names_in(target) == ["whole"]


@pytest.mark.parametrize("length", [10**30, 10**15])
def test_a_length_beyond_all_memory_is_a_broken_connection(part, length):
    head = f"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: {length}\r\n\r\nabc"
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(head.encode())

    thread = threading.Thread(target=answer)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/archive.tar.gz"
    with listener, pytest.raises(SpeechGRUError, match="no answer: ") as failure:
        fetch(url, part, attempts=1, pause_s=0)
    thread.join()
    assert failure.value.exit_code == 1
