"""Downloads against a real server that breaks off, lies and is hostile."""

import dataclasses
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tarfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from mirror import Mirror, serving, tar_gz

from speechgru.cli import main
from speechgru.corpora.archive import atomic_folder, unpack
from speechgru.corpora.download import Download
from speechgru.corpora.sources import SOURCES
from speechgru.corpora.transfer import fetch
from speechgru.errors import DataError, InterruptedRunError, SpeechGRUError, UsageError

NAME = "speech-commands-v2-test"
ARCHIVE = "speech_commands_test_set_v0.02.tar.gz"
CONTENT = random.Random(1).randbytes(200_000)
RECORDINGS = {
    f"{word}/{speaker:08x}_nohash_0.wav": random.Random(f"{word}{speaker}").randbytes(20_000)
    for word in ("yes", "no")
    for speaker in range(5)
}
CORPUS = {"./README.md": b"Recordings.\n", **RECORDINGS}


@pytest.fixture
def mirror():
    with serving(Mirror(CONTENT)) as running:
        yield running


@pytest.fixture
def corpus_mirror():
    with serving(Mirror(tar_gz(CORPUS))) as running:
        yield running


@pytest.fixture
def part(tmp_path):
    return tmp_path / "file.part"


def download(mirror: Mirror, target: Path, *more: str) -> int:
    """The command, against a mirror whose archive is another than the published one."""
    arguments = ["data", "download", NAME, "--out", str(target), "--url", mirror.url]
    return main([*arguments, "--sha256", mirror.sha256, *more])


def recordings_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.wav")
    }


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The transfer


def test_a_file_arrives_whole_and_progress_counts_its_bytes(mirror, part):
    told = []
    fetch(mirror.url, part, progress=lambda done, total: told.append((done, total)))
    assert part.read_bytes() == CONTENT
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)


def test_a_broken_connection_goes_on_at_the_byte_where_it_broke(mirror, part):
    mirror.breaks = [70_000, 50_000]
    fetch(mirror.url, part, pause_s=0)
    assert part.read_bytes() == CONTENT
    assert mirror.ranges == [None, "bytes=70000-", "bytes=120000-"]
    assert [request.get("If-Range") for request in mirror.requests] == [None, '"one"', '"one"']


def test_a_later_run_goes_on_where_the_last_one_gave_up(mirror, part):
    mirror.breaks = [70_000, 0, 0]
    with pytest.raises(SpeechGRUError, match=r"70,000 bytes are kept in .*file\.part") as failure:
        fetch(mirror.url, part, attempts=3, pause_s=0)
    assert failure.value.exit_code == 1
    assert part.read_bytes() == CONTENT[:70_000]
    fetch(mirror.url, part)
    assert part.read_bytes() == CONTENT
    assert mirror.ranges[-1] == "bytes=70000-"


def test_breaks_that_bring_new_bytes_do_not_count_against_the_attempts(mirror, part):
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


def test_a_server_that_ignores_range_and_always_breaks_is_given_up(mirror, part):
    mirror.knows_range = False
    mirror.breaks = [70_000] * 10
    with pytest.raises(SpeechGRUError, match="broke off after 70,000 of 200,000 bytes"):
        fetch(mirror.url, part, attempts=3, pause_s=0)
    assert len(mirror.requests) == 3


@pytest.mark.parametrize("knows_if_range", [True, False])
def test_a_file_that_changes_between_two_attempts_is_never_mixed(mirror, part, knows_if_range):
    mirror.breaks = [70_000, 0]
    with pytest.raises(SpeechGRUError):
        fetch(mirror.url, part, attempts=2, pause_s=0)
    mirror.content = random.Random(2).randbytes(150_000)
    mirror.headers = {"ETag": '"two"'}
    mirror.knows_if_range = knows_if_range
    fetch(mirror.url, part, pause_s=0)
    assert part.read_bytes() == mirror.content


def test_a_weak_etag_does_not_promise_the_same_bytes_but_the_date_does(mirror, part):
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


def test_a_whole_part_is_not_asked_for_again(mirror, part):
    fetch(mirror.url, part)
    fetch(mirror.url, part)
    assert len(mirror.requests) == 1


def test_a_part_that_is_longer_than_the_file_is_discarded(mirror, part):
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


def test_not_found_is_told_at_once(mirror, part):
    mirror.statuses = [404]
    with pytest.raises(
        SpeechGRUError, match=r"archive\.tar\.gz: the server answered 404"
    ) as failure:
        fetch(mirror.url, part)
    assert failure.value.exit_code == 1
    assert len(mirror.requests) == 1
    assert not part.exists()


