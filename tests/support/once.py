"""What takes seconds to make is made once a run, by the first worker of pytest that asks for it."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

#: Names the folder that the workers of a run share; processes started by a test find it, too.
VARIABLE = "SPEECHGRU_TESTS_ONCE"


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The file or folder `name`, which `make(path)` writes if no worker has; not to be changed."""
    path = Path(os.environ[VARIABLE]) / name
    with FileLock(f"{path}.lock"):
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                make(Path(folder) / name)
                shutil.move(Path(folder) / name, path)
    return path
