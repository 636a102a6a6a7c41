"""A connection to a Ray cluster: one that runs already, or one of our own on this machine."""

import importlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tacit.core.errors import ConfigError, RunError

LOCAL = "ray"
"""Names a cluster of our own, on this machine."""
_PREFIX, _AUTO = "ray://", "auto"
_CONNECT_S = 5.0
_ANSWER_S = 20.0
# Ray tries for minutes where nothing answers, and takes any open port for one that will. So a process of its
# own asks first, which can be ended. What it imports is not promised to stay: where it is gone, nobody asks.
_PROBE = """
import sys
try:
    from ray._private.services import canonicalize_bootstrap_address, find_node_ids
    from ray._raylet import GcsClient
except ImportError:
    sys.exit(0)
GcsClient(address=canonicalize_bootstrap_address(sys.argv[1]))
sys.exit(0 if find_node_ids() else 3)
"""
_NO_NODE = 3  # exit status of the probe


class RaySession:
    """Is connected to Ray from its making until it is closed.

    A process that has called ``ray.init`` itself keeps its connection, and that is used.

    Args:
        cluster: ``"ray"``: start Ray on this machine and stop it in the end; ``"ray://HOST:PORT"`` or
            ``"ray://auto"``: a cluster that this machine is a node of.
        workers: How many CPUs a cluster of our own offers; None: as many as there are.

    Raises:
        ConfigError: Ray is not installed, or ``cluster`` is none of these.
        RunError: The cluster cannot be reached.
    """

    def __init__(self, cluster: str, workers: int | None) -> None:
        address = _address(cluster)
        self.ray = imported_ray()
        self.name = cluster
        self._folder: str | None = None
        self._printer: Any = None
        self._is_ours = not self.ray.is_initialized()
        if self._is_ours:
            try:
                self._connect(address, workers)
            except BaseException:
                self.close()
                raise

    @property
    def cpus(self) -> int:
        """How many CPUs the cluster has."""
        return int(self.ray.cluster_resources().get("CPU", 0))

    def close(self) -> None:
        """Disconnect; a cluster of our own is gone afterwards."""
        if not self._is_ours:
            return
        with suppress(Exception):  # the cluster may have died under it
            self.ray.shutdown()
        if self._printer is not None:
            _worker_module().print_to_stdstream = self._printer
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _connect(self, address: str | None, workers: int | None) -> None:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
        with _own_signals():
            if address is None:
                # Not in TMPDIR: a path to a socket has 107 characters at most.
                self._folder = tempfile.mkdtemp(prefix="tacit-ray-", dir="/tmp")
                self.ray.init(
                    address="local",
                    num_cpus=workers,
                    include_dashboard=False,
                    _temp_dir=self._folder,
                    **quiet,
                )
            else:
                _knock(address, self.name)
                try:
                    self.ray.init(address=address, **quiet)
                except Exception as error:  # Ray raises all sorts of them
                    raise _unreachable(self.name, str(error)) from error
        self._silence()

    def _silence(self) -> None:
        """Keep Ray from writing to stdout that an actor died: whoever needs to know is told by an error."""
        self._printer = vars(_worker_module()).get("print_to_stdstream")
        if self._printer is not None:
            _worker_module().print_to_stdstream = _print_nothing


def imported_ray() -> Any:
    """Return the module ``ray``.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import ray
    except ImportError:
        fix = "pip install 'tacit[ray]'"
        raise ConfigError(
            "T137", "a cluster needs Ray, which is not installed", where="cluster", fix=fix
        ) from None
    return ray


def _address(cluster: str) -> str | None:
    """Return what Ray calls the address; None for a cluster of our own."""
    if cluster == LOCAL:
        return None
    place = cluster.removeprefix(_PREFIX)
    host, _, port = place.rpartition(":")
    if cluster.startswith(_PREFIX) and (place == _AUTO or (host and port.isdecimal() and int(port) < 2**16)):
        return place
    what = f"`{cluster}` is no cluster"
    fix = "Write `ray` for this machine, `ray://HOST:PORT`, or `ray://auto`."
    raise ConfigError("T136", what, where="cluster", fix=fix)


def _knock(address: str, name: str) -> None:
    """Raise if nothing at the address answers as Ray does, or this machine is no node of any cluster."""
    place = os.environ.get("RAY_ADDRESS", _AUTO) if address == _AUTO else address
    host, _, port = place.rpartition(":")
    if port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
        except OSError as error:
            raise _unreachable(name, error.strerror or str(error)) from None
    command = [sys.executable, "-P", "-c", _PROBE, address]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
    except subprocess.TimeoutExpired:
        raise _unreachable(name, "nothing answers there as the head of a Ray cluster does") from None
    if asked.returncode == _NO_NODE:
        raise _unreachable(name, "this machine is a node of no cluster")
    if asked.returncode:
        raise _unreachable(name, (asked.stderr.strip().splitlines() or ["no answer"])[-1])


def _unreachable(name: str, why: str) -> RunError:
    fix = (
        "Give the address that `ray start --head` printed, port 6379 by default, and run this on a node of "
        "the cluster: `ray start --address=HOST:PORT --num-cpus=0` makes this machine one."
    )
    return RunError("T311", f"the cluster cannot be reached: {why}", where=name, fix=fix)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers that we have set: Ray sets one of its own for SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            if handler is not None:  # None: it was not set from Python
                signal.signal(number, handler)


def _worker_module() -> Any:
    return importlib.import_module("ray._private.worker")


def _print_nothing(*_: Any, **__: Any) -> None:
    """Take Ray's ``print_to_stdstream``'s place."""
