"""What a client accepts from a server that lies: each rule is broken once, and ends with nothing told."""

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType, ModuleType

import msgspec
import numpy as np
import pytest

from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.secagg.client import SecureClient
from tacit.secagg.entropy import GivenNonce
from tacit.secagg.events import Closed, Invited, Leave, RowReady, Send, Step, Summed
from tacit.secagg.identity import Authority, Identity
from tacit.secagg.keys import RoundKeys, Secret
from tacit.secagg.messages import (
    ADVERT,
    SESSION,
    SURVIVORS,
    Advert,
    Confirmation,
    Delivery,
    Message,
    Roster,
    Shares,
    Survivors,
    SurvivorSignature,
    Unmask,
    bitmap_of,
    positions_in,
)
from tacit.secagg.parameters import GroupParameters, Threat, find_parameters
from tacit.secagg.ring import LaneGroup, Ring
from tacit.secagg.shamir import SHARE_BYTES, split
from tests.unit.secagg.playing import DAY, Playing, World, make_world

VICTIM = "client-0005"
CLIENTS = 12
SEED = 0  # a graph in which one neighbour of the victim deals no shares
Change = Callable[["Attack", Message], Message | Iterable[Message]]
change = msgspec.structs.replace


def sparse(clients: int, threat: Threat) -> GroupParameters:
    """Six neighbours of whom four open a secret: 2 t > k + t1, and there are strangers in the group."""
    return GroupParameters(clients, 6, 4)


# Somebody to lie about.
LEAVES: Mapping[str, Step] = {"client-0000": "shares", "client-0007": "vector"}


class Attack:
    """A group in which the server changes what it tells one client."""

    def __init__(
        self, kind: type[Message], tell: Change, leaves: Mapping[str, Step] = LEAVES, **setting: object
    ) -> None:
        self.world: World = make_world(CLIENTS, **({"find": sparse} | setting))  # type: ignore[arg-type]
        self.kind, self.tell = kind, tell
        rows = self.world.rows(np.random.default_rng(7))
        self.playing = Playing(self.world, rows, to_client=self._lie, leaves=leaves)

    @property
    def victim(self) -> SecureClient:
        return self.playing.clients[VICTIM]

    def sent(self, kind: type[Message], name: str = VICTIM) -> list[Message]:
        """Return what the client has sent of this kind."""
        found = self.playing.transcript
        return [
            message for who, is_up, message in found if is_up and who == name and isinstance(message, kind)
        ]

    def told(self, kind: type[Message], name: str = VICTIM) -> Message:
        """Return what an honest server told a client."""
        found = self.playing.transcript
        return next(m for who, is_up, m in found if not is_up and who == name and isinstance(m, kind))

    def names(self) -> list[str]:
        roster = self.told(Roster)
        assert isinstance(roster, Roster)
        return [client for client, _, _ in roster.members]

    def near(self) -> list[int]:
        """Return the positions of the victim's neighbours."""
        roster = self.told(Roster)
        assert isinstance(roster, Roster)
        return [self.names().index(advert.client) for advert in roster.adverts]

    def refused(self) -> str:
        """Play, and return the code with which the victim left; nothing of it may be left to learn."""
        result = self.playing.play()
        victim = self.victim
        if VICTIM not in self.playing.refusals:
            return ""
        assert victim.state == "aborted"
        assert not victim.holds_secrets
        assert not any(map(any, secrets_of(victim)))
        assert not self.sent(Unmask)
        error = self.playing.refusals[VICTIM]
        assert victim.complaint is not None
        assert victim.complaint.reason == int(error.code[1:])
        if isinstance(result, Summed):
            assert np.array_equal(result.total, self.playing.expected(result.survivors))
        return error.code

    def _lie(self, name: str, message: Message) -> Iterable[Message]:
        if name != VICTIM or not isinstance(message, self.kind):
            return (message,)
        told = self.tell(self, message)
        return (told,) if isinstance(told, Message) else told


def secrets_of(machine: object) -> list[Secret]:
    """Return every secret that can be reached from a machine, however it is kept there."""
    return [thing for thing in reachable(machine) if isinstance(thing, Secret)]


