"""A virtual environment for each peer: what it requires need not go with what tacit requires."""

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


class InstallError(Exception):
    """A peer cannot be installed here; the message says why, in the words of pip."""


@dataclass(frozen=True)
class Peer:
    """Another simulator.

    Attributes:
        name: What it is called here.
        requirements: What pip is told to install, torch aside.
        module: The module that plays a workload on it.
    """

    name: str
    requirements: tuple[str, ...]
    module: str


PEERS = {
    "pfl": Peer("pfl", ("pfl[pytorch]==0.6.0",), "benchmarks.peers.pfl_loop"),
    "flower": Peer("flower", ("flwr[simulation]==1.41.0",), "benchmarks.peers.flower_loop"),
}


def peers_folder() -> Path:
    """Return where the environments lie: ``TACIT_BENCH_PEERS``, else a folder in the user's cache."""
    return Path(os.environ.get("TACIT_BENCH_PEERS") or Path.home() / ".cache" / "tacit" / "peers")


def ready(peer: Peer) -> Path:
    """Install a peer if that has not been done yet, and return the Python that runs it.

    It gets the version of torch that tacit is measured with.

    Raises:
        InstallError: It cannot be installed.
    """
    folder = peers_folder() / peer.name
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join((*peer.requirements, f"torch=={version('torch').partition('+')[0]}"))
    # The stamp is written last: where it is, the rest is.
    if not stamp.exists() or stamp.read_text() != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", *wanted.split("\n")])
        stamp.write_text(wanted)
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).splitlines()
        causes = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
        raise InstallError(" ".join(causes) or f"exit status {done.returncode}")
