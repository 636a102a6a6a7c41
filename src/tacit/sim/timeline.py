"""One round in virtual time: who answers when, and whom it pays to train."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tacit.core.layout import Vector
from tacit.data import Population
from tacit.job import Plan
from tacit.round import Run
from tacit.round.messages import (
    Assignment,
    ClientFailed,
    ClientsDropped,
    DeadlinePassed,
    Opened,
    RoundClosed,
    SendAssignment,
    ServerEffect,
    ServerEvent,
    UpdatesReceived,
)
from tacit.round.server import RoundServer
from tacit.round.world import VirtualWorld
from tacit.sim.engine import Call
from tacit.sim.groups import groups_of
from tacit.sim.pool import Trainers
from tacit.sim.process import Check
from tacit.training.executor import Failure

if TYPE_CHECKING:
    from tacit.secagg.events import Step
    from tacit.sim.secure_sums import Enrolled, GroupSums, GroupTrained


class _Queue(NamedTuple):
    """Clients that will answer, in order of arrival: who, what each does, and when it will have done so."""

    clients: list[str]
    calls: list[Call]
    at_s: list[float]

    def cut(self, count: int) -> "tuple[_Queue, _Queue]":
        """Return the first ``count`` of them, and the others."""
        return self._at(slice(count)), self._at(slice(count, None))

    def sorted(self) -> "_Queue":
        """Return them in order of arrival; ties stay in the cohort's order."""
        order = sorted(range(len(self.at_s)), key=self.at_s.__getitem__)
        clients, calls, at_s = self
        return _Queue([clients[i] for i in order], [calls[i] for i in order], [at_s[i] for i in order])

    def of(self, is_one: Callable[[str], bool]) -> "_Queue":
        """Return those of some clients."""
        kept = [index for index, client in enumerate(self.clients) if is_one(client)]
        clients, calls, at_s = self
        return _Queue([clients[i] for i in kept], [calls[i] for i in kept], [at_s[i] for i in kept])

    def by(self, number_of: Mapping[str, int]) -> "dict[int, _Queue]":
        """Return those of each number, in order."""
        found: dict[int, _Queue] = {}
        for client, call, at_s in zip(*self, strict=True):
            queue = found.setdefault(number_of[client], _Queue([], [], []))
            queue.clients.append(client)
            queue.calls.append(call)
            queue.at_s.append(at_s)
        return found

    def _at(self, part: slice) -> "_Queue":
        return _Queue(self.clients[part], self.calls[part], self.at_s[part])