def reachable(machine: object) -> list[object]:
    """Return all that the machine keeps alive."""
    seen, found, todo = set[int](), list[object](), [machine]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType):
            continue
        seen.add(id(thing))
        found.append(thing)
        todo.extend(gc.get_referents(thing))
    return found


def with_members(roster: Roster, members: Iterable[tuple[str, bytes, bytes]]) -> Roster:
    return change(roster, members=tuple(members))


def with_advert(roster: Roster, place: int, advert: Advert, *, in_members: bool = True) -> Roster:
    """Put another advert in a place; the roster may name it too, as a server that lies would see to."""
    old = roster.adverts[place]
    adverts = (*roster.adverts[:place], advert, *roster.adverts[place + 1 :])
    members = [
        (client, advert.nonce, advert.digest)
        if client == old.client and in_members
        else (client, nonce, digest)
        for client, nonce, digest in roster.members
    ]
    return change(roster, adverts=adverts, members=tuple(members))


def stranger(attack: Attack, roster: Roster) -> Advert:
    """Return the true advert of a member that is no neighbour of the victim's."""
    near = {advert.client for advert in roster.adverts} | {VICTIM}
    name = next(client for client, _, _ in roster.members if client not in near)
    (advert,) = attack.sent(Advert, name)
    assert isinstance(advert, Advert)
    return advert


def signed(attack: Attack, advert: Advert, **changed: object) -> Advert:
    """Return an advert that its client has signed with other contents, as one that lies would."""
    changed_advert = change(advert, **changed)
    identity = attack.world.identities[advert.client]
    return change(changed_advert, signature=identity.sign(ADVERT, changed_advert.signed_part))


def certified(attack: Attack, advert: Advert, authority: Authority, name: str, last_day: int) -> Advert:
    certificate = authority.enrol(name, attack.world.identities[advert.client].public, last_day)
    return signed(attack, advert, certificate=certificate)


def forged(advert: Advert) -> Advert:
    """Return an advert with keys of the server's own, which it cannot sign for the client."""
    keys = RoundKeys()
    return change(advert, mask_key=keys.mask_key, share_key=keys.share_key)


def authority_of(attack: Attack) -> Authority:
    assert attack.world.authority is not None
    return attack.world.authority


def without_own(roster: Roster) -> Roster:
    return with_members(roster, (member for member in roster.members if member[0] != VICTIM))


def on_other_terms(attack: Attack, roster: Roster) -> Roster:
    """Put the client among neighbours whose model, say, is another one: all their signatures are true."""
    for place, advert in enumerate(roster.adverts):
        roster = with_advert(roster, place, signed(attack, advert, assignment=bytes(32)))
    return change(roster, assignment=bytes(32))


