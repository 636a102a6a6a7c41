"""Random schedules of a secure sum: who leaves when, who is slow, and which deadlines pass too early."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import numpy as np
from hypothesis import strategies as st

from tacit.secagg import messages
from tacit.secagg.client_checks import Find
from tacit.secagg.events import STEPS, DeadlinePassed, Gone, GroupFailed, Received, ServerEvent, Step, Summed
from tacit.secagg.ideal import Fate, fate
from tacit.secagg.parameters import GroupParameters, Mode, Threat, find_parameters
from tacit.secagg.ring import LaneGroup, Ring, lane_bits
from tests.unit.secagg.playing import STEP_OF, Playing, Row, World, make_world

MODES: tuple[Mode, ...] = ("malicious", "semi_honest")


def sparse(clients: int, threat: Threat) -> GroupParameters:
    """Return a graph of six neighbours, which no real group may have, for groups of more than seven."""
    return GroupParameters(clients, 6, 4) if clients > 7 else find_parameters(clients, threat)


@dataclass
class Hasty(Playing):
    """A group whose deadlines pass while messages are under way; what is late arrives all the same.

    Attributes:
        slow: The step whose message a client sends, which does not arrive before the step has ended.
        haste: How likely a deadline passes before the next message does.
        counted: Of each client the steps whose messages came in time and whole.
        late: Messages that came when nobody awaited them.
    """

    slow: Mapping[str, Step] = field(default_factory=dict)
    haste: float = 0.0
    counted: dict[str, set[Step]] = field(default_factory=dict)
    late: Counter[type] = field(default_factory=Counter)

    def play(self) -> Summed | GroupFailed:
        """Play to the end, and then deliver what is still under way."""
        result = super().play()
        while ready := [(name, True) for name, queue in self._up.items() if queue]:
            self._pass_on(*self.random.choice(ready))
        assert self.result is result, "nothing that comes afterwards changes the result"
        return result

    def fate(self) -> Fate:
        """Return what the ideal makes of the messages that came in time."""
        world, terms = self.world, self.world.terms
        steps = [step for step in STEPS if terms.is_malicious or step != "signature"]
        leaves: dict[str, Step] = {}
        for name in world.clients:
            counted = self.counted.get(name, set())
            missed = next((step for step in steps if step not in counted), None)
            if missed is not None:
                leaves[name] = missed
        threat = Threat(terms.corrupt, terms.dropout, terms.mode)
        return fate(world.clients, world.nonces, terms, leaves, threat, terms.min_cohort, find=world.find)

    def _is_held(self, name: str) -> bool:
        return self.server.state in STEPS and (
            self._is_slow(name) or (self.server.state == "vector" and super()._is_held(name))
        )

    def _is_slow(self, name: str) -> bool:
        step = STEP_OF.get(type(self._up[name][0]))
        if step is None or step != self.slow.get(name):
            return False
        return STEPS.index(self.server.state) <= STEPS.index(step)  # type: ignore[arg-type]

    def _pass_on(self, name: str, is_up: bool) -> None:
        assert self._step is not None
        if self.result is None and self.random.random() < self.haste:
            # The deadline of this step or, with no effect, of one that is over.
            earlier = STEPS[: STEPS.index(self._step)]
            if earlier and self.random.random() < 0.5:
                self._serve(DeadlinePassed(self.random.choice(earlier)))
            else:
                self._serve(DeadlinePassed(self._step))
                return
        super()._pass_on(name, is_up)

    def _serve(self, event: ServerEvent) -> None:
        if isinstance(event, Received):
            step = STEP_OF.get(type(event.message))
            if step is not None and (step != self.server.state or event.client in self._told_gone):
                self.late[type(event.message)] += 1
                assert self.server.receive(event) == (), "what is late is not looked at"
                return
            if step is not None and self._is_whole(event.message):
                self.counted.setdefault(event.client, set()).add(step)
        if isinstance(event, Gone):
            self._told_gone.add(event.client)
        super()._serve(event)

    def _is_whole(self, message: messages.Message) -> bool:
        if isinstance(message, messages.VectorChunk):
            return message.index == (self.world.ring.words * 8 - 1) // self.world.chunk
        return not isinstance(message, messages.VectorHead)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._told_gone: set[str] = set()


@dataclass(frozen=True)
class Schedule:
    """A group's setting and its luck; everything else follows from these few values."""

    clients: int
    mode: Mode
    min_cohort: int
    find: Find
    size: int
    largest: int
    dropout: float
    leaving: float
    slowness: float
    haste: float
    chunk: int
    post_quantum: bool
    seed: int

    @property
    def ring(self) -> Ring:
        """The narrowest lanes that hold the sum of all, so that a carry too many would show."""
        return Ring((LaneGroup(self.size, lane_bits(self.largest, self.clients)), LaneGroup(1, 52)))

    def world(self) -> World:
        """Set the group up."""
        return make_world(
            self.clients,
            mode=self.mode,
            min_cohort=self.min_cohort,
            find=self.find,
            ring=self.ring,
            dropout=self.dropout,
            chunk=self.chunk,
            seed=self.seed,
            post_quantum=self.post_quantum and self.clients <= 8,
        )

    def rows(self, world: World) -> dict[str, Row]:
        """Draw rows; every other schedule has nothing but the largest values, on one side or the other."""
        if self.seed % 2:
            return world.rows(np.random.default_rng(self.seed), self.largest)
        signs = np.random.default_rng(self.seed).choice([-1, 1], (self.clients, 1))
        extreme = np.full((self.clients, self.size + 1), self.largest) * signs ** (self.seed // 2 % 2)
        return dict(zip(world.clients, extreme, strict=True))

    def playing(self) -> Hasty:
        """Draw who leaves and who is slow, and in which order messages come."""
        random, world = Random(self.seed), self.world()
        steps = random.choice([STEPS, *((step,) for step in STEPS)])
        leaves, slow = (
            {name: random.choice(steps) for name in world.clients if random.random() < share}
            for share in (self.leaving, self.slowness)
        )
        return Hasty(
            world,
            self.rows(world),
            leaves,
            silent=frozenset(name for name in leaves if random.random() < 0.5),
            random=random,
            on_wire=random.random() < 0.3,
            slow=slow,
            haste=self.haste / self.clients,
        )


def schedules(most: int = 40) -> st.SearchStrategy[Schedule]:
    """Return schedules of groups of 3 clients and more."""
    return st.builds(
        Schedule,
        clients=st.integers(3, min(12, most)) | st.integers(min(8, most), most),
        mode=st.sampled_from(MODES),
        min_cohort=st.integers(2, 8),
        find=st.sampled_from((find_parameters, sparse)),
        size=st.integers(1, 40),
        largest=st.sampled_from((1, 1000, 2**20)),
        dropout=st.sampled_from((0.0, 0.1, 0.3)),
        leaving=st.sampled_from((0.0, 0.1, 0.2, 0.3, 0.6)),
        slowness=st.sampled_from((0.0, 0.0, 0.1, 0.2)),
        haste=st.sampled_from((0.0, 0.0, 0.0, 0.02, 0.1)),
        chunk=st.sampled_from((16, 64)),
        post_quantum=st.sampled_from((False, False, False, True)),
        seed=st.integers(0, 2**32),
    )