def test_a_server_in_trouble_is_asked_again(mirror, part):
    mirror.statuses = [503, 500]
    fetch(mirror.url, part, pause_s=0)
    assert part.read_bytes() == CONTENT
    mirror.statuses = [500] * 9
    part.unlink()
    with pytest.raises(SpeechGRUError, match="answered 500"):
        fetch(mirror.url, part, attempts=3, pause_s=0)
    assert len(mirror.statuses) == 6


def test_nobody_there_is_told_at_once(part):
    with serving(Mirror(b"")) as gone:
        pass
    with pytest.raises(SpeechGRUError, match="no connection: Connection refused"):
        fetch(gone.url, part, pause_s=60)


@pytest.mark.parametrize("url", ["archive.tar.gz", "file:///etc/passwd", "ftp://x/y", "http://:x/"])
def test_only_web_addresses_are_taken(url, part):
    with pytest.raises(UsageError, match="--url"):
        fetch(url, part)


def test_a_wrong_file_does_not_cost_what_is_there(mirror, part):
    mirror.breaks = [70_000, 0]
    with pytest.raises(SpeechGRUError):
        fetch(mirror.url, part, attempts=2, pause_s=0)
    mirror.content = b"<html>Log in to the hotel's network</html>"
    mirror.headers = {"ETag": '"hotel"', "Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(DataError, match="a web page"):
        fetch(mirror.url, part)
    mirror.headers = {"ETag": '"other"'}
    with pytest.raises(DataError, match=r"42 bytes, where the archive .* has 200,000"):
        fetch(mirror.url, part, expected_bytes=len(CONTENT))
    assert part.read_bytes() == CONTENT[:70_000]


def test_a_full_disk_is_one_sentence_and_keeps_what_came(mirror, part):
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


def special(kind: bytes, name: str = "yes/x", link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


HOSTILE = {
    "parent": tar_gz({**CORPUS, "../escaped.wav": b"!"}),
    "parent inside": tar_gz({**CORPUS, "yes/../../escaped.wav": b"!"}),
    "absolute": tar_gz({**CORPUS, "/tmp/escaped.wav": b"!"}),
    "backslashes": tar_gz({**CORPUS, "..\\escaped.wav": b"!"}),
    "drive": tar_gz({**CORPUS, "C:escaped.wav": b"!"}),
    "symbolic link": tar_gz(CORPUS, (special(tarfile.SYMTYPE, link="../.."),)),
    "link inside": tar_gz(CORPUS, (special(tarfile.SYMTYPE, link="README.md"),)),
    "hard link": tar_gz(CORPUS, (special(tarfile.LNKTYPE, link="/etc/passwd"),)),
    "device": tar_gz(CORPUS, (special(tarfile.CHRTYPE),)),
    "disk": tar_gz(CORPUS, (special(tarfile.BLKTYPE),)),
    "pipe": tar_gz(CORPUS, (special(tarfile.FIFOTYPE),)),
    "sparse": tar_gz(CORPUS, (special(tarfile.GNUTYPE_SPARSE),)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_leaves_nothing_anywhere(kind, tmp_path, capsys):
    inner = tmp_path / "inner"
    with serving(Mirror(HOSTILE[kind])) as hostile:
        assert download(hostile, inner / "corpus") == 4
    assert "hostile: member" in capsys.readouterr().err
    assert not (inner / "corpus").exists()
    assert not list(tmp_path.rglob("escaped*"))
    assert not list(tmp_path.rglob("*.wav"))
    assert not Path("/tmp/escaped.wav").exists()


@pytest.mark.parametrize(("max_files", "max_bytes"), [(5, 10**9), (10**6, 50_000)])
def test_an_archive_that_grows_too_large_is_refused(max_files, max_bytes, tmp_path):
    archive = tmp_path / "bomb.tar.gz"
    archive.write_bytes(tar_gz({f"yes/{n}.wav": bytes(10_000) for n in range(20)}))
    with pytest.raises(DataError, match="holds more than"):
        unpack(archive, tmp_path / "out", max_files, max_bytes)
    assert len(list((tmp_path / "out").rglob("*.wav"))) <= 5


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "plain tar"])
def test_a_damaged_archive_is_no_archive(damage, tmp_path):
    whole = tar_gz(CORPUS)
    content = {
        "cut": whole[: len(whole) // 2],
        "text": b"not found",
        "empty": b"",
        "plain tar": bytes(10_240),
    }[damage]
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"archive\.tar\.gz: not a whole tar\.gz"):
        unpack(archive, tmp_path / "out", 1000, 10**9)


def test_unpacked_files_are_plain_files(tmp_path):
    member = tarfile.TarInfo("yes/program.wav")
    member.mode, member.uid = 0o6777, 12345
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(tar_gz({}, (member,)))
    unpack(archive, tmp_path / "out", 10, 1000)
    status = (tmp_path / "out/yes/program.wav").stat()
    assert status.st_mode & 0o7022 == 0
    assert status.st_uid == os.getuid()


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
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


# The command


def test_a_download_becomes_a_directory_and_leaves_nothing_beside_it(
    corpus_mirror, tmp_path, capsys
):
    target = tmp_path / "corpus"
    assert download(corpus_mirror, target) == 0
    said = capsys.readouterr()
    assert recordings_in(target) == RECORDINGS
    assert (target / "README.md").read_bytes() == CORPUS["./README.md"]
    assert names_in(tmp_path) == ["corpus"]
    assert said.out == f"{target}: 10 recordings, 200.0 kB\n"
    assert "112.6 MB to download, about 192.2 MB unpacked" in said.err


def test_what_is_there_already_is_not_downloaded_again(corpus_mirror, tmp_path, capsys):
    target = tmp_path / "corpus"
    target.mkdir()
    assert download(corpus_mirror, target) == 0
    capsys.readouterr()
    assert download(corpus_mirror, target, "--json") == 0
    said = capsys.readouterr()
    assert "is there already, complete" in said.err
    told = json.loads(said.out)
    assert told["directory"] == str(target)
    assert told["files"] == len(RECORDINGS)
    assert told["sha256"] == corpus_mirror.sha256
    assert len(corpus_mirror.requests) == 1


def test_a_directory_that_lost_a_recording_is_not_complete(corpus_mirror, tmp_path, capsys):
    target = tmp_path / "corpus"
    download(corpus_mirror, target)
    next(target.glob("yes/*.wav")).unlink()
    assert download(corpus_mirror, target) == 1
    assert "9 of 10 files" in capsys.readouterr().err


def test_a_directory_of_something_else_is_left_alone(corpus_mirror, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert download(corpus_mirror, tmp_path) == 1
    assert "is there already" in capsys.readouterr().err
    assert names_in(tmp_path) == ["mine.txt"]
    assert not corpus_mirror.requests


def test_a_break_in_the_middle_goes_unnoticed(corpus_mirror, tmp_path):
    corpus_mirror.breaks = [len(corpus_mirror.content) // 2]
    assert download(corpus_mirror, tmp_path / "corpus") == 0
    assert recordings_in(tmp_path / "corpus") == RECORDINGS
    assert len(corpus_mirror.requests) == 2


def test_a_mirror_with_a_wrong_file_is_refused(corpus_mirror, tmp_path, capsys):
    arguments = ["data", "download", NAME, "--out", str(tmp_path / "corpus")]
    assert main([*arguments, "--url", corpus_mirror.url]) == 4
    assert "a wrong file" in capsys.readouterr().err
    wanted = "0" * 64
    assert main([*arguments, "--url", corpus_mirror.url, "--sha256", wanted]) == 4
    said = capsys.readouterr().err
    assert corpus_mirror.sha256 in said
    assert wanted in said
    assert names_in(tmp_path) == []


def test_a_kept_archive_serves_a_second_directory(corpus_mirror, tmp_path):
    assert download(corpus_mirror, tmp_path / "corpus", "--keep-archive") == 0
    assert (tmp_path / ARCHIVE).read_bytes() == corpus_mirror.content
    assert names_in(tmp_path) == ["corpus", ARCHIVE]
    assert download(corpus_mirror, tmp_path / "second") == 0
    assert recordings_in(tmp_path / "second") == RECORDINGS
    assert (tmp_path / ARCHIVE).exists()
    assert len(corpus_mirror.requests) == 1


def test_an_archive_of_ones_own_that_is_wrong_is_not_removed(corpus_mirror, tmp_path, capsys):
    (tmp_path / ARCHIVE).write_bytes(b"mine")
    assert download(corpus_mirror, tmp_path / "corpus") == 4
    assert f"{ARCHIVE}: its SHA-256 is" in capsys.readouterr().err
    assert names_in(tmp_path) == [ARCHIVE]


def test_too_small_a_disk_is_told_before_anything_is_asked(corpus_mirror, tmp_path):
    job = Download(NAME, tmp_path / "corpus", corpus_mirror.url, corpus_mirror.sha256)
    job.source = dataclasses.replace(job.source, clips=10**15)
    with pytest.raises(SpeechGRUError, match=r"are free; .* needs .* unpacked\)") as failure:
        job.run()
    assert failure.value.exit_code == 1
    assert not corpus_mirror.requests


def test_a_disk_that_fills_up_while_unpacking_leaves_no_half_directory(tmp_path):
    with serving(Mirror(tar_gz({"yes/long.wav": bytes(500_000)}))) as mirror:
        job = Download(NAME, tmp_path / "corpus", mirror.url, mirror.sha256)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(SpeechGRUError, match="corpus: cannot be written: "):
                job.run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert names_in(tmp_path) == [f"{ARCHIVE}.part", f"{ARCHIVE}.part.json"]
        job.run()
        assert names_in(tmp_path) == ["corpus"]
        assert len(mirror.requests) == 1


def test_two_processes_do_not_write_one_file(corpus_mirror, tmp_path):
    halfway, go_on = threading.Event(), threading.Event()

    def hold(sent: int) -> None:
        if sent > 50_000:
            halfway.set()
            go_on.wait(30)

    corpus_mirror.hold = hold
    job = Download(NAME, tmp_path / "corpus", corpus_mirror.url, corpus_mirror.sha256)
    first = threading.Thread(target=job.run)
    first.start()
    try:
        assert halfway.wait(30)
        with pytest.raises(SpeechGRUError, match="another process is downloading it"):
            job.run()
    finally:
        go_on.set()
        first.join()
    assert recordings_in(tmp_path / "corpus") == RECORDINGS


@pytest.mark.parametrize("stage", ["downloading", "verifying", "unpacking"])
def test_ctrl_c_in_any_stage_keeps_the_archive_and_says_how_to_go_on(
    corpus_mirror, tmp_path, stage
):
    @contextmanager
    def interrupted(name):
        def progress(done, total):
            if name == stage and done > total / 2:
                signal.raise_signal(signal.SIGINT)

        yield progress

    job = Download(NAME, tmp_path / "corpus", corpus_mirror.url, corpus_mirror.sha256)
    with pytest.raises(InterruptedRunError, match="the same command goes on") as stop:
        job.run(stage=interrupted)
    assert stop.value.exit_code == 130
    assert names_in(tmp_path) == [f"{ARCHIVE}.part", f"{ARCHIVE}.part.json"]
    job.run()
    assert recordings_in(tmp_path / "corpus") == RECORDINGS
    assert names_in(tmp_path) == ["corpus"]
    assert sum(request.get("Range") is None for request in corpus_mirror.requests) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_process_loses_nothing(corpus_mirror, tmp_path, number, code):
    part = tmp_path / f"{ARCHIVE}.part"
    halfway, go_on = threading.Event(), threading.Event()

    def hold(sent: int) -> None:
        # The client may lag behind what was sent: it has to have written something.
        while sent > 100_000 and not go_on.wait(0.01):
            if part.exists() and part.stat().st_size > 50_000:
                halfway.set()

    corpus_mirror.hold = hold
    arguments = ["data", "download", NAME, "--out", str(tmp_path / "corpus")]
    arguments += ["--url", corpus_mirror.url, "--sha256", corpus_mirror.sha256]
    command = "import sys; from speechgru.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments], stderr=subprocess.PIPE, text=True
    )
    try:
        assert halfway.wait(30)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        go_on.set()
    assert process.returncode == code
    assert code < 0 or "the same command goes on from there" in said
    held = part.stat().st_size
    assert download(corpus_mirror, tmp_path / "corpus") == 0
    assert corpus_mirror.ranges == [None, f"bytes={held}-"]
    assert recordings_in(tmp_path / "corpus") == RECORDINGS


def test_unknown_names_and_options_without_sense(capsys):
    start = ["data", "download"]
    assert main([*start, "speech-commands-v3"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in SOURCES)
    assert main([*start, NAME, "--sha256", "0" * 64]) == 2
    assert main([*start, NAME, "--url", "http://x/y", "--sha256", "abc"]) == 2
    assert "64 hexadecimal digits" in capsys.readouterr().err