ROSTERS: dict[str, tuple[str, Callable[[Attack, Roster], Message]]] = {
    "another assignment": ("T557", lambda a, r: change(r, assignment=bytes(32))),
    "the neighbours have agreed to other terms": ("T557", on_other_terms),
    "not sorted": ("T557", lambda a, r: with_members(r, reversed(r.members))),
    "a member twice": ("T557", lambda a, r: with_members(r, sorted((*r.members, r.members[0])))),
    "the client is not in it": ("T557", lambda a, r: without_own(r)),
    "another nonce for the client": (
        "T557",
        lambda a, r: with_members(r, ((c, bytes(16) if c == VICTIM else n, d) for c, n, d in r.members)),
    ),
    "another advert for the client": (
        "T557",
        lambda a, r: with_members(r, ((c, n, bytes(32) if c == VICTIM else d) for c, n, d in r.members)),
    ),
    "too few members": (
        "T556",
        lambda a, r: with_members(r, (m for m in r.members if m[0] in (VICTIM, "client-0001"))),
    ),
    "a lower threshold": ("T556", lambda a, r: change(r, threshold=r.threshold - 1)),
    "no threshold": ("T556", lambda a, r: change(r, threshold=0)),
    "fewer neighbours": ("T556", lambda a, r: change(r, neighbours=r.neighbours - 2, adverts=r.adverts[:-2])),
    "more neighbours at the same threshold": ("T556", lambda a, r: change(r, neighbours=r.neighbours + 2)),
    "a neighbour is missing": ("T564", lambda a, r: change(r, adverts=r.adverts[:-1])),
    "a neighbour too many": ("T564", lambda a, r: change(r, adverts=(*r.adverts, stranger(a, r)))),
    "two neighbours are exchanged": (
        "T564",
        lambda a, r: change(r, adverts=(r.adverts[1], r.adverts[0], *r.adverts[2:])),
    ),
    "a stranger is made a neighbour": (
        "T564",
        lambda a, r: with_advert(r, 2, stranger(a, r), in_members=False),
    ),
    "a neighbour's nonce is chosen": (
        "T557",
        # The graph follows from the nonces: an order in which the victim's neighbours are corrupt.
        lambda a, r: with_advert(r, 2, signed(a, r.adverts[2], nonce=bytes(16)), in_members=False),
    ),
    "a neighbour's key is not the one in the roster": (
        "T557",
        lambda a, r: with_advert(r, 2, forged(r.adverts[2]), in_members=False),
    ),
    "a neighbour that lies gives the client keys of its own": (
        "T557",
        lambda a, r: with_advert(
            r, 2, signed(a, r.adverts[2], mask_key=RoundKeys().mask_key), in_members=False
        ),
    ),
    "a neighbour's keys are the server's own": ("T557", lambda a, r: with_advert(r, 2, forged(r.adverts[2]))),
    "a neighbour's advert is for other terms": (
        "T557",
        lambda a, r: with_advert(r, 2, signed(a, r.adverts[2], assignment=bytes(32))),
    ),
    "a neighbour has no certificate": (
        "T557",
        lambda a, r: with_advert(r, 2, signed(a, r.adverts[2], certificate=None)),
    ),
    "a neighbour is enrolled by another authority": (
        "T562",
        lambda a, r: with_advert(
            r, 2, certified(a, r.adverts[2], Authority.generate(), r.adverts[2].client, DAY)
        ),
    ),
    "a neighbour's certificate has run out": (
        "T562",
        lambda a, r: with_advert(
            r, 2, certified(a, r.adverts[2], authority_of(a), r.adverts[2].client, DAY - 1)
        ),
    ),
    "a neighbour has another's certificate": (
        "T562",
        lambda a, r: with_advert(r, 2, certified(a, r.adverts[2], authority_of(a), "client-9999", DAY)),
    ),
    "two neighbours have one mask key": (
        "T557",
        lambda a, r: with_advert(r, 2, signed(a, r.adverts[2], mask_key=r.adverts[3].mask_key)),
    ),
    "two neighbours have one share key": (
        "T557",
        lambda a, r: with_advert(r, 2, signed(a, r.adverts[2], share_key=r.adverts[3].share_key)),
    ),
    "a neighbour has the client's mask key": (
        "T557",
        lambda a, r: with_advert(r, 2, signed(a, r.adverts[2], mask_key=own_advert(a).mask_key)),
    ),
    "a neighbour's mask key is its share key": (
        "T557",
        lambda a, r: with_advert(r, 2, signed(a, r.adverts[2], mask_key=r.adverts[2].share_key)),
    ),
    "a neighbour's share key agrees on zero with everybody": (
        "T551",
        lambda a, r: with_advert(r, 2, signed(a, r.adverts[2], share_key=bytes(32))),
    ),
    "a neighbour has post-quantum keys": (
        "T557",
        lambda a, r: with_advert(r, 2, signed(a, r.adverts[2], kem_key=bytes(2 * 1184))),
    ),
}


def own_advert(attack: Attack) -> Advert:
    (advert,) = attack.sent(Advert)
    assert isinstance(advert, Advert)
    return advert


@pytest.mark.parametrize(("code", "tell"), ROSTERS.values(), ids=ROSTERS)
def test_a_client_refuses_a_roster_in_which(code: str, tell: Callable[[Attack, Roster], Message]) -> None:
    attack = Attack(Roster, tell)  # type: ignore[arg-type]
    assert attack.refused() == code
    assert attack.sent(Advert)
    assert len(attack.sent(Message)) == 1, "it has told nothing but its advert"


