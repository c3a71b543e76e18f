"""Trains one step on the tones of a manifest; exits with 1 if that imported torch's compiler."""

import sys
from pathlib import Path

from runs import make_trainer, quick_recipe

if __name__ == "__main__":
    make_trainer(quick_recipe(Path(sys.argv[1]))).train_step()
    sys.exit("torch._dynamo" in sys.modules)
