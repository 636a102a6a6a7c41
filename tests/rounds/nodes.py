"""A Ray cluster of two nodes on this machine, and jobs whose clients do things to it."""

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

from tacit.core.examples import Examples
from tests.rounds import worlds


class Nodes:
    """Two nodes of one CPU each."""

    def __init__(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        handler = signal.getsignal(signal.SIGTERM)
        self._folder = tempfile.mkdtemp(prefix="tacit-test-", dir="/tmp")  # sockets need a short path
        settings = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "temp_dir": self._folder}
        self._cluster = Cluster(initialize_head=True, head_node_args={**settings, "include_dashboard": False})
        self._second = self._cluster.add_node(**settings)
        signal.signal(signal.SIGTERM, handler)  # a node sets one of its own
        self.url = f"ray://{self._cluster.address}"

    def remove_second(self) -> None:
        """Kill the second node with all that runs on it."""
        self._cluster.remove_node(self._second, allow_graceful=False)

    def actors(self) -> list[int]:
        """Return the processes of tacit's workers."""
        return [pid for pid in self._children() if _command(pid).startswith("ray::RayWorker")]

    def until_idle(self) -> None:
        """Wait until no worker is left."""
        deadline = time.monotonic() + 20
        while self.actors():
            assert time.monotonic() < deadline, "workers are left"
            time.sleep(0.05)

    def close(self) -> None:
        """Stop it all, and see that nothing is left."""
        everything = [*self._raylets(), *self._children()]
        self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)
        deadline = time.monotonic() + 20
        while any(_command(pid) for pid in everything):
            assert time.monotonic() < deadline, "Ray's processes are left"
            time.sleep(0.05)

    def _raylets(self) -> list[int]:
        found = [
            info.process.pid
            for node in self._cluster.list_all_nodes()
            for info in node.all_processes["raylet"]
        ]
        return [int(pid) for pid in found]

    def _children(self) -> list[int]:
        raylets = self._raylets()
        return [pid for pid in _processes() if _parent(pid) in raylets]


class Once:
    """A client's data; loading it, the first time in all processes, does something first.

    Args:
        client: Which client.
        size: How many examples it has.
        mark: The file that says that it was done, with the process that did it.
        what: ``"sleep"``: long enough to be killed; ``"interrupt"``: send SIGINT to ``driver``.
        driver: The process that drives the run.
    """

    def __init__(self, client: int, size: int, mark: Path, what: str, driver: int) -> None:
        self.client, self.size, self.mark, self.what, self.driver = client, size, mark, what, driver

    def __call__(self) -> Examples:
        if not self.mark.exists():
            part = self.mark.with_suffix(".part")
            part.write_text(str(os.getpid()))
            part.rename(self.mark)
            if self.what == "sleep":
                time.sleep(60)
            else:
                os.kill(self.driver, signal.SIGINT)
        return worlds.examples(self.client, self.size)


class Slow:
    """A client's data, which takes a moment to load."""

    def __init__(self, client: int, size: int) -> None:
        self.client, self.size = client, size

    def __call__(self) -> Examples:
        time.sleep(0.03)
        return worlds.examples(self.client, self.size)


class Deadly:
    """A client that no process survives but the one that made it."""

    def __init__(self) -> None:
        self.maker = os.getpid()

    def __call__(self) -> Examples:
        if os.getpid() != self.maker:
            os.kill(os.getpid(), signal.SIGKILL)
        return worlds.examples(0, 3)


class Greedy:
    """A client for whom there is not enough memory."""

    def __call__(self) -> Examples:
        raise MemoryError


def kill_whoever_writes(mark: Path) -> None:
    """Wait for a mark, then kill -9 the process that wrote it."""
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert time.monotonic() < deadline, "nobody came to that client"
        time.sleep(0.01)
    os.kill(int(mark.read_text()), signal.SIGKILL)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int | None:
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else int(parent)


def _command(pid: int) -> str:
    """Return a process's command line; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
