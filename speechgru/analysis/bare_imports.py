"""What a program like `speechgru listen` has to import at least; run as a script, to be timed."""

import numpy  # noqa: F401
import onnxruntime  # noqa: F401
import rich  # noqa: F401
import typer  # noqa: F401

if __name__ == "__main__":
    print()
