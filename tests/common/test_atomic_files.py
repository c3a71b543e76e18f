"""A file is there whole or not at all, and nothing else is touched."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from speechgru.common.files import (
    append_line,
    atomic_path,
    cut_unfinished_line,
    remove_leftovers,
    write_atomic,
)
from speechgru.errors import SpeechGRUError
from speechgru.modelfile.bundled import bundled_model, is_bundled


def test_an_error_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    write_atomic(path, "first")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("sec")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        write_half()
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new.txt", b"content")
    (tmp_path / "usual.txt").touch()
    modes = {(tmp_path / name).stat().st_mode for name in ("new.txt", "usual.txt")}
    assert len(modes) == 1


def test_folders_are_synced_only_where_they_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_DIRECTORY")  # Windows has none
    monkeypatch.setattr(os, "open", None if os.name == "posix" else os.open)
    with (tmp_path / "temporary").open("wb") as temporary:
        temporary.write(b"x")
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: (os.dup(2), tmp_path / "temporary"))
    write_atomic(tmp_path / "file", "content")
    assert (tmp_path / "file").read_text() == "content"


@pytest.mark.parametrize("write", [write_atomic, append_line])
def test_what_cannot_be_written_is_named(tmp_path: Path, write) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpeechGRUError, match=r"file/new: cannot be written: "):
        write(tmp_path / "file" / "new", "content")


def test_a_full_disk_leaves_no_half_a_line(small_disk: Path) -> None:
    append_line(small_disk / "lines", "first")
    (small_disk / "filler").write_bytes(bytes(1_000_000))
    with pytest.raises(SpeechGRUError, match="lines: cannot be written: No space left on device"):
        append_line(small_disk / "lines", "x" * 3_000_000)
    assert (small_disk / "lines").read_text() == "first\n"
    (small_disk / "filler").unlink()
    assert append_line(small_disk / "lines", "second") == len("first\nsecond\n")


def test_an_unfinished_line_is_cut(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    cut_unfinished_line(lines)
    assert not lines.exists()
    for content, left in (("one\ntwo\nthr", "one\ntwo\n"), ("thr", ""), ("one\n", "one\n")):
        lines.write_text(content)
        cut_unfinished_line(lines)
        assert lines.read_text() == left


def test_only_leftovers_of_this_file_are_removed(tmp_path: Path) -> None:
    left_over = [".a[1].json.abcd_12x.tmp", ".a[1].json.zzzzzzzz.tmp"]
    others = ["a[1].json", ".a[1].json.mine.tmp", ".b.json.abcd_12x.tmp", ".a1.json.abcd_12x.tmp"]
    for name in (*left_over, *others):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "a[1].json")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_leftovers_are_named_as_temporary_files_are(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "file") as temporary:
        remove_leftovers(tmp_path / "file")
        assert not temporary.exists()
        temporary.touch()


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are those of Unix")
def test_a_file_keeps_its_permissions_and_a_link_its_file(tmp_path: Path) -> None:
    private = tmp_path / "private"
    write_atomic(private, "first")
    private.chmod(0o600)
    (tmp_path / "link").symlink_to(private)
    write_atomic(tmp_path / "link", "second")
    assert (tmp_path / "link").is_symlink()
    assert private.read_text() == "second"
    assert private.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name != "posix", reason="links are those of Unix")
def test_a_link_to_a_bundled_model_is_one(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").symlink_to(bundled_model())
    assert is_bundled(tmp_path / "mine.onnx")
    assert not is_bundled(tmp_path / "other.onnx")


@pytest.mark.skipif(os.name != "posix", reason="the umask is one of Unix")
def test_threads_that_write_at_once_leave_the_umask_alone(tmp_path: Path) -> None:
    before = os.umask(0o027)
    os.umask(0o027)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def write(number: int) -> set[int]:
        path = tmp_path / str(number)
        modes = set()
        for _ in range(200):
            write_atomic(path, "x")
            modes.add(path.stat().st_mode & 0o777)
            path.unlink()
        return modes

    try:
        with ThreadPoolExecutor(4) as threads:
            assert set().union(*threads.map(write, range(4))) == {0o640}
        assert os.umask(0o027) == 0o027
    finally:
        sys.setswitchinterval(interval)
        os.umask(before)
