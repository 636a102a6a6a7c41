"""What a secure sum must hold against each hostile party, as checks that a weakened one must fail."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import shake_256
from random import Random
from typing import Any

import numpy as np

from tacit.secagg.events import GroupFailed, Summed
from tacit.secagg.messages import (
    Advert,
    Confirmation,
    Delivery,
    Message,
    Roster,
    Shares,
    Survivors,
    SurvivorSignature,
    Unmask,
    VectorChunk,
    VectorHead,
)
from tacit.secagg.parameters import GroupParameters, Threat
from tacit.secagg.ring import LaneGroup, Ring
from tacit.testing import (
    AnswersTwice,
    BiasedGraph,
    BothSecrets,
    CuriousServer,
    DishonestDealer,
    DoubledMember,
    FalseAccuser,
    FalseCommitment,
    FlippedByte,
    GarbageShares,
    GroundGraph,
    HostileClient,
    LateVector,
    LyingServer,
    OtherModel,
    OtherTerms,
    Oversized,
    Played,
    Replay,
    ReplayingClient,
    SecondEpoch,
    SecureGroup,
    SmallRoster,
    SmallSum,
    SplitRoster,
    SplitSurvivors,
    SubstitutedKeys,
    Sybils,
    TwinKeys,
    WeakParameters,
    play,
)

FIRST, LAST = "client-000", "client-006"
TOLD: tuple[type[Message], ...] = (Roster, Delivery, Survivors, Confirmation)
SAID: tuple[type[Message], ...] = (Advert, Shares, VectorHead, VectorChunk, SurvivorSignature, Unmask)


def group_of(clients: int = 7, **settings: Any) -> SecureGroup:
    """Return a group whose last member is corrupt."""
    return SecureGroup(clients, **({"corrupted": [f"client-{clients - 1:03}"]} | settings))


def sparse(neighbours: int = 4, threshold: int = 3, clients: int = 16) -> SecureGroup:
    """Return a group in which a member has few neighbours, and enough are corrupt to surround one."""

    def find(count: int, threat: Threat) -> GroupParameters:
        return GroupParameters(count, neighbours, threshold)

    corrupted = [f"client-{number:03}" for number in range(clients - 4, clients)]
    return SecureGroup(clients, find=find, corrupted=corrupted)


def expect(
    server: CuriousServer,
    played: Played,
    codes: Mapping[str, str],
    *sums: Iterable[str],
) -> None:
    """Demand that just these clients broke off and why, and that just these sums were learnt."""
    group, learnt = server.group, server.learnt
    assert played.codes == codes
    assert not played.aborts.keys() & played.holders, "who breaks off overwrites its secrets"
    assert learnt.opened == {frozenset(one) - group.corrupted for one in sums}
    for clients, total in learnt.sums.items():
        assert np.array_equal(total, group.sum(clients))
    assert not learnt.both & learnt.residuals.keys(), "a vector lies open"


def expect_sum(group: SecureGroup, played: Played, survivors: Iterable[str]) -> None:
    """Demand the exact sum of just these clients' rows."""
    result = played.result
    assert isinstance(result, Summed), result
    assert result.survivors == tuple(sorted(survivors))
    assert np.array_equal(result.total, group.sum(result.survivors))


def everybody(group: SecureGroup, code: str) -> dict[str, str]:
    """Return the code for every member."""
    return dict.fromkeys(group.clients, code)


def others(group: SecureGroup, *without: str) -> list[str]:
    """Return the members but for some."""
    return [client for client in group.clients if client not in without]


def sends(client: str, *kinds: type[Message]) -> Callable[[str, Message], bool]:
    """Return what has a client vanish before it sends a message of these kinds."""
    return lambda who, message: who == client and isinstance(message, kinds)


# --- the server, about members and terms ---------------------------------------------------------


def honest_server(**settings: Any) -> None:
    group = group_of(**settings)
    server = CuriousServer(group)
    played = play(group, server, vanishes=sends(FIRST, VectorHead))
    expect(server, played, {}, others(group, FIRST))
    expect_sum(group, played, others(group, FIRST))
    lying = LyingServer(group := group_of(**settings))
    expect(lying, play(group, lying), {}, group.clients)


def split_roster() -> None:
    group = group_of()
    server = SplitRoster(group, group.clients[:3], [LAST])
    expect(server, play(group, server), everybody(group, "T558"))


