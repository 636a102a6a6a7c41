"""One round as a device sees it, or a group of simulated ones: a machine without I/O."""

from itertools import repeat

import numpy as np
import numpy.typing as npt

from tacit.codec import Codec
from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.core.layout import Rows, rows_within
from tacit.core.stage import StageContext
from tacit.round.messages import (
    Assignment,
    AssignmentReceived,
    DeviceEffect,
    DeviceEvent,
    SendUpdates,
    Train,
    TrainingDone,
)
from tacit.training.executor import Failure, Trained


class RoundDevice:
    """Takes an assignment, has it trained, and hands over what the codec made of it.

    A phone is a group of one; a simulator drives groups. The machine refuses a round that is not newer
    than the last, and lets nothing out that is not finite or beyond its declared bounds.

    Args:
        codec: What turns local updates into what is sent.
        seed: The job's seed.
    """

    def __init__(self, codec: Codec, seed: int) -> None:
        self._codec, self._seed = codec, seed
        self._assignment: Assignment | None = None
        self._clients: tuple[str, ...] = ()
        self._last_round: dict[str, int] = {}

    def receive(self, event: DeviceEvent) -> tuple[DeviceEffect, ...]:
        """Take one event and return what is to be done.

        Raises:
            LocalProtocolError: Training ended that nobody had asked for.
            RemoteProtocolError: The server assigned a round that is not newer than the last.
        """
        match event:
            case AssignmentReceived():
                return self._accept(event)
            case TrainingDone() if self._assignment is not None:
                return self._hand_over(event.trained, self._assignment)
        raise LocalProtocolError("T512", f"{type(event).__name__} is not legal without an assignment")

    def _accept(self, event: AssignmentReceived) -> tuple[DeviceEffect, ...]:
        number = event.assignment.round
        if self._assignment is not None:
            raise RemoteProtocolError("T516", f"round {number} was assigned while another is under way")
        if max(map(self._last_round.get, event.clients, repeat(-1)), default=-1) >= number:
            raise RemoteProtocolError("T516", f"round {number} is not newer than the last one: a replay")
        self._last_round.update(dict.fromkeys(event.clients, number))
        self._assignment, self._clients = event.assignment, event.clients
        return (Train(event.clients),)

    def _hand_over(self, trained: Trained, assignment: Assignment) -> tuple[DeviceEffect, ...]:
        if not set(self._clients).issuperset((*trained.clients, *trained.failures)):
            raise LocalProtocolError("T512", "training ended for a client that was assigned nothing")
        sound = self._within_bounds(trained.rows)
        failures = dict(trained.failures)
        for index in np.flatnonzero(~sound):
            failures[trained.clients[index]] = Failure("update is not finite or beyond its bound")
        if not sound.all():
            keep = np.flatnonzero(sound).tolist()
            clients = tuple(trained.clients[i] for i in keep)
            trained = Trained(clients, trained.rows[keep], tuple(trained.examples[i] for i in keep))
        ctx = StageContext(
            self._codec.spec,
            self._seed,
            assignment.round,
            trained.clients,
            np.array(trained.examples, dtype=np.int64),
            is_bounded=True,
            room=trained.room,
        )
        self._assignment = None
        rows, _ = self._codec.encode(trained.rows, {}, ctx)
        return (SendUpdates(trained.clients, rows, failures),)

    def _within_bounds(self, rows: Rows) -> npt.NDArray[np.bool_]:
        sound = np.ones(len(rows), dtype=np.bool_)
        for segment in self._codec.spec.segments:
            sound &= rows_within(rows[:, self._codec.spec.slice(segment.name)], segment.coordinate_bound)
        return sound
