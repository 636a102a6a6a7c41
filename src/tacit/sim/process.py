"""One worker process as its parent sees it."""

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from tacit.core.errors import RunError
from tacit.job.modules import loaded_files
from tacit.sim.complaint import Complaint
from tacit.sim.memory import with_large_pages
from tacit.sim.shared import Parcel, SharedBlock

Check = Callable[[], None]
"""Called while waiting; raises to interrupt."""

_POLL_S = 0.1
_PATIENCE_S = 5.0  # a job file may have taught the worker not to heed SIGTERM
# Every library computes in one thread: processes use the other cores.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class WorkerProcess:
    """A worker: started at once, set up later, then asked.

    Args:
        torch: Whether it will need torch, and so may import it while it waits.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, *, torch: bool) -> None:
        self._socket, theirs = socket.socketpair()
        self._connection = Connection(os.dup(self._socket.fileno()))
        # -P: the working directory is not on the path of this process, so not on the worker's either.
        command = [sys.executable, "-P", "-m", "tacit.sim.worker", str(theirs.fileno())]
        command += ["torch"] if torch else []
        path = os.pathsep.join(filter(None, map(str, sys.path)))
        # Ctrl-C reaches the whole group: blocked until the worker can ignore it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=with_large_pages({**os.environ, **_ONE_THREAD, "PYTHONPATH": path}),
            )
        except OSError:
            self._connection.close()
            self._socket.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()

    def set_up(
        self,
        number: int,
        kept_bytes: int,
        parcel: Parcel,
        blocks: Sequence[SharedBlock],
        cpu: int | None = None,
    ) -> None:
        """Send what the worker needs; ``answer`` tells when it is ready.

        Args:
            number: Which of the workers it is, from 0 on.
            kept_bytes: How much of clients' data it may keep.
            parcel: The plan and all else.
            blocks: Shared memory: global vector, this worker's sum, claims.
            cpu: On which processor it is to stay; None: wherever the system puts it.
        """
        shared = [parcel.block, *blocks]
        self._send(
            {
                "number": number,
                "cpu": cpu,
                "kept_bytes": kept_bytes,
                "modules": [str(path) for path in loaded_files()],
                "path": sys.path,
                "pickled": parcel.pickled,
                "spans": parcel.spans,
                "sizes": [block.size for block in shared],
            }
        )
        with suppress(OSError):  # as in ask
            socket.send_fds(self._socket, [b"h"], [block.handle for block in shared])

    def ask(self, request: bytes) -> None:
        """Send a pickled request."""
        with suppress(OSError):  # that the worker is gone is found out when its answer is awaited
            self._connection.send_bytes(request)

    def _send(self, value: Any) -> None:
        self.ask(pickle.dumps(value, protocol=5))

    def answer(self, check: Check) -> Any:
        """Wait for the answer to the last request.

        Raises:
            RunError: The worker failed or died.
        """
        while not self._connection.poll(_POLL_S):
            check()
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._died(check) from None
        if isinstance(answer, Complaint):
            raise answer.error or RunError(
                "T302", "a worker process failed", where=answer.text, fix="See the traceback."
            )
        return answer

    def _died(self, check: Check) -> RunError:
        code = self._gone()
        check()  # whoever stopped the whole group asked this process, too
        return RunError(
            "T301",
            f"a worker process ended unexpectedly (exit status {code})",
            where=f"process {self._process.pid}",
            fix="If memory ran out, use fewer workers. Nothing is lost: resume the run.",
        )

    def end(self) -> None:
        """Let the process end."""
        self._process.terminate()

    def close(self) -> None:
        """Wait until the process is gone."""
        self._gone()
        self._connection.close()
        self._socket.close()

    def _gone(self) -> int:
        try:
            return self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