def split_roster_with_a_majority() -> None:
    group = group_of()
    most, left = group.clients[:5], group.clients[5:]
    server = SplitRoster(group, most, ["client-005"])
    expect(server, play(group, server), dict.fromkeys(left, "T558"), most)


def small_roster() -> None:
    group = group_of()
    few = group.clients[:3]
    server = SmallRoster(group, few)
    expect(server, play(group, server), dict.fromkeys(few, "T556"))


def own_floor() -> None:
    group = group_of(min_cohort=4, least_cohort=6)
    server = CuriousServer(group)
    expect(server, play(group, server), everybody(group, "T556"))


def substituted_keys(proof: Any, code: str) -> None:
    group = group_of()
    server = SubstitutedKeys(group, FIRST, proof)
    expect(server, play(group, server), {FIRST: code}, others(group, FIRST))


def sybils(proof: Any, code: str) -> None:
    group = group_of()
    server = Sybils(group, FIRST, proof)
    expect(server, play(group, server), {FIRST: code})


def twin_keys() -> None:
    group = group_of()
    server = TwinKeys(group, FIRST)
    expect(server, play(group, server), everybody(group, "T557"))


def doubled_member() -> None:
    group = group_of()
    server = DoubledMember(group, FIRST)
    expect(server, play(group, server), everybody(group, "T557"))


def weak_parameters(threshold: int = 1, neighbours: int = 0) -> None:
    group = group_of()
    server = WeakParameters(group, threshold, neighbours)
    expect(server, play(group, server), everybody(group, "T556"))


def biased_graph() -> None:
    group = sparse()
    server = BiasedGraph(group, FIRST)
    played, learnt = play(group, server), server.learnt
    assert played.codes == {FIRST: "T564"}
    assert not any(FIRST in clients for clients in learnt.opened)


def ground_graph() -> None:
    group = sparse(8, 7)  # 2 t > k + c: no draw of the graph is a bad one
    server = GroundGraph(group, FIRST)
    played, learnt = play(group, server), server.learnt
    if played.codes:
        assert played.codes.get(FIRST) == "T558"
        assert not any(FIRST in clients for clients in learnt.opened)
    else:  # no draw suited the server better than the true one: nobody was lied to
        honest = set(group.clients) - set(group.corrupted)
        assert all(honest <= set(clients) for clients in learnt.opened if FIRST in clients)


def other_model() -> None:
    group = group_of()
    server = OtherModel(group, [FIRST])
    expect(server, play(group, server, terms=server.told), everybody(group, "T557"))


def weaker_terms() -> None:
    for words in ({"mode": "semi_honest", "enrolment_root": b""}, {"enrolment_root": bytes(32)}):
        group = group_of()
        server = OtherTerms(group, group.clients, **words)
        expect(server, play(group, server, terms=server.told), everybody(group, "T556"))


# --- the server, about survivors -----------------------------------------------------------------


def split_survivors() -> None:
    group = group_of()
    half = others(group, FIRST)[:3]
    server = SplitSurvivors(group, dict.fromkeys(half, others(group, FIRST)))
    expect(server, play(group, server), everybody(group, "T559"))


