"""What to write down about the machine a run used."""

import importlib.metadata
import platform
from pathlib import Path

_LIBRARIES = ("tacit", "torch", "numpy", "msgspec", "safetensors", "scikit-learn")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that matter for a run's bits."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def machine() -> str:
    """Return processor and system in words."""
    return f"{_processor()}, {platform.system()} {platform.machine()}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"
