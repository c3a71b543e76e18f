"""Devices by name, and the number of usable cores."""

import os
import re

import torch

from speechgru.errors import UsageError


def select_device(name: str = "auto") -> torch.device:
    """The device called `name`: "auto", "cpu", "mps", "cuda" or "cuda:N".

    "auto" is CUDA if there is a GPU, otherwise Apple's MPS if there is one, otherwise the CPU.

    Raises:
        UsageError: the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        return _best_device()
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", name):
        raise UsageError(f"--device {name!r}: unknown; auto, cpu, cuda, cuda:N or mps is needed")
    device = torch.device(name)
    if device.type == "cuda":
        _check_cuda(name, device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"--device {name}: this machine has no MPS device; use auto or cpu")
    return device


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _check_cuda(name: str, index: int) -> None:
    if not torch.cuda.is_available():
        raise UsageError(f"--device {name}: torch finds no CUDA GPU here; use auto or cpu")
    if index >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise UsageError(f"--device {name}: the last GPU here is cuda:{last}")


def has_amx() -> bool:
    """Whether this processor has instructions that multiply bfloat16 matrices."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def usable_cores() -> int:
    """Processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