def test_a_client_refuses_a_group_below_its_cohort_however_strong_its_parameters_are() -> None:
    def tell(attack: Attack, roster: Message) -> Message:
        assert isinstance(roster, Roster)
        members = roster.members[:9]
        found = find_parameters(9, Threat(0.1, 0.1, "malicious"))
        adverts = tuple(advert for advert in roster.adverts if advert.client <= members[-1][0])
        assert len(adverts) == found.neighbours
        return Roster(roster.assignment, members, found.neighbours, found.threshold, adverts)

    assert Attack(Roster, tell, find=find_parameters, min_cohort=10).refused() == "T556"


def test_a_client_refuses_nonces_that_its_neighbours_have_not_drawn() -> None:
    def tell(attack: Attack, roster: Message) -> Message:
        assert isinstance(roster, Roster)
        (client, _, digest), *others = roster.members
        return with_members(roster, ((client, bytes(16), digest), *others))

    # All are neighbours, so that the graph is the same whatever the nonces are.
    assert Attack(Roster, tell, find=find_parameters).refused() == "T557"


def test_a_complaint_says_whom_it_is_about() -> None:
    attack = Attack(Roster, lambda a, r: with_advert(r, 2, forged(r.adverts[2])))  # type: ignore[arg-type]
    assert attack.refused() == "T557"
    assert attack.victim.complaint is not None
    assert attack.victim.complaint.about == attack.near()[2]


def endorsed(delivery: Delivery, changed: Iterable[int], *, what: str = "signature") -> Delivery:
    """Spoil the endorsements in these places."""
    places = set(changed)
    spoilt = tuple(
        (
            at,
            bytes(32) if what == "commitment" else commitment,
            bytes(64) if what == "signature" else signature,
        )
        if place in places
        else (at, commitment, signature)
        for place, (at, commitment, signature) in enumerate(delivery.endorsements)
    )
    return change(delivery, endorsements=spoilt)


def of_another_session(attack: Attack, delivery: Delivery) -> Delivery:
    """Give true signatures of the neighbours, of a session with other members."""
    names = attack.names()
    return change(
        delivery,
        endorsements=tuple(
            (at, commitment, attack.world.identities[names[at]].sign(SESSION, bytes(32), commitment))
            for at, commitment, _ in delivery.endorsements
        ),
    )


def first(delivery: Delivery, count: int) -> Delivery:
    return change(delivery, sealed=delivery.sealed[:count], endorsements=delivery.endorsements[:count])


def moved(delivery: Delivery, place: int, at: int) -> Delivery:
    """Say of a sealed share and its signature that they are another member's."""
    sealed, endorsements = list(delivery.sealed), list(delivery.endorsements)
    sealed[place] = (at, sealed[place][1])
    endorsements[place] = (at, *endorsements[place][1:])
    return change(delivery, sealed=tuple(sealed), endorsements=tuple(endorsements))


def flipped(data: bytes, place: int = 0) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def a_stranger_at(attack: Attack) -> int:
    near = {*attack.near(), attack.names().index(VICTIM)}
    return next(at for at in range(len(attack.names())) if at not in near)


DELIVERIES: dict[str, tuple[str, Callable[[Attack, Delivery], Message]]] = {
    "another session": ("T555", lambda a, d: change(d, session=bytes(32))),
    "fewer than the threshold dealt shares": ("T558", lambda a, d: first(d, 3)),
    "nobody dealt shares": ("T558", lambda a, d: first(d, 0)),
    "too few valid signatures": ("T558", lambda a, d: endorsed(d, range(len(d.sealed) - 3))),
    "the commitments are not those that were signed": (
        "T558",
        lambda a, d: endorsed(d, range(len(d.sealed)), what="commitment"),
    ),
    "signatures of another session": ("T558", of_another_session),
    "shares without a signature": ("T558", lambda a, d: change(d, endorsements=d.endorsements[:-1])),
    "a signature without shares": ("T558", lambda a, d: change(d, sealed=d.sealed[:-1])),
    "one neighbour twice": ("T558", lambda a, d: moved(d, 0, d.sealed[1][0])),
    "a stranger": ("T558", lambda a, d: moved(d, 0, a_stranger_at(a))),
    "the client itself": ("T558", lambda a, d: moved(d, 0, a.names().index(VICTIM))),
    "capsules that nobody wants": ("T558", lambda a, d: change(d, capsules=(bytes(1088),) * len(d.sealed))),
    "a sealed share was changed": (
        "T563",
        lambda a, d: change(d, sealed=((d.sealed[0][0], flipped(d.sealed[0][1], 20)), *d.sealed[1:])),
    ),
    "the sealed shares of two are exchanged": (
        "T563",
        lambda a, d: change(
            d, sealed=((d.sealed[0][0], d.sealed[1][1]), (d.sealed[1][0], d.sealed[0][1]), *d.sealed[2:])
        ),
    ),
    "a sealed share of another length": (
        "T563",
        lambda a, d: change(d, sealed=((d.sealed[0][0], bytes(20)), *d.sealed[1:])),
    ),
}