def any_split(clients: int, spare: int, seed: int) -> None:
    """Split at random, with parameters that just meet 2 t > k + t1: nobody's secrets both come out."""
    random = Random(seed)
    corrupt = random.randint(1, max(1, (clients - 1) // 3))
    degrees = [degree for degree in (*range(4, clients - 1, 2), clients - 1) if degree > corrupt + 1]
    degree = random.choice(degrees)
    threshold = min(degree, (degree + corrupt) // 2 + 1 + spare)
    names = [f"client-{number:03}" for number in range(clients)]
    group = SecureGroup(
        clients,
        min_cohort=2,
        find=lambda count, threat: GroupParameters(count, degree, threshold),
        corrupted=random.sample(names, corrupt),
    )
    sets = [frozenset(random.sample(names, random.randint(2, clients))) for _ in range(random.randint(2, 3))]
    if random.random() < 0.5:  # the sharpest: two sets that differ in one honest member
        sets = [frozenset(names), frozenset(names) - {random.choice(sorted({*names} - group.corrupted))}]
    told = {client: random.choice(sets) for client in names}
    if random.random() < 0.5:  # who is not in its own set would break off
        told = {client: random.choice([one for one in sets if client in one] or sets) for client in names}
    server = SplitSurvivors(group, told)
    played, learnt = play(group, server), server.learnt
    assert not learnt.both & learnt.residuals.keys()
    assert not played.aborts.keys() & played.holders
    if degree == clients - 1:
        assert len(learnt.sums) <= 1
        assert all(len(one) + corrupt > threshold for one in learnt.sums)


def small_sum() -> None:
    group = group_of()
    server = SmallSum(group, group.clients[:3])
    codes = everybody(group, "T559")
    expect(server, play(group, server), codes)


def both_secrets(again: Any) -> None:
    group = group_of()
    server = BothSecrets(group, FIRST, again)
    sums = [group.clients] if again == "revealed" else []
    expect(server, play(group, server), everybody(group, "T560"), *sums)


def late_vector() -> None:
    group = group_of(ring=Ring((LaneGroup(size=40_000, bits=32),)))
    group.rows[FIRST][:] = 1
    server = LateVector(group, FIRST)
    expect(server, play(group, server), {}, others(group, FIRST))
    learnt = server.learnt
    assert FIRST in learnt.seeds
    counts = np.bincount(learnt.residuals[FIRST].view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    # 255 degrees of freedom: mean 255, deviation 22.6; beyond 6 deviations once in 10^8 times.
    assert ((counts - expected) ** 2 / expected).sum() < 391, "what is left of a late vector is not uniform"


def second_epoch() -> None:
    attack = SecondEpoch(FIRST)
    first, second = attack.play()
    expect(attack.servers[0], first, {}, attack.group.clients)
    expect(attack.servers[1], second, everybody(attack.group, "T512"))


def replays_of_another_round() -> None:
    old = group_of()
    recorded = CuriousServer(old)
    play(old, recorded)
    for kind in TOLD:
        for at in range(5):
            group = group_of(round=2, like=old)
            server = Replay(group, FIRST, kind, at, recorded.record)
            code = play(group, server).codes.get(FIRST)
            assert code == _code(kind, at), (kind, at)
            _only_the_sum(server)


def replays_of_this_round() -> None:
    for told, kind in enumerate(TOLD):
        for at in range(told + 1, 5):
            group = group_of()
            server = Replay(group, FIRST, kind, at)
            assert play(group, server).codes.get(FIRST) == _code(kind, at), (kind, at)
            _only_the_sum(server)


def _code(kind: type[Message], at: int) -> str:
    """Return why an old message is refused in the state before the client's message number ``at``."""
    if kind is Roster and at == 0:
        return "T557"  # a roster is due, and this is that of another assignment
    too_late = {Survivors: 3, Confirmation: 4}
    return "T560" if at >= too_late.get(kind, 9) else "T555"


def _only_the_sum(server: CuriousServer) -> None:
    learnt = server.learnt
    assert len(learnt.sums) <= 1
    assert not learnt.both & learnt.residuals.keys()
    for clients, total in learnt.sums.items():
        assert len(clients) >= server.group.terms.min_cohort - len(server.group.corrupted)
        assert np.array_equal(total, server.group.sum(clients))


# --- clients -------------------------------------------------------------------------------------


def dropped(make: Callable[[SecureGroup, str], HostileClient], blame: str, **settings: Any) -> None:
    """Demand that a hostile client is left out and blamed, and the sum of the others is exact."""
    group = group_of(**settings)
    played = play(group, parties={LAST: make(group, LAST)})
    expect_sum(group, played, others(group, LAST))
    assert isinstance(played.result, Summed)
    assert list(played.result.blamed) == [LAST]
    assert played.result.blamed[LAST].startswith(blame)


def corrected(
    make: Callable[[SecureGroup, str], HostileClient], blamed: Sequence[str], liar: str, dead: str = ""
) -> None:
    """Demand the exact sum of all who survive, and that these are blamed."""
    group = SecureGroup(7, corrupted=[liar])
    played = play(group, parties={liar: make(group, liar)}, vanishes=sends(dead, VectorHead))
    expect_sum(group, played, others(group, dead))
    assert isinstance(played.result, Summed)
    assert sorted(played.result.blamed) == sorted(blamed)


def garbage_shares() -> None:
    group = group_of()
    server = CuriousServer(group)
    played = play(group, server, parties={LAST: GarbageShares(group, LAST)})
    expect_stopped(played, by=LAST)
    expect(server, played, dict.fromkeys(others(group, LAST), "T563"))


def expect_stopped(played: Played, by: str) -> None:
    """Demand that there is no sum, and that one client is blamed."""
    assert isinstance(played.result, GroupFailed), played.result
    assert list(played.result.blamed) == [by]


def sent_twice() -> None:
    group = group_of()
    played = play(group, parties={LAST: AnswersTwice(group, LAST)})
    assert isinstance(played.result, Summed)
    assert set(played.result.survivors) >= set(others(group, LAST))
    expect_sum(group, played, played.result.survivors)


def dealer_corrected(cheated: int) -> None:
    names = [f"client-{number:03}" for number in range(cheated)]
    for dead in ("", LAST):
        corrected(lambda group, client: DishonestDealer(group, client, cheated), names, LAST, dead)


def dealer_stopped(cheated: int = 6) -> None:
    for dead in ("", LAST):
        group = group_of()
        parties = {LAST: DishonestDealer(group, LAST, cheated)}
        expect_stopped(play(group, parties=parties, vanishes=sends(dead, VectorHead)), by=LAST)


def false_commitment() -> None:
    group = group_of()
    expect_stopped(play(group, parties={LAST: FalseCommitment(group, LAST)}), by=LAST)


def replaying_client() -> None:
    old = group_of()
    server = CuriousServer(old)
    play(old, server)
    said = [message for client, message in server.record.received if client == LAST]
    for kind in SAID:
        group = group_of(round=2, like=old)
        recorded = [message for message in said if isinstance(message, kind)]
        played = play(group, parties={LAST: ReplayingClient(group, LAST, recorded)})
        gone_later = kind in (SurvivorSignature, Unmask)  # its vector was in the sum by then
        expect_sum(group, played, group.clients if gone_later else others(group, LAST))
        assert isinstance(played.result, Summed)
        assert list(played.result.blamed) == [LAST]


def false_accuser() -> None:
    group = group_of()
    played = play(group, parties={LAST: FalseAccuser(group, LAST, 0)})
    expect_sum(group, played, others(group, LAST))
    assert isinstance(played.result, Summed)
    assert not played.result.blamed


def lying_together(party: type[HostileClient]) -> None:
    group = group_of()
    server = CuriousServer(group)
    play(group, server, parties={LAST: party(group, LAST)}, vanishes=sends(FIRST, VectorHead))
    learnt = server.learnt
    assert learnt.opened <= {frozenset(others(group, FIRST, LAST))}
    assert not learnt.both & learnt.residuals.keys()


# --- the wire ------------------------------------------------------------------------------------


class Given:
    """Secrets that are the same in every play, so that what was verified once is remembered."""

    def __init__(self, client: str) -> None:
        self._client, self._drawn = client, 0

    def secret(self, size: int, /) -> bytearray:
        self._drawn += 1
        return bytearray(shake_256(f"{self._client} {self._drawn}".encode()).digest(size))

    def nonce(self, size: int, /) -> bytes:
        return bytes(self.secret(size))


_FLIPPED = SecureGroup(4)


def flipped(kind: type[Message], index: int, flip: int = 1, client: str = "client-001") -> int:
    """Change one byte: there is the same sum, or that of the others, or none; return the message's length."""
    group = SecureGroup(4, like=_FLIPPED, entropy={name: Given(name) for name in _FLIPPED.clients})
    wire = FlippedByte(client, kind, index, flip)
    played = play(group, wire=wire)
    if isinstance(played.result, Summed):
        survivors = played.result.survivors
        assert set(survivors) >= set(others(group, client))
        assert np.array_equal(played.result.total, group.sum(survivors)), "another sum"
    assert not played.aborts.keys() & played.holders
    assert played.codes.keys() | played.refused.keys() <= set(group.clients)
    return wire.length


def oversized(kind: type[Message]) -> None:
    group = group_of()
    played = play(group, wire=Oversized(group, FIRST, kind))
    assert played.refused == {FIRST: "T552"}
    sent = kind in (SurvivorSignature, Unmask, Survivors, Confirmation)  # after its vector was
    expect_sum(group, played, group.clients if sent else others(group, FIRST))
