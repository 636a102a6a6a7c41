"""Groups sum behind relays, and the relays sum under masks of their own: the root sees the whole alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import LocalProtocolError, PlanError
from tacit.secagg.events import ClientEvent, Closed, Gone, GroupFailed, Invited, Leave, Send, Step, Summed
from tacit.secagg.messages import Delivery, VectorChunk, VectorHead
from tacit.secagg.parameters import Mode
from tacit.secagg.relay import TOO_LARGE, Relay, relay_ring, relay_row, relay_terms
from tacit.secagg.ring import LaneGroup, Ring
from tacit.secagg.terms import Terms
from tests.unit.secagg.playing import Playing, World, make_world

CLIENTS, GROUPS = 5, 6
RING = Ring((LaneGroup(size=9, bits=16), LaneGroup(size=3, bits=32), LaneGroup(size=1, bits=40)))
ROOT = relay_ring(RING, GROUPS)
Row = npt.NDArray[np.int64]


def largest_row(sign: int = 1) -> Row:
    """Return the largest sum that a group's lanes hold, or the least."""
    values = [sign * 2 ** (group.bits - 1) - (sign > 0) for group in RING.lanes]
    return np.repeat(np.array(values, np.int64), [group.size for group in RING.lanes])


def summed(total: Row) -> Summed:
    return Summed(("a",), total, None)  # type: ignore[arg-type]


# --- the root's ring and terms ------------------------------------------------------------------------


def test_no_lane_of_the_root_runs_over_even_if_every_group_has_the_largest_sum() -> None:
    for sign in (1, -1):
        row = largest_row(sign)
        words = sum(
            (relay_row(summed(row), RING, ROOT) for _ in range(GROUPS)), np.zeros(ROOT.words, np.uint64)
        )
        assert np.array_equal(ROOT.unpack(words), GROUPS * row)


@given(
    bits=st.integers(2, 52),
    groups=st.integers(1, 2000),
    size=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums_of_groups_add_up_in_the_wider_lanes(bits: int, groups: int, size: int, seed: int) -> None:
    ring = Ring((LaneGroup(size, bits),))
    root, rng = relay_ring(ring, groups), np.random.default_rng(seed)
    rows = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (min(groups, 20), size))
    words = sum((root.pack(row) for row in rows), np.zeros(root.words, np.uint64))
    assert np.array_equal(root.unpack(words), rows.sum(axis=0))
    assert root.lanes[0].bits <= bits + groups.bit_length() + 1


def test_too_many_groups_for_the_lanes_are_refused() -> None:
    wide = Ring((LaneGroup(size=1, bits=60),))
    assert relay_ring(wide, 3).lanes[0].bits == 62
    with pytest.raises(PlanError) as caught:
        relay_ring(wide, 100)
    assert caught.value.code == "T189"


def test_the_roots_terms_are_another_assignment_with_the_same_model() -> None:
    terms = make_world(CLIENTS, ring=RING).terms
    root = relay_terms(terms, GROUPS, server_key=bytes(32))
    assert (root.round, root.model_sha256, root.min_cohort) == (terms.round, terms.model_sha256, 3)
    assert root.lanes == tuple((group.size, group.bits) for group in ROOT.lanes)
    assert root.settings_sha256 != terms.settings_sha256
    assert relay_terms(terms, 7, server_key=bytes(32)).settings_sha256 != root.settings_sha256
    assert relay_terms(terms, GROUPS, server_key=bytes(32), enrolment_root=bytes(32)).enrolment_root == bytes(
        32
    )


@pytest.mark.parametrize(("groups", "least"), [(2, 2), (6, 2), (6, 7)])
def test_a_sum_of_so_few_relays_that_it_hides_no_group_is_refused(groups: int, least: int) -> None:
    with pytest.raises(PlanError) as caught:
        relay_terms(make_world(CLIENTS, ring=RING).terms, groups, server_key=bytes(32), least=least)
    assert caught.value.code == "T187"


# --- a relay ------------------------------------------------------------------------------------------


