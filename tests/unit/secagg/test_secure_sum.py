"""A whole group: whatever happens on the way, the exact sum of the survivors comes out, or nothing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tacit.core.errors import RemoteProtocolError
from tacit.secagg import messages
from tacit.secagg.client import SecureClient
from tacit.secagg.client_checks import Find
from tacit.secagg.events import STEPS, GroupFailed, Send, Step, Summed
from tacit.secagg.ideal import Fate, fate
from tacit.secagg.parameters import GroupParameters, Mode, Threat, find_parameters
from tacit.secagg.ring import LaneGroup, Ring
from tests.unit.secagg.playing import Playing, World, make_world

MODES: tuple[Mode, ...] = ("malicious", "semi_honest")


def sparse(clients: int, threat: Threat) -> GroupParameters:
    """Return a graph of six neighbours, which no real group may have, for groups of more than seven."""
    if clients < 8:
        return find_parameters(clients, threat)
    return GroupParameters(clients, 6, 4)


@dataclass(frozen=True)
class Schedule:
    """Who leaves when, and in which order messages arrive; all of it follows from these few values."""

    clients: int
    mode: Mode
    min_cohort: int
    find: Find
    size: int
    dropout: float
    leaving: float
    chunk: int
    seed: int

    def playing(self) -> Playing:
        random = Random(self.seed)
        world = make_world(
            self.clients,
            mode=self.mode,
            min_cohort=self.min_cohort,
            find=self.find,
            ring=Ring((LaneGroup(self.size, bits=32), LaneGroup(size=1, bits=52))),
            dropout=self.dropout,
            chunk=self.chunk,
            seed=self.seed,
        )
        steps = random.choice([STEPS, *((step,) for step in STEPS)])
        leaves = {name: random.choice(steps) for name in world.clients if random.random() < self.leaving}
        silent = frozenset(name for name in leaves if random.random() < 0.5)
        rows = world.rows(np.random.default_rng(self.seed))
        return Playing(world, rows, leaves, silent, random, on_wire=random.random() < 0.3)


schedules = st.builds(
    Schedule,
    clients=st.integers(3, 12) | st.integers(8, 40),
    mode=st.sampled_from(MODES),
    min_cohort=st.integers(2, 8),
    find=st.sampled_from((find_parameters, sparse)),
    size=st.integers(1, 40),
    dropout=st.sampled_from((0.0, 0.1, 0.3)),
    leaving=st.sampled_from((0.0, 0.1, 0.2, 0.3, 0.6)),
    chunk=st.sampled_from((16, 64)),
    seed=st.integers(0, 2**32),
)


def ideal(playing: Playing) -> Fate:
    world, terms = playing.world, playing.world.terms
    threat = Threat(terms.corrupt, terms.dropout, terms.mode)
    nonces, leaves = world.nonces, playing.leaves
    return fate(world.clients, nonces, terms, leaves, threat, terms.min_cohort, find=world.find)


@settings(max_examples=250)
@given(schedules)
def test_whoever_leaves_at_whatever_message_the_machines_agree_with_the_ideal(schedule: Schedule) -> None:
    playing = schedule.playing()
    result, expected = playing.play(), ideal(playing)
    event(f"{schedule.mode}: {expected.reason or 'a sum'}, leaving {bool(playing.leaves)}")
    assert not playing.refusals
    assert not result.blamed
    if isinstance(result, GroupFailed):
        assert (result.reason, ()) == (expected.reason, expected.survivors)
    else:
        assert (expected.reason, result.survivors) == ("", expected.survivors)
        assert np.array_equal(result.total, playing.expected(result.survivors))
        keys = {i: key_of(playing.world, client) for i, client in enumerate(members(playing))}
        result.certificate.verify(keys)
    assert not any(machine.holds_secrets for machine in finished(playing))


def finished(playing: Playing) -> list[SecureClient]:
    """Return the machines that had nothing more to do; those that wait for the server keep what they hold."""
    return [c for c in playing.clients.values() if c.state in ("revealed", "left", "aborted")]


def key_of(world: World, client: str) -> bytes:
    return world.identities[client].public if world.identities else b""


def members(playing: Playing) -> list[str]:
    rosters = [m for _, _, m in playing.transcript if isinstance(m, messages.Roster)]
    return [client for client, _, _ in rosters[0].members]


def is_sound(playing: Playing, result: Summed | GroupFailed) -> bool:
    """Tell whether a sum is exactly that of its survivors, and none is too small; no sum at all is sound."""
    if isinstance(result, GroupFailed):
        return True
    enough = len(result.survivors) >= playing.world.terms.min_cohort
    return enough and np.array_equal(result.total, playing.expected(result.survivors))


@settings(max_examples=200)
@given(mode=st.sampled_from(MODES), seed=st.integers(0, 2**32))
def test_a_flipped_bit_anywhere_gives_the_exact_sum_of_the_survivors_or_none(mode: Mode, seed: int) -> None:
    world, random = make_world(7, mode=mode, seed=seed), Random(seed)
    which, count, kinds = random.randrange(105), iter(range(10**6)), list[str]()

    def flip(name: str, is_up: bool, data: bytes) -> bytes:
        if next(count) != which:
            return data
        kinds.append(messages.kind_of(data).__name__)
        spoilt = bytearray(data)
        spoilt[random.randrange(len(data))] ^= 1 << random.randrange(8)
        return bytes(spoilt)

    rows = world.rows(np.random.default_rng(seed))
    playing = Playing(world, rows, random=Random(seed), on_wire=True, wire=flip)
    result = playing.play()
    event(f"{kinds or 'nothing'}: {type(result).__name__}")
    assert is_sound(playing, result)


@settings(max_examples=80)
@given(mode=st.sampled_from(MODES), seed=st.integers(0, 2**32))
def test_replayed_messages_never_give_a_wrong_sum(mode: Mode, seed: int) -> None:
    """Any message of the transcript may come again, to its own end or to another's, at any time."""
    world, random = make_world(7, mode=mode, seed=seed), Random(seed)
    playing = Playing(world, world.rows(np.random.default_rng(seed)), random=random)
    sent: dict[bool, list[messages.Message]] = {True: [], False: []}

    def replaying(is_up: bool) -> Callable[[str, messages.Message], Iterable[messages.Message]]:
        def replay(name: str, message: messages.Message) -> Iterable[messages.Message]:
            sent[is_up].append(message)
            return (message, random.choice(sent[is_up])) if random.random() < 0.03 else (message,)

        return replay

    playing.to_server, playing.to_client = replaying(True), replaying(False)
    assert is_sound(playing, playing.play())