@pytest.mark.parametrize(("code", "tell"), DELIVERIES.values(), ids=DELIVERIES)
def test_a_client_refuses_a_delivery_with(code: str, tell: Callable[[Attack, Delivery], Message]) -> None:
    attack = Attack(Delivery, tell)  # type: ignore[arg-type]
    assert attack.refused() == code
    assert [type(message).__name__ for message in attack.sent(Message)] == ["Advert", "Shares"]


def test_a_semi_honest_client_counts_who_dealt_shares() -> None:
    assert Attack(Delivery, lambda a, d: first(d, 3), mode="semi_honest").refused() == "T558"  # type: ignore[arg-type]


def test_a_client_needs_no_more_valid_signatures_than_the_threshold() -> None:
    attack = Attack(Delivery, lambda a, d: endorsed(d, [0]))  # type: ignore[arg-type]
    assert attack.refused() == ""
    assert attack.victim.state == "revealed"


@pytest.mark.parametrize("spoilt", [0, 1], ids=["of a self mask", "of a seed"])
def test_a_client_refuses_a_share_that_is_no_field_element(
    spoilt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(10**6))  # a client shares its self-mask secret, then its seed

    def deal(secret: bytes, threshold: int, around: Sequence[int]) -> dict[int, bytes]:
        dealt = split(secret, threshold, around)
        return dict.fromkeys(around, b"\xff" * SHARE_BYTES) if next(calls) % 2 == spoilt else dealt

    monkeypatch.setattr("tacit.secagg.client_secrets.split", deal)
    assert Attack(Delivery, lambda a, d: d).refused() == "T553"


def alive_in(survivors: Survivors) -> set[int]:
    return set(positions_in(survivors.bitmap, CLIENTS))


def naming(survivors: Survivors, alive: Iterable[int]) -> Survivors:
    return change(survivors, bitmap=bitmap_of(alive, CLIENTS))


def without(attack: Attack, survivors: Survivors, count: int) -> Survivors:
    """Leave so many of the victim's neighbours out."""
    alive = alive_in(survivors)
    near = [at for at in attack.near() if at in alive]
    return naming(survivors, alive - set(near[: len(near) - count]))


def no_dealer(attack: Attack) -> int:
    """Return a neighbour that is there in the roster and dealt nothing."""
    return attack.names().index("client-0000")


def make_all_near(attack: Attack, survivors: Survivors) -> Survivors:
    return naming(survivors, alive_in(survivors) | set(attack.near()))


SURVIVOR_SETS: dict[str, tuple[str, Callable[[Attack, Survivors], Message | Iterable[Message]]]] = {
    "another session": ("T555", lambda a, s: change(s, session=bytes(32))),
    "the client is not in it": (
        "T559",
        lambda a, s: naming(s, alive_in(s) - {a.names().index(VICTIM)}),
    ),
    "there are fewer than the least cohort": (
        "T559",
        lambda a, s: naming(s, {a.names().index(VICTIM), *[at for at in a.near() if at in alive_in(s)][:4]}),
    ),
    "fewer neighbours survive than open a secret": ("T559", lambda a, s: without(a, s, 3)),
    "a neighbour survives who never dealt shares": ("T559", make_all_near),
    "there is a bit for nobody": ("T551", lambda a, s: change(s, bitmap=s.bitmap[:-1] + b"\xff")),
    "the bitmap is too short": ("T551", lambda a, s: change(s, bitmap=s.bitmap[:-1])),
}