def root_world(mode: Mode = "malicious", groups: int = GROUPS) -> World:
    """Set up the root's sum: relays are enrolled as clients are."""
    world = make_world(groups, mode=mode, ring=ROOT, seed=99)
    key = X25519PrivateKey.generate()
    terms = relay_terms(
        make_world(CLIENTS, mode=mode, ring=RING).terms,
        groups,
        server_key=key.public_key().public_bytes_raw(),
        enrolment_root=world.terms.enrolment_root,
    )
    return replace(world, terms=terms, server_private_key=key)


@pytest.mark.parametrize(
    "root", [RING, Ring(ROOT.lanes[:2]), Ring((LaneGroup(8, 60), *ROOT.lanes[1:])), relay_ring(ROOT, 4)]
)
def test_a_relay_refuses_lanes_that_are_not_those_of_its_group_made_wider(root: Ring) -> None:
    client = make_world(3, ring=RING).client("client-0000")
    if root == relay_ring(ROOT, 4):
        Relay(client, RING, root)
        return
    with pytest.raises(LocalProtocolError) as caught:
        Relay(client, RING, root)
    assert caught.value.code == "T576"


@pytest.mark.parametrize("lane", range(len(RING.lanes)))
@pytest.mark.parametrize("sign", [1, -1])
def test_a_group_whose_clients_sent_too_much_is_left_out_of_the_sum(lane: int, sign: int) -> None:
    world = root_world()
    relay = Relay(world.client(world.clients[0]), RING, ROOT)
    assert isinstance(relay.receive(Invited())[0], Send)
    total = np.zeros(RING.size, np.int64)
    total[sum(group.size for group in RING.lanes[:lane])] = sign * (2 ** (RING.lanes[lane].bits - 1) + 1)
    assert relay.receive(summed(total)) == (Closed(TOO_LARGE),)


def test_a_group_ends_once() -> None:
    world = root_world()
    relay = Relay(world.client(world.clients[0]), RING, ROOT)
    relay.receive(Invited())
    relay.receive(summed(largest_row()))
    for event in (summed(largest_row()), GroupFailed("too few clients came")):
        with pytest.raises(LocalProtocolError) as caught:
            relay.receive(event)
        assert caught.value.code == "T512"


# --- clients, relays, root ----------------------------------------------------------------------------


@dataclass
class Root(Playing):
    """The root's sum, in which each relay plays its group's sum when it has joined above.

    Attributes:
        groups: The group of each relay.
        early: Relays whose group is done before they have masks, not after.
    """

    groups: Mapping[str, Playing] = field(default_factory=dict)
    early: frozenset[str] = frozenset()

    def _tell(self, name: str, event: ClientEvent) -> None:
        if isinstance(event, Invited) and name in self.early:
            super()._tell(name, event)
            self._settle(name)
            return
        super()._tell(name, event)
        if isinstance(event, Delivery) and name not in self.early:
            self._settle(name)

    def _settle(self, name: str) -> None:
        for effect in self.clients[name].receive(self.groups[name].play()):  # type: ignore[arg-type]
            match effect:
                case Send(message):
                    self._send(name, [message])
                case Closed(reason) if reason:
                    self._gone.add(name)
                    self._serve(Gone(name, reason))


def play_levels(
    mode: Mode, leaves: Mapping[int, Mapping[str, Step]], *, early: int = 0, seed: int = 0
) -> tuple[Root, list[Playing]]:
    rng = np.random.default_rng(seed)
    worlds = [
        make_world(CLIENTS, mode=mode, ring=RING, group=i, groups=GROUPS, seed=i) for i in range(GROUPS)
    ]
    groups = [
        Playing(world, world.rows(rng, largest=1000), leaves=leaves.get(i, {}), random=Random(seed + i))
        for i, world in enumerate(worlds)
    ]
    above = root_world(mode)
    relays = {name: Relay(above.client(name), RING, ROOT) for name in above.clients}
    root = Root(
        above,
        {},
        clients=relays,  # type: ignore[arg-type]
        random=Random(seed),
        groups=dict(zip(above.clients, groups, strict=True)),
        early=frozenset(above.clients[:early]),
    )
    root.play()
    return root, groups


