"""The workers of a cluster as the driver sees them: who is ready, who was lost, and who takes their place."""

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tacit.core.errors import RunError
from tacit.sim.batches import Batch
from tacit.sim.complaint import Complaint
from tacit.sim.machine import machine, versions
from tacit.sim.process import Check
from tacit.sim.ray_worker import About, RayWorker

_POLL_S = 0.1
_PATIENCE_S = 120.0  # without one worker: a first import of torch from a network disk takes its time
_LATECOMERS_S = 10.0  # that the first workers wait for the others; who comes later joins in
_LOSSES = 3  # workers that one batch may take along: it need not be its fault


@dataclass(eq=False)
class Member:
    """One worker. One that is lost never comes back: what it had summed is forgotten with it.

    Attributes:
        actor: Ray's handle.
        pending: What it was asked and has not answered yet: a batch, or None where it was something else.
        lot: The batches it did, or has in hand, since it last handed over.
        number: Tells this lot from any other.
        is_ready: Whether it is set up.
        is_handing_over: Whether it was asked to.
        is_lost: Whether it died, or cannot be reached.
    """

    actor: Any
    pending: dict[Any, Batch | None] = field(default_factory=dict)
    lot: list[Batch] = field(default_factory=list)
    number: int = 0
    is_ready: bool = False
    is_handing_over: bool = False
    is_lost: bool = False


class Crew:
    """Hires workers, hears their answers, and replaces those that are lost.

    Args:
        ray: The module, connected to a cluster.
        count: How many.
        where: The cluster's name, for messages.
    """

    def __init__(self, ray: Any, count: int, where: str) -> None:
        # Ray puts the driver's working directory first on a worker's path, wherever the driver's own path is.
        self._unwanted = sorted({str(Path.cwd())} - {str(Path(folder).absolute()) for folder in sys.path})
        options = {"num_cpus": 1, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        self._kind = ray.remote(RayWorker).options(**options)
        self._ray, self._where, self._stillborn = ray, where, 0
        self._versions, self._machine, self._has_warned = versions(), machine(), False
        self.members = [self._hire() for _ in range(count)]

    @property
    def ready(self) -> list[Member]:
        """Those that can be asked."""
        return [member for member in self.members if member.is_ready]

    def set_up(self, shipment: Any) -> None:
        """Give every worker what it needs; return when all are ready, or some have waited for the others.

        Args:
            shipment: Reference to a ``Shipment`` in the object store.

        Raises:
            RunError: None gets ready, or one is of another kind than this machine.
        """
        self._shipment = shipment
        for member in self.members:
            self._set_up(member)
        while not self.ready:
            self._hear(_nothing, None)
        latest = time.monotonic() + _LATECOMERS_S
        while len(self.ready) < len(self.members) and time.monotonic() < latest:
            self._hear(_nothing, latest)
        if len(self.ready) < len(self.members):
            text = f"{len(self.ready)} of {len(self.members)} workers have started; the others join in later"
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def answers(self, check: Check, until: float | None = None) -> Iterator[tuple[Member, Any]]:
        """Wait for answers; yield each with its member. What a lost one had in hand will never be answered.

        Args:
            check: Called while waiting; raises to interrupt.
            until: When to give up waiting, as ``time.monotonic`` has it.

        Raises:
            RunError: A worker failed, no worker is left, or the same work has ended several.
        """
        for ref, member in self._answered(check, until):
            if member.is_lost:
                continue
            batch = member.pending.pop(ref)
            try:
                answer = self._ray.get(ref)
            except self._ray.exceptions.RayTaskError as error:
                raise _failed(str(error)) from None
            except self._ray.exceptions.RayError as error:
                self._replace(member, batch, _last_line(error))
                yield member, None
                continue
            if isinstance(answer, Complaint):
                raise answer.error or _failed(answer.text)
            if isinstance(answer, About):
                self._welcome(member, answer)
            else:
                yield member, answer

    def dismiss(self) -> None:
        """End all workers at once."""
        for member in self.members:
            with suppress(Exception):  # the cluster may be gone
                self._ray.kill(member.actor)
        self.members = []

    def _hear(self, check: Check, until: float | None) -> None:
        """Wait for answers that need nothing to be done."""
        for _ in self.answers(check, until):
            pass

    def _answered(self, check: Check, until: float | None) -> list[tuple[Any, Member]]:
        asked = {ref: member for member in self.members for ref in member.pending}
        latest = time.monotonic() + _PATIENCE_S
        while True:
            check()
            found, _ = self._ray.wait([*asked], timeout=_POLL_S)
            if found:
                found, _ = self._ray.wait([*asked], num_returns=len(asked), timeout=0)
                return [(ref, asked[ref]) for ref in found]
            if until is not None and time.monotonic() > until:
                return []
            if not self.ready and time.monotonic() > latest:
                raise self._nobody(f"none has started within {_PATIENCE_S:.0f} s; are all CPUs taken?")

    def _hire(self) -> Member:
        return Member(self._kind.remote(self._unwanted))

    def _set_up(self, member: Member) -> None:
        member.pending[member.actor.set_up.remote(self._shipment)] = None

    def _welcome(self, member: Member, about: About) -> None:
        here, there = self._versions, about.versions
        others = [
            f"{name} {there.get(name)} instead of {here[name]}"
            for name in here
            if there.get(name) != here[name]
        ]
        if others:
            what = f"the cluster's machine {about.host} has {', '.join(others)}"
            raise RunError("T313", what, where=self._where, fix="Install the same versions on every machine.")
        if about.machine != self._machine and not self._has_warned:
            self._has_warned = True
            text = (
                f"{about.host} is of another kind than this machine ({about.machine}, not {self._machine}): "
                "the model's last bits depend on who trains whom"
            )
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        member.is_ready, self._stillborn = True, 0

    def _replace(self, lost: Member, batch: Batch | None, why: str) -> None:
        lost.is_lost = True
        with suppress(Exception):  # it may only be out of reach: it must not keep a CPU
            self._ray.kill(lost.actor)
        in_hand = [b for b in (batch, *lost.pending.values()) if b is not None] or lost.lot
        for each in in_hand:
            each.losses += 1
        if any(each.losses > _LOSSES for each in in_hand):
            raise self._nobody(f"the same clients have ended {_LOSSES + 1} workers, the last one so: {why}")
        self._stillborn += not lost.is_ready
        if self._stillborn > _LOSSES * len(self.members):
            raise self._nobody(f"they end while they start: {why}")
        place = self.members.index(lost)
        self.members[place] = self._hire()
        self._set_up(self.members[place])

    def _nobody(self, why: str) -> RunError:
        fix = (
            "Look at the machines (`ray status`); if memory ran out, use fewer workers. Then resume the run."
        )
        return RunError("T312", f"the cluster's workers cannot go on: {why}", where=self._where, fix=fix)


def _failed(text: str) -> RunError:
    return RunError("T302", "a worker process failed", where=text, fix="See the traceback.")


def _last_line(error: Exception) -> str:
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1]


def _nothing() -> None:
    """Check nothing."""