@pytest.mark.parametrize(("code", "tell"), SURVIVOR_SETS.values(), ids=SURVIVOR_SETS)
@pytest.mark.parametrize("mode", ["malicious", "semi_honest"])
def test_a_client_refuses_a_survivor_set_where(
    code: str, tell: Callable[[Attack, Survivors], Message], mode: str
) -> None:
    attack = Attack(Survivors, tell, min_cohort=6, mode=mode, seed=SEED)  # type: ignore[arg-type]
    assert attack.refused() == code
    assert "client-0000" in {attack.names()[at] for at in attack.near()}


def signing(
    attack: Attack, confirmation: Confirmation, *, label: str = SURVIVORS, part: bytes
) -> Confirmation:
    """Let the same neighbours sign something else."""
    names, session = attack.names(), confirmation.session
    return change(
        confirmation,
        signatures=tuple(
            (at, attack.world.identities[names[at]].sign(label, session, part))
            for at, _ in confirmation.signatures
        ),
    )


def other_bitmap(attack: Attack) -> bytes:
    survivors = attack.told(Survivors)
    assert isinstance(survivors, Survivors)
    return flipped(survivors.bitmap)


def signatures_at(confirmation: Confirmation, places: Iterable[int]) -> Confirmation:
    return change(confirmation, signatures=tuple(confirmation.signatures[place] for place in places))


def by_a_stranger(attack: Attack, confirmation: Confirmation) -> Confirmation:
    """Give true signatures, one of them by a survivor that is no neighbour."""
    at, survivors = a_stranger_at(attack), attack.told(Survivors)
    assert isinstance(survivors, Survivors)
    identity = attack.world.identities[attack.names()[at]]
    signature = identity.sign(SURVIVORS, confirmation.session, survivors.bitmap)
    signatures = sorted((*confirmation.signatures[:3], (at, signature)))
    return change(confirmation, signatures=tuple(signatures))


def by_the_dead(attack: Attack, confirmation: Confirmation) -> Confirmation:
    """Give enough true signatures, one of them by a neighbour that is not in the sum."""
    at, survivors = no_dealer(attack), attack.told(Survivors)
    assert isinstance(survivors, Survivors)
    identity = attack.world.identities[attack.names()[at]]
    signature = identity.sign(SURVIVORS, confirmation.session, survivors.bitmap)
    return change(confirmation, signatures=tuple(sorted((*confirmation.signatures[:3], (at, signature)))))


CONFIRMATIONS: dict[str, tuple[str, Callable[[Attack, Confirmation], Message | Iterable[Message]]]] = {
    "another session": ("T555", lambda a, c: change(c, session=bytes(32))),
    "no signature": ("T559", lambda a, c: signatures_at(c, [])),
    "fewer signatures than the threshold": ("T559", lambda a, c: signatures_at(c, [0, 1, 2])),
    "one signature again and again": ("T559", lambda a, c: signatures_at(c, [0, 0, 0, 0])),
    "signatures of another survivor set": ("T559", lambda a, c: signing(a, c, part=other_bitmap(a))),
    "signatures of something else": ("T559", lambda a, c: signing(a, c, label=SESSION, part=survivors_of(a))),
    "a stranger's signature": ("T559", by_a_stranger),
    "a signature of who did not survive": ("T559", by_the_dead),
}


def survivors_of(attack: Attack) -> bytes:
    survivors = attack.told(Survivors)
    assert isinstance(survivors, Survivors)
    return survivors.bitmap


@pytest.mark.parametrize(("code", "tell"), CONFIRMATIONS.values(), ids=CONFIRMATIONS)
def test_a_client_refuses_a_confirmation_with(
    code: str, tell: Callable[[Attack, Confirmation], Message]
) -> None:
    attack = Attack(Confirmation, tell, seed=SEED)  # type: ignore[arg-type]
    assert attack.refused() == code


def twice(attack: Attack, message: Message) -> Iterable[Message]:
    return (message, message)


@pytest.mark.parametrize("kind", [Roster, Delivery])
def test_a_replayed_message_ends_the_client_s_part(kind: type[Message]) -> None:
    assert Attack(kind, twice).refused() == "T555"