class Timeline:
    """Drives one round's machine with what the virtual world lets happen.

    Only clients whose updates can still count are trained: as many as the machine still wants, in the
    order of their arrival; where some fail, the next ones after them. Who is trained follows from the
    job and the data, never from real time or from the number of workers.

    Args:
        plan: The job and what follows from it.
        population: All clients.
        world: What happens to them.
        trainers: Who trains.
        run: The run, which keeps clients' local buffers.
        check: Called between groups; raises to interrupt.
        real_masks: Whether secure sums are taken with every message and mask.
    """

    def __init__(
        self,
        plan: Plan,
        population: Population,
        world: VirtualWorld,
        trainers: Trainers,
        run: Run,
        check: Check,
        *,
        real_masks: bool = False,
    ) -> None:
        self._plan, self._population, self._world = plan, population, world
        self._trainers, self._run, self._check = trainers, run, check
        self._enrolled = _enrolled() if real_masks else None
        self.failures: dict[str, Failure] = {}

    def play(self, server: RoundServer, vector: Vector) -> RoundClosed:
        """Drive the round to its end."""
        self._server, self.failures = server, {}
        self._closed: RoundClosed | None = None
        self._now_s = now = self._run.state.now_s
        sums = self._sums(server, vector)
        for effect in server.receive(Opened(self._population.ids), now):
            match effect:
                case SendAssignment() if sums is not None:
                    self._collect_groups(effect, vector, sums)
                case SendAssignment():
                    self._collect(effect, vector, now)
                case RoundClosed():
                    return effect
        assert self._closed is not None
        return self._closed

    def _collect(self, sent: SendAssignment, vector: Vector, opened: float) -> None:
        queue, dropped = self._arrivals(sent, opened)
        if dropped:
            self._tell(ClientsDropped(dropped), opened)
        while queue.calls and self._closed is None:
            wave, queue = queue.cut(self._server.missing)
            self._train(sent.assignment, wave, vector)
        if self._closed is None and sent.assignment.deadline_s is not None:
            self._tell(DeadlinePassed(), sent.assignment.deadline_s)

    def _sums(self, server: RoundServer, vector: Vector) -> "GroupSums | None":
        """Return what takes the sums of the round's groups, where single updates may not be seen."""
        if self._plan.secure is None:
            return None
        from tacit.sim.secure_sums import IdealSums, MaskedSums  # late: it brings the cryptography along

        if self._enrolled is None:
            return IdealSums(self._plan, self._receive)
        return MaskedSums(self._plan, self._enrolled, server, vector, self._receive)

    def _collect_groups(self, sent: SendAssignment, vector: Vector, sums: "GroupSums") -> None:
        """Let clients train group by group, as many as are wanted, and have each group's sum taken."""
        from tacit.secagg.events import STEPS
        from tacit.sim.secure_sums import AFTERWARDS, GroupTrained

        leaves = self._leaves(sent)
        queue, vanished = self._arrivals(
            sent, self._now_s, stay=[c for c in leaves if leaves[c] in AFTERWARDS]
        )
        sums.open(sent, leaves)
        queue, has_begun = queue.of(sums.is_ready), any(map(sums.is_ready, sent.clients))
        groups = tuple(sums.members())
        trained, failed = [GroupTrained() for _ in groups], dict[str, str]()
        number_of = {client: number for number, members in enumerate(groups) for client in members}
        while queue.calls and (wanted := self._server.missing - sum(len(one.clients) for one in trained)) > 0:
            wave, queue = queue.cut(wanted)
            self._now_s = max(self._now_s, wave.at_s[-1])
            for number, part in sorted(wave.by(number_of).items()):
                calls = [
                    call._replace(masks=sums.masks(client)) for client, call in zip(*part[:2], strict=True)
                ]
                assert self._enrolled is None or all(call.masks for call in calls), "nothing goes bare"
                self._train_part(sent.assignment, part.clients, calls, vector, trained[number], failed)
        if sent.assignment.deadline_s is not None and has_begun and (queue.calls or vanished):
            self._now_s = max(self._now_s, sent.assignment.deadline_s)
        came = {client for group in trained for client in group.clients}.union(failed)
        stayed = (client for client in sent.clients if leaves.get(client, STEPS[-1]) in AFTERWARDS)
        sums.close(trained, failed, {c for c in stayed if sums.is_ready(c) and c not in came})
        if self._closed is None:  # who was not wanted any more is late
            self._receive(DeadlinePassed())

    def _leaves(self, sent: SendAssignment) -> "dict[str, Step]":
        """Return who vanishes in the round, and before which of its messages."""
        from tacit.secagg.events import STEPS

        if self._world.is_instant:
            return {}
        number, positions = sent.assignment.round, np.array(sent.positions, dtype=np.int64)
        gone = self._world.arrivals(number, positions).dropped
        secure = self._plan.secure
        assert secure is not None
        steps = [step for step in STEPS if step != "signature" or secure.threat.mode == "malicious"]
        words = self._world.last_words(number, positions[gone], len(steps))
        clients = (sent.clients[place] for place in np.flatnonzero(gone).tolist())
        return {client: steps[count] for client, count in zip(clients, words, strict=True)}

    def _train_part(
        self,
        assignment: Assignment,
        clients: Sequence[str],
        calls: Sequence[Call],
        vector: Vector,
        group: "GroupTrained",
        failed: dict[str, str],
    ) -> None:
        """Train some clients of one group of the secure sum; note what they give, and who failed."""
        cut = groups_of(calls, self._plan, self._trainers.choice.group)
        done, partial = self._trainers.train(assignment, vector, cut, self._check)
        self._run.keep_buffers(done.buffers)
        self.failures |= done.failures
        failed |= {client: failure.reason for client, failure in done.failures.items()}
        came = set(done.clients)
        group.clients += done.clients
        group.partial_work += [
            c for c, call in zip(clients, calls, strict=True) if c in came and call.max_steps is not None
        ]
        group.partial = partial if group.partial is None else self._plan.rule.merge(group.partial, partial)

    def _receive(self, event: ServerEvent) -> tuple[ServerEffect, ...]:
        """Tell the round's machine of an event at the time it is."""
        return self._tell(event, self._now_s)

    def _arrivals(
        self, sent: SendAssignment, opened: float, stay: Collection[str] = ()
    ) -> tuple[_Queue, tuple[str, ...]]:
        """Return who answers in time, in order of arrival, and who vanishes; the others come too late.

        Those in ``stay`` answer although they vanish: they do so afterwards.
        """
        deadline, keep = sent.assignment.deadline_s, self._run.buffers_of
        if deadline is None and self._world.is_instant:
            calls = [Call(*its) for its in zip(sent.positions, repeat(None), map(keep, sent.clients))]
            return _Queue(list(sent.clients), calls, [opened] * len(calls)), ()
        drawn = self._world.arrivals(sent.assignment.round, np.array(sent.positions, dtype=np.int64))
        queue, dropped = _Queue([], [], []), []
        for position, client, seconds, gone in zip(
            sent.positions, sent.clients, drawn.seconds.tolist(), drawn.dropped.tolist(), strict=True
        ):
            at, steps = opened + seconds, None
            if gone and client not in stay:
                dropped.append(client)
                continue
            if deadline is not None and at > deadline:
                at = deadline
                steps = self._steps_until(sent.assignment, position, (deadline - opened) / seconds)
            if steps != 0:
                queue.clients.append(client)
                queue.calls.append(Call(position, steps, keep(client)))
                queue.at_s.append(at)
        return queue.sorted(), tuple(dropped)

    def _steps_until(self, assignment: Assignment, position: int, share: float) -> int:
        """Return how many steps a straggler will have done at the deadline, 0 if that is of no use."""
        size = int(self._plan.sizes[position])
        if not assignment.partial_work or not size:
            return 0
        return int(self._plan.job.algorithm.local.total_steps(size) * share)

    def _train(self, assignment: Assignment, wave: _Queue, vector: Vector) -> None:
        now = wave.at_s[-1]
        groups = groups_of(wave.calls, self._plan, self._trainers.choice.group)
        done, partial = self._trainers.train(assignment, vector, groups, self._check)
        self._run.keep_buffers(done.buffers)
        self.failures |= done.failures
        if done.clients:
            trained = set(done.clients)
            stopped = (client for client, call in zip(*wave[:2], strict=True) if call.max_steps is not None)
            part = tuple(client for client in stopped if client in trained)
            self._tell(UpdatesReceived(tuple(done.clients), partial, part), now)
        for client, failure in done.failures.items():
            if self._closed is None:
                self._tell(ClientFailed(client, failure.reason), now)

    def _tell(self, event: ServerEvent, now: float) -> tuple[ServerEffect, ...]:
        """Tell the round's machine of an event; note if that closes the round."""
        effects = self._server.receive(event, now)
        for effect in effects:
            if isinstance(effect, RoundClosed):
                self._closed = effect
        return effects


def _enrolled() -> "Enrolled":
    from tacit.sim.secure_sums import Enrolled  # late: as above

    return Enrolled()
