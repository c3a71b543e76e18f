"""Where the project lies, and the recordings that are beside it."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("SPEECHGRU_SHARED", PROJECT.parent / "shared"))