@pytest.mark.parametrize("mode", ["malicious", "semi_honest"])
@pytest.mark.parametrize("early", [0, 3, GROUPS])
def test_the_root_gets_the_exact_sum_of_all_who_survived_in_groups_that_did(mode: Mode, early: int) -> None:
    vanish: dict[int, dict[str, Step]] = {
        1: {"client-0002": "vector"},  # one client of a group
        4: dict.fromkeys(
            ("client-0000", "client-0001", "client-0003"), "shares"
        ),  # most of another: it fails
    }
    root, groups = play_levels(mode, vanish, early=early)
    assert isinstance(root.result, Summed)
    names = root.world.clients
    assert isinstance(groups[4].result, GroupFailed)
    assert root.result.survivors == tuple(name for i, name in enumerate(names) if i != 4)
    expected, there = np.zeros(RING.size, np.int64), 0
    for group in groups:
        if isinstance(group.result, Summed):
            expected += group.expected(group.result.survivors)
            there += len(group.result.survivors)
    assert there == 5 * CLIENTS - 1
    assert np.array_equal(root.result.total, expected)
    assert root.result.left[names[4]] == groups[4].result.reason
    assert not root.result.blamed


def test_two_levels_give_what_merging_the_groups_sums_gives() -> None:
    root, groups = play_levels("malicious", {}, seed=7)
    assert isinstance(root.result, Summed)
    merged = sum(
        (g.result.total for g in groups if isinstance(g.result, Summed)), np.zeros(RING.size, np.int64)
    )
    assert np.array_equal(root.result.total, merged)


def test_if_too_many_groups_fail_the_root_opens_nothing() -> None:
    fails: Mapping[str, Step] = dict.fromkeys(("client-0000", "client-0001", "client-0003"), "advert")
    root, _ = play_levels("malicious", dict.fromkeys(range(4), fails))
    assert isinstance(root.result, GroupFailed)


def test_the_root_is_sent_no_groups_sum() -> None:
    root, groups = play_levels("malicious", {}, early=2, seed=11)
    sent: dict[str, bytes] = dict.fromkeys(root.world.clients, b"")
    for name, is_up, message in root.transcript:
        if is_up and isinstance(message, VectorChunk):
            sent[name] += bytes(message.body)
    for name, group in zip(root.world.clients, groups, strict=True):
        assert isinstance(group.result, Summed)
        plain = ROOT.pack(group.result.total)
        masked = np.frombuffer(sent[name], "<u8")
        assert masked.shape == plain.shape
        assert (masked != plain).all()
        assert not any(np.array_equal(masked, other) for other in _vectors(root, but=name))


def _vectors(root: Playing, but: str) -> list[npt.NDArray[np.uint64]]:
    heads = [n for n, is_up, m in root.transcript if is_up and isinstance(m, VectorHead) and n != but]
    return [
        np.frombuffer(
            b"".join(
                bytes(m.body)
                for n, up, m in root.transcript
                if up and n == name and isinstance(m, VectorChunk)
            ),
            "<u8",
        )
        for name in heads
    ]


def test_a_relay_that_leaves_overwrites_its_groups_sum() -> None:
    world = root_world()
    relay = Relay(world.client(world.clients[0]), RING, ROOT)
    relay.receive(Invited())
    relay.receive(summed(largest_row()))
    (words,) = [value for value in vars(relay).values() if isinstance(value, np.ndarray)]
    assert words.any()
    assert relay.receive(Leave("stopped")) == (Closed("stopped"),)
    assert not words.any()
    assert not any(isinstance(value, np.ndarray) for value in vars(relay).values())


def test_a_sum_that_comes_after_the_relay_left_is_not_kept() -> None:
    world = root_world()
    relay = Relay(world.client(world.clients[0]), RING, ROOT)
    relay.receive(Invited())
    relay.receive(Leave("stopped"))
    assert relay.receive(summed(largest_row())) == ()
    assert not any(isinstance(value, np.ndarray) for value in vars(relay).values())


def test_the_relays_terms_are_read_as_any_terms() -> None:
    terms = root_world().terms
    assert Terms.from_bytes(terms.to_bytes()) == terms
