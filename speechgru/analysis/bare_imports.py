"""The imports that `speechgru listen` cannot avoid; run as a script and timed."""

import numpy  # noqa: F401
import onnxruntime  # noqa: F401
import rich  # noqa: F401
import typer  # noqa: F401

if __name__ == "__main__":
    print()