@settings(max_examples=20)
@given(mode=st.sampled_from(MODES), seed=st.integers(0, 2**32))
def test_a_post_quantum_group_has_the_same_fate(mode: Mode, seed: int) -> None:
    random = Random(seed)
    world = make_world(random.randint(4, 7), mode=mode, seed=seed, post_quantum=True)
    leaves = {name: random.choice(STEPS) for name in world.clients if random.random() < 0.15}
    rows = world.rows(np.random.default_rng(seed))
    playing = Playing(world, rows, leaves, random=random, on_wire=random.random() < 0.5)
    result = playing.play()
    assert is_sound(playing, result)
    assert getattr(result, "survivors", ()) == ideal(playing).survivors


@pytest.mark.parametrize("mode", MODES)
def test_a_group_of_the_real_sparse_parameters_has_its_sum(mode: Mode) -> None:
    world = make_world(100, mode=mode, min_cohort=50)
    random = Random(5)
    leaves: dict[str, Step] = {name: random.choice(STEPS) for name in random.sample(world.clients, 10)}
    playing = Playing(world, world.rows(np.random.default_rng(5)), leaves, random=random)
    result = playing.play()
    assert find_parameters(100, Threat(0.1, 0.1, mode)).neighbours < 99
    assert isinstance(result, Summed)
    assert result.survivors == ideal(playing).survivors
    assert is_sound(playing, result)


@settings(max_examples=80)
@given(seed=st.integers(0, 2**32), find=st.sampled_from((find_parameters, sparse)))
def test_a_server_that_names_two_survivor_sets_learns_no_seed_of_anybody_who_answers(
    seed: int, find: Find
) -> None:
    """The server gives each client the one of two sets that it likes, and all signatures that fit it."""
    random = Random(seed)
    world = make_world(random.randint(9, 14), find=find, seed=seed, min_cohort=4)
    playing = Playing(world, world.rows(np.random.default_rng(seed)), random=random)
    playing.to_client = lambda name, m: () if isinstance(m, messages.Survivors) else (m,)
    assert isinstance(playing.play(), GroupFailed), "nobody was told a survivor set yet"

    names, session = (
        members(playing),
        next(m for *_, m in playing.transcript if isinstance(m, messages.Survivors)),
    )
    everybody = set(range(len(names)))
    sets = [everybody - set(random.sample(sorted(everybody), random.randint(0, 3))) for _ in range(2)]
    told = {at: next((s for s in random.sample(sets, 2) if at in s), sets[0]) for at in everybody}
    signatures: dict[int, bytes] = {}
    for at, name in enumerate(names):
        bitmap = messages.bitmap_of(told[at], len(names))
        for message in answers(playing, name, messages.Survivors(session.session, bitmap)):
            assert isinstance(message, messages.SurvivorSignature)
            signatures[at] = message.signature
    answered: dict[int, messages.Unmask] = {}
    for at, name in enumerate(names):
        near = neighbours_in(playing, name)
        # A signature for the other set would not verify; one more than the threshold helps nobody.
        fitting = tuple((v, signatures[v]) for v in near if v in signatures and told[v] == told[at])
        for message in answers(playing, name, messages.Confirmation(session.session, fitting)):
            assert isinstance(message, messages.Unmask)
            answered[at] = message

    threat = Threat(world.terms.corrupt, world.terms.dropout, "malicious")
    found, may_lie = find(len(names), threat), threat.corrupt_members(len(names))
    event(f"{len(answered) > 0} answers, two sets: {sets[0] != sets[1]}")
    for owner in everybody:
        seeds = sum(owner in dict(m.seed_shares) for m in answered.values())
        selves = sum(owner in dict(m.self_shares) for m in answered.values())
        assert min(seeds, selves) + may_lie < found.threshold, (
            "both secrets, with all who may help the server"
        )
        if owner in answered:
            assert seeds + may_lie < found.threshold, "the masks of one who takes itself for a survivor"


def answers(playing: Playing, name: str, message: messages.Message) -> list[messages.Message]:
    """Return what a client says to a message; nothing if it refuses."""
    try:
        effects = playing.clients[name].receive(message)  # type: ignore[arg-type]
    except RemoteProtocolError:
        return []
    return [effect.message for effect in effects if isinstance(effect, Send)]


def neighbours_in(playing: Playing, name: str) -> list[int]:
    names = members(playing)
    rosters = {who: m for who, _, m in playing.transcript if isinstance(m, messages.Roster)}
    return [names.index(advert.client) for advert in rosters[name].adverts]
