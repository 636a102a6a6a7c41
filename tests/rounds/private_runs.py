"""Both sides of a private run in memory: clients that send what a test wants, and all that is released."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

import tacit
from tacit.codec import Codec
from tacit.core.layout import Layout, Rows, Vector
from tacit.core.stage import StageContext, Total
from tacit.job import Plan, make_plan
from tacit.round import EvaluationRecord, PrivacyRecord, RoundDevice, RoundRecord, Run, Snapshot
from tacit.round.messages import (
    AssignmentReceived,
    ClientFailed,
    ClientsDropped,
    DeadlinePassed,
    Opened,
    RoundClosed,
    SendAssignment,
    SendUpdates,
    TrainingDone,
    UpdatesReceived,
)
from tacit.round.release import PrivacyState
from tacit.round.run import Evaluate, Evaluated, Finish, NoteRound, StartRound
from tacit.round.server import RoundServer
from tacit.training import Trained
from tests.rounds import worlds

RowOf = Callable[[str, int], Vector]
"""What a client's training gives in a round: its update and its loss, shape (parameters + 1,)."""
SMALL = Layout.of(parameters={"first": (6, 4), "second": (9,), "third": (2, 2)})
FIXED = tacit.FixedClipping(bound=1.5)


def private(**settings: Any) -> tacit.Privacy:
    """Settings of privacy; unless the test says otherwise, with the same noise whenever it is run."""
    known: dict[str, Any] = {"unit": "user", "delta": 1e-3, "clipping": FIXED, "randomness": "seeded"}
    if "epsilon" not in settings:
        known["noise_multiplier"] = 2.0
    return tacit.Privacy(**(known | settings))


def plan_of(
    privacy: tacit.Privacy, clients: int = 20, layout: Layout = SMALL, sizes: Any = None, **settings: Any
) -> Plan:
    """Plan a private job; everybody takes part in each of its 3 rounds, unless the test says otherwise."""
    known: dict[str, Any] = {"cohort": tacit.All(), "rounds": 3, "privacy": privacy}
    sizes = np.full(clients, 10) if sizes is None else np.array(sizes)
    return make_plan(worlds.job(**(known | settings)), layout, sizes)


def nothing(size: int) -> RowOf:
    """Clients that send zeros."""
    return lambda client, number: np.zeros(size + 1, dtype=np.float32)


@dataclass(frozen=True)
class _Watched(Codec):
    """Writes down every sum as it reaches the server's side of the codec: with its noise."""

    seen: list[Total] = field(default_factory=list, compare=False)

    def decode(self, total: Total, ctx: StageContext) -> Total:
        self.seen.append(total.copy())
        return super().decode(total, ctx)


@dataclass
class _Still:
    """A server optimizer that only looks on."""

    seen: list[Vector] = field(default_factory=list)

    def step(self, vector: Vector, update: Vector, state: Mapping[str, Vector]) -> tuple[Vector, Any]:
        self.seen.append(update.copy())
        return vector, state


@dataclass
class Played:
    """What became of a run.

    Attributes:
        rounds: The record of every round.
        spends: What every round spent.
        totals: Of every round the sum before its noise, on the grid; None where it was abandoned.
        released: Every released sum as the server's side of the codec gets it, float64.
        means: Every mean update as the optimizer gets it.
        sent: What the clients sent, round after round.
        end: Why it ended.
        state: What was remembered at the end.
    """

    rounds: list[RoundRecord] = field(default_factory=list)
    spends: list[PrivacyRecord] = field(default_factory=list)
    totals: list[npt.NDArray[np.int64] | None] = field(default_factory=list)
    released: list[Total] = field(default_factory=list)
    means: list[Vector] = field(default_factory=list)
    sent: list[list[Rows]] = field(default_factory=list)
    end: Finish | None = None
    state: PrivacyState = field(default_factory=PrivacyState)


