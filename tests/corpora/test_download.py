"""`data download` against a real server: what is there, what is kept, what is reported."""

import dataclasses
import json
import resource
import signal
import subprocess
import sys
import tarfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from mirror import CORPUS, RECORDINGS, Mirror, names_in, serving, tar_gz

from speechgru.cli import main
from speechgru.corpora.download import SOURCES, Download
from speechgru.errors import InterruptedRunError, SpeechGRUError

NAME = "speech-commands-v2-test"
ARCHIVE = "speech_commands_test_set_v0.02.tar.gz"


@pytest.fixture
def corpus_mirror():
    with serving(Mirror(tar_gz(CORPUS))) as running:
        yield running


def download(mirror: Mirror, target: Path, *more: str) -> int:
    """The command, against a mirror whose archive is another than the published one."""
    arguments = ["data", "download", NAME, "--out", str(target), "--url", mirror.url]
    return main([*arguments, "--sha256", mirror.sha256, *more])


def recordings_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.wav")
    }


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
def test_hostile_archives_leave_no_files(kind, tmp_path, capsys):
    inner = tmp_path / "inner"
    with serving(Mirror(HOSTILE[kind])) as hostile:
        assert download(hostile, inner / "corpus") == 4
    assert "hostile: member" in capsys.readouterr().err
    assert not (inner / "corpus").exists()
    assert not list(tmp_path.rglob("escaped*"))
    assert not list(tmp_path.rglob("*.wav"))
    assert not Path("/tmp/escaped.wav").exists()


def test_a_download_leaves_only_its_directory(corpus_mirror, tmp_path, capsys):
    target = tmp_path / "corpus"
    assert download(corpus_mirror, target) == 0
    shown = capsys.readouterr()
    assert recordings_in(target) == RECORDINGS
    assert (target / "README.md").read_bytes() == CORPUS["./README.md"]
    assert names_in(tmp_path) == ["corpus"]
    assert shown.out == f"{target}: 10 recordings, 200.0 kB\n"
    assert "112.6 MB to download, about 192.2 MB unpacked" in shown.err


def test_complete_downloads_are_not_repeated(corpus_mirror, tmp_path, capsys):
    target = tmp_path / "corpus"
    target.mkdir()
    assert download(corpus_mirror, target) == 0
    capsys.readouterr()
    assert download(corpus_mirror, target, "--json") == 0
    shown = capsys.readouterr()
    assert "is already there, complete" in shown.err
    reported = json.loads(shown.out)
    assert reported["directory"] == str(target)
    assert reported["files"] == len(RECORDINGS)
    assert reported["sha256"] == corpus_mirror.sha256
    assert len(corpus_mirror.requests) == 1


def test_a_missing_recording_is_noticed(corpus_mirror, tmp_path, capsys):
    target = tmp_path / "corpus"
    download(corpus_mirror, target)
    next(target.glob("yes/*.wav")).unlink()
    assert download(corpus_mirror, target) == 1
    assert "9 of 10 files" in capsys.readouterr().err


def test_other_directories_are_left_alone(corpus_mirror, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert download(corpus_mirror, tmp_path) == 1
    assert "exists already" in capsys.readouterr().err
    assert names_in(tmp_path) == ["mine.txt"]
    assert not corpus_mirror.requests


def test_a_broken_connection_is_resumed(corpus_mirror, tmp_path):
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
    message = capsys.readouterr().err
    assert corpus_mirror.sha256 in message
    assert wanted in message
    assert names_in(tmp_path) == []


def test_a_kept_archive_is_used_again(corpus_mirror, tmp_path):
    assert download(corpus_mirror, tmp_path / "corpus", "--keep-archive") == 0
    assert (tmp_path / ARCHIVE).read_bytes() == corpus_mirror.content
    assert names_in(tmp_path) == ["corpus", ARCHIVE]
    assert download(corpus_mirror, tmp_path / "second") == 0
    assert recordings_in(tmp_path / "second") == RECORDINGS
    assert (tmp_path / ARCHIVE).exists()
    assert len(corpus_mirror.requests) == 1


def test_wrong_archives_of_the_user_are_not_deleted(corpus_mirror, tmp_path, capsys):
    (tmp_path / ARCHIVE).write_bytes(b"mine")
    assert download(corpus_mirror, tmp_path / "corpus") == 4
    assert f"{ARCHIVE}: its SHA-256 is" in capsys.readouterr().err
    assert names_in(tmp_path) == [ARCHIVE]


def test_disk_space_is_checked_before_the_download(corpus_mirror, tmp_path):
    job = Download(NAME, tmp_path / "corpus", corpus_mirror.url, corpus_mirror.sha256)
    job.source = dataclasses.replace(job.source, clips=10**15)
    with pytest.raises(SpeechGRUError, match=r"are free; .* needs .* unpacked\)") as failure:
        job.run()
    assert failure.value.exit_code == 1
    assert not corpus_mirror.requests


def test_a_full_disk_leaves_no_partial_directory(tmp_path):
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


def test_two_processes_do_not_download_the_same_file(corpus_mirror, tmp_path):
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
def test_ctrl_c_keeps_the_archive_in_every_stage(corpus_mirror, tmp_path, stage):
    @contextmanager
    def interrupted(name):
        def progress(done, total):
            if name == stage and done > total / 2:
                signal.raise_signal(signal.SIGINT)

        yield progress

    job = Download(NAME, tmp_path / "corpus", corpus_mirror.url, corpus_mirror.sha256)
    with pytest.raises(InterruptedRunError, match="the same command resumes") as stop:
        job.run(stage=interrupted)
    assert stop.value.exit_code == 130
    assert names_in(tmp_path) == [f"{ARCHIVE}.part", f"{ARCHIVE}.part.json"]
    job.run()
    assert recordings_in(tmp_path / "corpus") == RECORDINGS
    assert names_in(tmp_path) == ["corpus"]
    assert sum(request.get("Range") is None for request in corpus_mirror.requests) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_interrupted_downloads_resume(corpus_mirror, tmp_path, number, code):
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
        _, message = process.communicate(timeout=30)
    finally:
        process.kill()
        go_on.set()
    assert process.returncode == code
    assert code < 0 or "the same command resumes" in message
    held = part.stat().st_size
    assert download(corpus_mirror, tmp_path / "corpus") == 0
    assert corpus_mirror.ranges == [None, f"bytes={held}-"]
    assert recordings_in(tmp_path / "corpus") == RECORDINGS


def test_unknown_names_and_invalid_options(capsys):
    start = ["data", "download"]
    assert main([*start, "speech-commands-v3"]) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in SOURCES)
    assert main([*start, NAME, "--sha256", "0" * 64]) == 2
    assert main([*start, NAME, "--url", "http://x/y", "--sha256", "abc"]) == 2
    assert "64 hexadecimal digits" in capsys.readouterr().err
