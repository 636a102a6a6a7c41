"""A worker process of a simulation: ``python -m tacit.sim.worker HANDLE``.

It lives as long as its parent: it reads requests from an inherited socket, and ends with it.
"""

import ctypes
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tacit.core.errors import TacitError
from tacit.sim.complaint import Complaint
from tacit.sim.shared import SharedBlock, unpack


def main(handle: int) -> None:
    """Serve requests until the parent closes the socket."""
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    channel = socket.socket(fileno=handle)
    connection = Connection(os.dup(handle))
    _import_torch()  # while the parent still reads its data
    with suppress(EOFError, ConnectionError):  # the parent has ended, or wants no answer any more
        _serve(channel, connection)


def _serve(channel: socket.socket, connection: Connection) -> None:
    settings = connection.recv()
    try:
        serve = _set_up(channel, **settings)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        connection.send(_complaint(error))
        return
    connection.send(None)
    while True:
        request = connection.recv()
        try:
            answer = serve(*request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
            answer = _complaint(error)
        connection.send(answer)


def _complaint(error: Exception) -> Complaint:
    return Complaint(error if isinstance(error, TacitError) else None, traceback.format_exc())


def _set_up(
    channel: socket.socket,
    modules: list[str],
    path: list[str],
    pickled: bytes,
    spans: list[tuple[int, int]],
    sizes: list[int],
) -> Callable[..., Any]:
    """Build this process's engine; return the function that serves one request."""
    from tacit.job.modules import load_module
    from tacit.sim.engine import Done, Engine

    _, handles, _, _ = socket.recv_fds(channel, 1, len(sizes))
    parcel, vector, total = (SharedBlock(size, handle) for size, handle in zip(sizes, handles, strict=True))
    sys.path[:] = path
    for file in modules:
        load_module(Path(file))  # the job file's functions are looked up in it
    plan, population, choice, programs = unpack(pickled, spans, parcel)
    engine = Engine(plan, population, None, choice, programs)
    shared_vector = vector.array(np.float32, plan.layout.size)
    shared_total = total.array(np.int64, plan.grid.size)

    def serve(kind: str, *arguments: Any) -> Any:
        if kind == "train":
            assignment, groups = arguments
            shared_total.fill(0)
            done = Done()
            for group in groups:
                done.add(engine.train(assignment, shared_vector, group, shared_total))
            return done
        return engine.measure_clients(shared_vector, *arguments)

    return serve


def _import_torch() -> None:
    from tacit.training.threads import use_one_thread

    use_one_thread()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died in between
            os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
