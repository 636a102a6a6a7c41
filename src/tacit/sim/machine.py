"""What to write down about the machine a run used."""

import importlib.metadata
import platform
from pathlib import Path

_LIBRARIES = (
    "tacit",
    "torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "msgspec",
    "safetensors",
    "scikit-learn",
)


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


def features() -> str:
    """Return what the processor can do beyond its name, such as its vector instructions."""
    return _cpuinfo("flags") or _cpuinfo("Features")


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or "unknown processor"


def _cpuinfo(name: str) -> str:
    """Return what Linux says of the first core; empty elsewhere."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    except OSError:
        pass
    return ""
