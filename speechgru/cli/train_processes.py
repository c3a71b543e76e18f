"""`speechgru train` in several processes: started here, or by torchrun."""

import tempfile
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from speechgru.errors import SpeechGRUError, UsageError

if TYPE_CHECKING:
    from speechgru.training.recipe import Recipe


def own_device(name: str, devices: int) -> str:
    """The name of this process's device: of several processes, each has its own GPU.

    Raises:
        UsageError: there are not enough GPUs, or the name is that of a single one.
    """
    from speechgru.training.distribution import is_one_of_several, local_rank

    if is_one_of_several():
        if devices > 1:
            raise UsageError("--devices: torchrun sets the number of processes; leave it out")
        count, place = local_rank() + 1, local_rank()
    else:
        count, place = devices, 0
    if count == 1 and not is_one_of_several():
        return name
    from speechgru.backends.torch_device import select_device

    chosen = select_device(name)
    if chosen.type == "mps" or chosen.index is not None:
        raise UsageError(f"--devices {count}: needs --device cpu or cuda, not {chosen}")
    if chosen.type == "cpu":
        return "cpu"
    select_device(f"cuda:{count - 1}")
    return f"cuda:{place}"


def launch_training(
    recipe: "Recipe", run: Path, resume: bool, device: str, devices: int, json: bool
) -> int:
    """Train in several processes on this machine; returns their exit code.

    Raises:
        SpeechGRUError: one of them was lost; says how to resume.
    """
    from speechgru.training.launcher import launch
    from speechgru.training.run_directory import RunDirectory

    kind = device.partition(":")[0]
    with tempfile.TemporaryDirectory() as folder:
        if resume:
            what = ["--resume", str(run), "--data", recipe.data.directory]
        else:
            file = Path(folder) / "recipe.toml"
            file.write_text(recipe.to_toml(), encoding="utf-8")
            what = [str(file), "--out", str(run)]
        arguments = ["train", *what, "--device", kind, *(["--json"] if json else [])]
        try:
            return launch(arguments, devices)
        except SpeechGRUError as error:
            if not RunDirectory(run).recipe.exists():
                raise
            raise SpeechGRUError(f"{error}; {how_to_resume(run)}") from error


def how_to_resume(run: Path) -> str:
    """The advice after a run was lost."""
    return f"resume with: speechgru train --resume {quote(str(run))}"
