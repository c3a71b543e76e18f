"""Exported C on emulated microcontrollers: compiled, run on samples, and measured."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from c_builds import DRIVER, STRICT, Run

from speechgru.export.c.writer import write_c

SUPPORT = DRIVER.parent / "chips"
_ARM_LINK = ("-nostartfiles", "--specs=rdimon.specs", f"-L{SUPPORT}")
_RISCV_PLACES = {
    "flash": 0x80000000,
    "flash_size": 2**22,
    "ram": 0x80400000,
    "ram_size": 2**22,
    "stack_size": 2**16,
}


@dataclass(frozen=True)
class Chip:
    """A core, what compiles for it, and a board with it that QEMU emulates.

    Args:
        options: of the compiler.
        links: what the driver is linked with.
        machine: emulator, board and its options.
        instructions_per_tick: of the clock of `measure.h`.
    """

    tools: str
    options: tuple[str, ...]
    links: tuple[str, ...]
    machine: tuple[str, ...]
    instructions_per_tick: int = 1


def _cortex_m(board: str, mhz: int, *options: str) -> Chip:
    return Chip(
        "arm-none-eabi-",
        ("-mthumb", "-masm-syntax-unified", *options),
        (str(SUPPORT / "cortex-m.c"), "-T", f"{board}.ld", *_ARM_LINK),
        ("qemu-system-arm", "-M", board),
        1000 // mhz,
    )


CHIPS = {
    "cortex-m4": _cortex_m(
        "mps2-an386", 25, "-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"
    ),
    "cortex-m33": _cortex_m(
        "mps2-an505", 20, "-mcpu=cortex-m33", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"
    ),
    # No FPU, no DSP extension: the RP2040's core, whose instructions a Cortex-M4 has too.
    "cortex-m0plus": _cortex_m("mps2-an386", 25, "-mcpu=cortex-m0plus", "-mfloat-abi=soft"),
    # No FPU: the ESP32-C3's instructions.
    "riscv32imc": Chip(
        "riscv64-unknown-elf-",
        ("-march=rv32imc", "-mabi=ilp32", "--specs=picolibc.specs"),
        (
            "--oslib=semihost",
            "--crt0=semihost",
            "-Tpicolibc.ld",
            *(f"-Wl,--defsym=__{name}={value}" for name, value in _RISCV_PLACES.items()),
        ),
        ("qemu-system-riscv32", "-M", "virt", "-bios", "none"),
    ),
}


@dataclass(frozen=True)
class Emulated:
    """A program for an emulated core.

    Args:
        flash_bytes: code and constants of the exported sources, without the program around them.
    """

    chip: Chip
    program: Path
    labels: int
    flash_bytes: int

    def run(self, samples: np.ndarray) -> tuple[Run, dict[str, int]]:
        """What 16-bit samples give, and what `measure.h` measured a step."""
        folder = self.program.parent
        (folder / "samples.pcm").write_bytes(samples.astype("<i2").tobytes())
        arguments = ["drive", "samples.pcm", "out.f32", "320", "0"]
        semihosting = ",".join(["enable=on", "target=native", *(f"arg={a}" for a in arguments)])
        quiet = ["-nographic", "-monitor", "none", "-serial", "none"]
        done = subprocess.run(
            [
                *(*self.chip.machine, *quiet, "-icount", "shift=0"),
                *("-semihosting-config", semihosting, "-kernel", str(self.program)),
            ],
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        lines = (done.stdout + done.stderr).splitlines()
        measured = json.loads(next(line for line in lines if line.startswith("{")))
        events = [line.rsplit(maxsplit=4) for line in lines if not line.startswith("{")]
        log_posteriors = np.fromfile(folder / "out.f32", "<f4").reshape(-1, self.labels)
        run = Run(log_posteriors, [(word, int(a), int(b), int(t)) for word, a, b, t, _ in events])
        return run, measured


def build_for(chip: Chip, model, folder: Path, optimize: str = "-O2") -> Emulated:
    """Export a model and compile it for a chip; skips without compiler and emulator."""
    for tool in (f"{chip.tools}gcc", chip.machine[0]):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    write_c(model, folder)
    objects = compile_sources(chip, folder, optimize, "-ffunction-sections")
    command = [
        *(f"{chip.tools}gcc", *chip.options, "-std=gnu99", "-O2", "-Wl,--gc-sections"),
        *("-DMEASURE", f"-DINSTRUCTIONS_PER_TICK={chip.instructions_per_tick}u"),
        *(f"-I{folder / 'src'}", f"-I{SUPPORT}", str(DRIVER), *map(str, objects)),
        *(*chip.links, "-lm", "-o", str(folder / "drive.elf")),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Emulated(
        chip, folder / "drive.elf", len(model.labels), sum(flash_bytes(chip, o) for o in objects)
    )


def compile_sources(chip: Chip, folder: Path, *options: str) -> list[Path]:
    """Compile exported C, with no warning; gives the objects."""
    objects = []
    for source in sorted((folder / "src").glob("*.c")):
        target = folder / f"{source.stem}.o"
        command = [f"{chip.tools}gcc", *chip.options, *STRICT, *options, "-c", str(source)]
        done = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        objects.append(target)
    return objects


def flash_bytes(chip: Chip, target: Path) -> int:
    """Code and constants of an object."""
    done = subprocess.run(
        [f"{chip.tools}size", str(target)], capture_output=True, text=True, check=True
    )
    text, data, *_ = map(int, done.stdout.splitlines()[1].split()[:3])
    return text + data
