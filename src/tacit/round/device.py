"""One round as a device sees it, or a group of simulated ones: a machine without I/O."""

from dataclasses import replace
from itertools import repeat

import numpy as np
import numpy.typing as npt

from tacit.codec import Codec
from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.core.layout import Rows, rows_within
from tacit.core.stage import StageContext
from tacit.privacy import LocalNoise
from tacit.privacy.ledger import Mark
from tacit.privacy.mechanisms import Separation
from tacit.round.messages import (
    Assignment,
    AssignmentReceived,
    DeviceEffect,
    DeviceEvent,
    SendUpdates,
    Train,
    TrainingDone,
)
from tacit.round.owner import Owner
from tacit.training.executor import Failure, Trained


class RoundDevice:
    """Takes an assignment, has it trained, and hands over what the codec made of it.

    A phone is a group of one; a simulator drives groups. The machine refuses a round that is not newer
    than the last, and a step too near to the last one for which something has left it. It lets nothing out
    that is not finite or beyond its declared bounds: such an update has failed. Where the client adds its
    own noise, so that nobody need be trusted, that would tell of its data: there it sends noise around zero.

    Args:
        codec: What turns local updates into what is sent.
        seed: The job's seed.
        owner: Guards the device by its owner's floor; None where nobody has set one, as in a simulation.
    """

    def __init__(self, codec: Codec, seed: int, owner: Owner | None = None) -> None:
        self._codec, self._seed, self._owner = codec, seed, owner
        self._assignment: Assignment | None = None
        self._clients: tuple[str, ...] = ()
        self._last_round: dict[str, int] = {}
        self._last_step: dict[str, int] = {}
        self._least_separation = 1
        self._ledger: Mark | None = None
        self._adds_noise = any(isinstance(stage, LocalNoise) for stage in codec.chain.stages)

    def receive(self, event: DeviceEvent) -> tuple[DeviceEffect, ...]:
        """Take one event and return what is to be done.

        Raises:
            LocalProtocolError: Training ended that nobody had asked for.
            RemoteProtocolError: The server assigned a round that is not newer than the last, or a step that
                comes too soon.
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
        self._check_separation(event.assignment, event.clients)
        self._check_ledger(event.assignment.ledger)
        if self._owner is not None:
            self._owner.check(event.assignment.offer, event.day)
            self._owner.note(event.assignment.offer, event.day)
        self._last_round.update(dict.fromkeys(event.clients, number))
        self._assignment, self._clients = event.assignment, event.clients
        return (Train(event.clients),)

    def _check_separation(self, assignment: Assignment, clients: tuple[str, ...]) -> None:
        # A server that has promised a distance once cannot take it back.
        least = max(self._least_separation, assignment.min_separation)
        allows, step = Separation(min_separation=least).allows, assignment.step
        if least > 1 and step is None:
            what = f"steps are to be {least} apart, and the assignment does not say which one it is for"
            raise RemoteProtocolError("T529", what, fix="Send the step along.")
        if least > 1 and not all(allows(step or 0, self._last_step.get(client)) for client in clients):
            what = f"step {step} comes too soon after the last one that this device took part in"
            raise RemoteProtocolError("T529", what, fix=f"Ask again after at least {least} steps.")
        self._least_separation = least

    def _check_ledger(self, mark: Mark | None) -> None:
        """Refuse a ledger that knows less than it did, or something else: spends may have been forgotten."""
        last = self._ledger
        if last is None:
            self._ledger = mark
            return
        if mark is None or mark.sequence < last.sequence:
            what = "the server's privacy ledger is shorter than it was: a backup, or a tail that was cut"
            raise RemoteProtocolError("T530", what, fix="Restore it, or begin another run.")
        if mark.sequence == last.sequence and mark.sha256 != last.sha256:
            what = "the server shows another privacy ledger than before"
            raise RemoteProtocolError("T530", what, fix="Restore it, or begin another run.")
        self._ledger = mark

    def _hand_over(self, trained: Trained, assignment: Assignment) -> tuple[DeviceEffect, ...]:
        if not set(self._clients).issuperset((*trained.clients, *trained.failures)):
            raise LocalProtocolError("T512", "training ended for a client that was assigned nothing")
        sound = self._within_bounds(trained.rows)
        if self._adds_noise:
            trained.rows[~sound] = 0.0
        elif not sound.all():
            trained = _without(trained, ~sound)
        ctx = StageContext(
            self._codec.spec,
            self._seed,
            assignment.round,
            trained.clients,
            np.array(trained.examples, dtype=np.int64),
            is_bounded=True,
            room=trained.room,
            clipping_bound=assignment.clipping_bound,
        )
        self._assignment = None
        rows, _ = self._codec.encode(trained.rows, {}, ctx)
        if assignment.step is not None:  # from here on it counts, whatever becomes of the round
            self._last_step.update(dict.fromkeys(trained.clients, assignment.step))
        return (SendUpdates(trained.clients, rows, trained.failures),)

    def _within_bounds(self, rows: Rows) -> npt.NDArray[np.bool_]:
        sound = np.ones(len(rows), dtype=np.bool_)
        for segment in self._codec.spec.segments:
            sound &= rows_within(rows[:, self._codec.spec.slice(segment.name)], segment.coordinate_bound)
        return sound


def _without(trained: Trained, unsound: npt.NDArray[np.bool_]) -> Trained:
    """Return what was trained with the updates of some clients taken as failures."""
    failures = dict(trained.failures)
    for index in np.flatnonzero(unsound):
        failures[trained.clients[index]] = Failure("update is not finite or beyond its bound")
    keep = np.flatnonzero(~unsound).tolist()
    clients = tuple(trained.clients[i] for i in keep)
    examples = tuple(trained.examples[i] for i in keep)
    return replace(
        trained, clients=clients, rows=trained.rows[keep], examples=examples, failures=failures, room=0
    )
