"""onnxruntime-web, which runs the model in a browser: from a folder, the cache, or npm."""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from speechgru.common.files import write_atomic
from speechgru.corpora.cache import default_cache_dir
from speechgru.errors import SpeechGRUError, UsageError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)
_TIMEOUT_S = 600.0


def find_runtime(given: Path | None = None) -> Path:
    """A folder with onnxruntime-web's files.

    Args:
        given: the package's folder, or its `dist`; without it the cache, which npm fills once.

    Raises:
        UsageError: the folder does not have them.
        SpeechGRUError: npm is needed and is not there, or fails.
    """
    if given is not None:
        for folder in (given, given / "dist", given / "node_modules" / PACKAGE / "dist"):
            if has_runtime(folder):
                return folder
        raise UsageError(f"--onnxruntime-web {given}: {RUNTIME_FILES[0]} is not there")
    cached = default_cache_dir() / f"{PACKAGE}-{VERSION}"
    if not has_runtime(cached):
        _fetch(cached)
    return cached


def has_runtime(folder: Path) -> bool:
    """Whether all files are there."""
    return all((folder / name).is_file() for name in RUNTIME_FILES)


def _fetch(folder: Path) -> None:
    """Let npm fetch the package, which checks it, and keep the files that are needed."""
    npm = shutil.which("npm")
    if npm is None:
        raise SpeechGRUError(
            f"the page needs {PACKAGE} {VERSION}: install npm, which fetches it, or give the "
            "package's folder by --onnxruntime-web DIR"
        )
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"]
        try:
            done = subprocess.run(
                command, cwd=temporary, capture_output=True, text=True, timeout=_TIMEOUT_S
            )
        except subprocess.TimeoutExpired as error:
            raise SpeechGRUError(f"npm pack {PACKAGE}: not done in {_TIMEOUT_S:g} s") from error
        archives = list(Path(temporary).glob("*.tgz"))
        if done.returncode or not archives:
            reason = (done.stderr.strip().splitlines() or ["no archive"])[-1]
            raise SpeechGRUError(f"npm pack {PACKAGE}@{VERSION} failed: {reason}")
        with tarfile.open(archives[0]) as archive:
            for name in RUNTIME_FILES:
                member = archive.extractfile(f"package/dist/{name}")
                if member is None:
                    raise SpeechGRUError(f"{PACKAGE} {VERSION} has no dist/{name}")
                write_atomic(folder / name, member.read())