@pytest.mark.parametrize("mode", ["malicious", "semi_honest"])
def test_a_client_never_answers_for_a_second_survivor_set(mode: str) -> None:
    def tell(attack: Attack, survivors: Message) -> Iterable[Message]:
        assert isinstance(survivors, Survivors)
        return (survivors, naming(survivors, alive_in(survivors) - {a_stranger_at(attack)}))

    attack = Attack(Survivors, tell, leaves={}, mode=mode)
    result = attack.playing.play()
    assert attack.playing.refusals[VICTIM].code == "T560"
    assert len(attack.sent(Unmask)) == (0 if mode == "malicious" else 1), "one answer, or none"
    assert isinstance(result, Summed)


def test_a_client_answers_once() -> None:
    attack = Attack(Confirmation, twice)
    attack.playing.play()
    assert attack.playing.refusals[VICTIM].code == "T560"
    assert len(attack.sent(Unmask)) == 1
    assert not any(map(any, secrets_of(attack.victim)))


def test_no_recorded_message_is_legal_in_any_other_state() -> None:
    order = ["idle", "advertised", "shared", "masking", "masked", "signed", "revealed", "left"]
    legal = {"advertised": Roster, "shared": Delivery, "masked": Survivors, "signed": Confirmation}
    again = {("signed", Survivors), ("revealed", Survivors), ("revealed", Confirmation)}
    for kind in legal.values():
        for state in order:
            if legal.get(state) is kind:
                continue
            client, message = client_at(state, kind)
            assert client.state == state
            with pytest.raises(RemoteProtocolError) as refusal:
                client.receive(message)  # type: ignore[arg-type]
            assert refusal.value.code == ("T560" if (state, kind) in again else "T555")
            assert client.state == "aborted"
            assert not any(map(any, secrets_of(client)))


def client_at(state: str, kind: type[Message]) -> tuple[SecureClient, Message]:
    """Return a client that stands at a state, and a message that was right in another group like its own."""
    played = Attack(Roster, lambda a, r: r)
    played.playing.play()
    message = played.told(kind)
    attack = Attack(Roster, lambda a, r: r)
    client = attack.victim
    if state == "idle":
        return client, message
    if state == "left":
        client.receive(Leave("is told to stop"))
        return client, message
    receive, reached = client.receive, {"was": False}

    def stop(event: object) -> object:
        if client.state == state or reached["was"]:
            reached["was"] = True
            return ()
        return receive(event)  # type: ignore[arg-type]

    client.receive = stop  # type: ignore[method-assign, assignment]
    attack.playing.play()
    del client.receive  # type: ignore[misc]
    return client, message


def test_every_message_after_the_end_is_refused_and_changes_nothing() -> None:
    attack = Attack(Roster, lambda a, r: change(r, threshold=1))  # type: ignore[call-arg]
    assert attack.refused() == "T556"
    complaint = attack.victim.complaint
    for kind in (Roster, Survivors):
        with pytest.raises(RemoteProtocolError, match="T555"):
            attack.victim.receive(attack.told(kind) if kind is Roster else Survivors(bytes(32), b"\xff\x0f"))  # type: ignore[arg-type]
    assert attack.victim.complaint is complaint


def pinned(world: World, **changed: object) -> SecureClient:
    return world.client(VICTIM, **changed)


def with_terms(world: World, **changed: object) -> SecureClient:
    return world.client(VICTIM, terms=change(world.terms, **changed))


TERMS: dict[str, Callable[[World], SecureClient]] = {
    "a smaller cohort than the device wants": lambda w: pinned(w, least_cohort=w.terms.min_cohort + 1),
    "fewer corrupt members than the device expects": lambda w: pinned(w, least_corrupt=0.2),
    "a mode without signatures where the device has pinned who may sign": lambda w: with_terms(
        w, mode="semi_honest"
    ),
    "signatures where the device has pinned nobody": lambda w: pinned(w, enrolment=None),
    "another enrolment": lambda w: pinned(w, enrolment=Authority.generate().enrolment(DAY)),
    "no enrolment": lambda w: with_terms(w, enrolment_root=b""),
    "signatures that the device cannot make": lambda w: pinned(w, certificate=None),
    "an identity without a certificate of its own": lambda w: pinned(w, identity=Identity.generate()),
    "a certificate without an identity": lambda w: pinned(w, identity=None),
    "other lanes": lambda w: pinned(w, ring=Ring((LaneGroup(size=8, bits=32),))),
}