@dataclass
class Machines:
    """A run's machine, and a device for its clients.

    Attributes:
        plan: The job and what follows from it.
        row_of: What each client's training gives.
        answers: Whether a client answers in a round; otherwise it vanishes.
        examples: How many training examples each client claims to have.
        group: How many clients one device speaks for at a time.
        start: What the run remembers from before; None: nothing.
        forgetful: Whether devices forget between rounds what they took part in.
        ids: The clients.
    """

    plan: Plan
    row_of: RowOf | None = None
    answers: Callable[[str, int], bool] = lambda client, number: True
    examples: Callable[[str], int] = lambda client: 10
    group: int = 64
    start: PrivacyState | None = None
    forgetful: bool = False
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        plan = self.plan
        self.ids = self.ids or tuple(f"c{i}" for i in range(plan.population))
        self.row_of = self.row_of or nothing(plan.parameters)
        self.device = RoundDevice(plan.codec, plan.job.seed)
        codec, optimizer = _Watched(plan.codec.chain, plan.codec.spec), _Still()
        self.played = Played(released=codec.seen, means=optimizer.seen)
        vector = np.zeros(plan.layout.size, dtype=np.float32)
        state = Snapshot(0, 0, 0, 0.0, vector, privacy=self.start)
        self.run = Run(replace(plan.run_settings(), codec=codec, optimizer=optimizer), state)

    def play(self) -> Played:
        """Play the run to its end."""
        pending = list(self.run.begin())
        while self.played.end is None:
            match pending.pop(0):
                case Evaluate(number):
                    pending += self.run.receive(Evaluated(EvaluationRecord(round=number)))
                case StartRound(server):
                    pending += self.run.receive(self.round(server))
                case NoteRound(record, spend):
                    self.played.rounds.append(record)
                    self.played.spends.append(spend)
                case Finish() as end:
                    self.played.end = end
        assert self.run.state.privacy is not None
        self.played.state = self.run.state.privacy
        return self.played

    def round(self, server: RoundServer) -> RoundClosed:
        """Play one round."""
        if self.forgetful:
            self.device = RoundDevice(self.plan.codec, self.plan.job.seed)
        self._closed: list[RoundClosed] = []
        self.played.sent.append([])
        for effect in server.receive(Opened(self.ids), 0.0):
            if isinstance(effect, SendAssignment):
                self._answer(server, effect)
            elif isinstance(effect, RoundClosed):
                self._closed.append(effect)
        if not self._closed:
            self._tell(server, DeadlinePassed())
        (closed,) = self._closed
        self.played.totals.append(None if closed.partial is None else closed.partial.total.copy())
        return closed

    def _answer(self, server: RoundServer, sent: SendAssignment) -> None:
        number = sent.assignment.round
        there = [client for client in sent.clients if self.answers(client, number)]
        gone = tuple(client for client in sent.clients if client not in there)
        if gone:
            self._tell(server, ClientsDropped(gone))
        for start in range(0, len(there), self.group):
            clients = tuple(there[start : start + self.group])
            self.device.receive(AssignmentReceived(sent.assignment, clients))
            (updates,) = self.device.receive(TrainingDone(self._trained(clients, number)))
            assert isinstance(updates, SendUpdates)
            self.played.sent[-1].append(updates.rows.copy())
            if updates.clients:
                partial = self.plan.rule.lift(updates.rows, self.plan.grid)
                self._tell(server, UpdatesReceived(updates.clients, partial))
            for client, failure in updates.failures.items():
                self._tell(server, ClientFailed(client, failure.reason))

    def _trained(self, clients: tuple[str, ...], number: int) -> Trained:
        assert self.row_of is not None
        rows = np.stack([self.row_of(client, number) for client in clients]).astype(np.float32)
        return Trained(clients, rows, tuple(self.examples(client) for client in clients))

    def _tell(self, server: RoundServer, event: Any) -> None:
        effects = server.receive(event, 0.0)
        self._closed += [effect for effect in effects if isinstance(effect, RoundClosed)]


def play(plan: Plan, **settings: Any) -> Played:
    """Play a run of such a plan to its end."""
    return Machines(plan, **settings).play()
