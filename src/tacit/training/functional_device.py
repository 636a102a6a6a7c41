"""Where the executor ``functional`` computes: this machine's processor, or a GPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tacit.core.errors import ConfigError

CPU, AUTO, CUDA = "cpu", "auto", "cuda"
_SHARE = 8  # of a GPU's memory: one part of so many is for clients' data that stays there between rounds
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_WITH = "; trained on "


@dataclass(frozen=True)
class Device:
    """A device that was found.

    Attributes:
        name: As torch calls it: ``"cpu"``, ``"cuda:0"``.
        label: What it is, for records and for keys of what was measured on it; empty for the processor.
        kept_bytes: How much of clients' data may stay on it between rounds.
    """

    name: str = CPU
    label: str = ""
    kept_bytes: int = 0

    @property
    def is_cpu(self) -> bool:
        """Whether it is the processor."""
        return self.name == CPU

    def beside(self, machine: str) -> str:
        """Return the words for a machine with those for this device, if it is not the processor."""
        return machine if self.is_cpu else f"{machine}{_WITH}{self.label}"

    def __str__(self) -> str:
        return f"{self.name} ({self.label})" if self.label else self.name


def device_beside(machine: str) -> str:
    """Return the label of the device that ``Device.beside`` has noted; empty for the processor."""
    return machine.partition(_WITH)[2]


def open_device(name: str, *, alone: bool = True) -> Device:
    """Find a device.

    Args:
        name: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, or ``"auto"``: a GPU if there is one.
        alone: Whether one process trains; several cannot share a GPU; for them ``"auto"`` means ``"cpu"``.

    Raises:
        ConfigError: There is no such device here, or several processes are to use it.
    """
    kind, _, number = name.partition(":")
    import torch  # late: who runs a program on the processor never imports it

    is_known = name in (CPU, AUTO) or (kind == CUDA and (name == CUDA or number.isdecimal()))
    if not is_known:
        what = f"there is no device `{name}`"
        raise ConfigError("T105", what, where="device", fix="One of: cpu, cuda, cuda:0, cuda:1, ..., auto.")
    if name == CPU or (name == AUTO and not (alone and torch.cuda.is_available())):
        return Device()
    if not alone:
        fix = "Leave out workers and cluster, or train on the processor."
        raise ConfigError("T109", f"several processes cannot share `{name}`", where="device", fix=fix)
    return _gpu(int(number or 0))


def _gpu(index: int) -> Device:
    """Return a GPU by its number.

    Raises:
        ConfigError: There is none.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        what = f"torch {torch.__version__} finds {count or 'no'} GPU{'s' * (count > 1)} here"
        fix = "Train on the processor, or install a driver and a build of PyTorch for CUDA."
        if count:
            fix = f"Numbers go from 0 to {count - 1}."
        raise ConfigError("T105", what, where="device", fix=fix)
    # Read when cuBLAS starts: with it, equal calls give equal bits.
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    known = torch.cuda.get_device_properties(index)
    label = f"{known.name}, sm_{known.major}{known.minor}, CUDA {torch.version.cuda}"
    return Device(f"{CUDA}:{index}", label, known.total_memory // _SHARE)


@contextmanager
def exactly() -> Iterator[None]:
    """Let torch compute in full float32, and by algorithms that repeat to the bit where it has them.

    By default a GPU rounds the inputs of a convolution to 10 bits (TF32), and may choose another algorithm at
    every call. The settings are the whole process's; they are restored. An operator of a GPU that has no
    repeatable algorithm warns, and goes on.
    """
    import torch

    cudnn, memory = torch.backends.cudnn, _memory()
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        memory.fill_uninitialized_memory,
        cudnn.allow_tf32,
        cudnn.benchmark,
        torch.get_float32_matmul_precision(),
    )
    try:
        _set(True, True, False, False, False, "highest")
        yield
    finally:
        _set(*before)


def _set(
    deterministic: bool, warn_only: bool, filling: bool, tf32: bool, benchmark: bool, precision: str
) -> None:
    import torch

    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    _memory().fill_uninitialized_memory = filling  # with NaN: a pass over all new memory
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = benchmark
    torch.set_float32_matmul_precision(precision)


def _memory() -> Any:
    """Return what holds the setting ``fill_uninitialized_memory``: a module that torch gives another type."""
    import torch

    return torch.utils.deterministic