@pytest.mark.parametrize("make", TERMS.values(), ids=TERMS)
def test_a_client_says_nothing_on_terms_with(make: Callable[[World], SecureClient]) -> None:
    client = make(make_world(6))
    with pytest.raises(RemoteProtocolError) as refusal:
        client.receive(Invited())
    assert refusal.value.code == "T556"
    assert client.state == "aborted"
    assert client.complaint is not None


def test_semi_honest_clients_send_neither_signatures_nor_certificates() -> None:
    attack = Attack(Roster, lambda a, r: r, mode="semi_honest")
    attack.playing.play()
    advert, (shares,) = own_advert(attack), attack.sent(Shares)
    assert isinstance(shares, Shares)
    assert (advert.signature, advert.certificate, shares.signature) == (b"", None, b"")
    assert not attack.sent(SurvivorSignature)


def test_what_is_not_legal_for_the_client_s_own_side_is_a_local_error_and_changes_nothing() -> None:
    client = make_world(6).client(VICTIM, entropy=GivenNonce(bytes(16)))
    with pytest.raises(LocalProtocolError, match="T512"):
        client.receive(RowReady())
    client.receive(Invited())
    with pytest.raises(LocalProtocolError, match="T512"):
        client.receive(Invited())
    assert client.state == "advertised"
    assert client.holds_secrets


def test_a_client_that_leaves_overwrites_what_it_holds() -> None:
    client = make_world(6).client("client-0001")
    client.receive(Invited())
    secrets = secrets_of(client)
    assert any(map(any, secrets))
    assert client.receive(Leave("is told to stop")) == (Closed("is told to stop"),)
    assert not client.holds_secrets
    assert not any(map(any, secrets))
    assert client.receive(Leave("again")) == ()


def test_an_honest_round_leaves_no_secret_in_a_client() -> None:
    attack = Attack(Roster, lambda a, r: r)
    kept = list[Secret]()
    attack.playing.to_client = lambda name, message: kept.extend(secrets_of(attack.victim)) or (message,)
    attack.playing.play()
    assert attack.victim.state == "revealed"
    assert len({id(secret) for secret in kept}) > 6, "seed, self mask and a share of each neighbour"
    assert not any(map(any, kept))


def test_a_masked_row_of_another_length_is_not_sent() -> None:
    client, _ = client_at("masking", Survivors)
    with pytest.raises(LocalProtocolError, match="T512"):
        client.receive(RowReady(np.zeros(3, np.uint64)))
    assert client.state == "aborted"
    assert not any(map(any, secrets_of(client)))


def test_who_masks_a_row_elsewhere_need_not_hand_it_over() -> None:
    client, _ = client_at("masking", Survivors)
    assert client.receive(RowReady()) == ()
    assert client.state == "masked"


def test_machines_and_effects_print_no_secret() -> None:
    client = make_world(6).client("client-0001")
    (sent,) = client.receive(Invited())
    secrets = [bytes(secret) for secret in secrets_of(client) if any(secret)]
    assert secrets
    printed = repr(client) + repr(sent) + repr(vars(client))
    for secret in secrets:
        assert secret.hex() not in printed
        assert repr(secret)[2:-1] not in printed
    assert isinstance(sent, Send)


def test_a_client_whose_row_is_on_its_way_keeps_nothing_but_its_neighbours_shares() -> None:
    client, _ = client_at("masked", Confirmation)
    kept = [secret for secret in secrets_of(client) if any(secret)]
    assert kept
    assert {len(secret) for secret in kept} == {2 * SHARE_BYTES}
    assert not any(isinstance(thing, RoundKeys) for thing in reachable(client))


def test_the_shares_that_a_client_deals_are_overwritten_once_they_are_sealed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sealed, seal = list[bytearray](), RoundKeys.seal_for

    def note(
        keys: RoundKeys,
        other: Advert,
        session: bytes,
        own: int,
        at: int,
        plaintext: bytearray,
        **named: object,
    ) -> bytes:
        assert any(plaintext)
        sealed.append(plaintext)
        return seal(keys, other, session, own, at, plaintext, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(RoundKeys, "seal_for", note)
    Attack(Roster, lambda a, r: r).playing.play()
    assert len(sealed) == CLIENTS * 6
    assert not any(map(any, sealed))
