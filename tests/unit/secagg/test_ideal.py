"""The ideal by itself, in cases small enough to work out by hand; that the machines agree is tested there."""

from collections.abc import Mapping

import pytest

from tacit.secagg.events import REASONS, Step
from tacit.secagg.graph import neighbours
from tacit.secagg.ideal import Fate, fate
from tacit.secagg.parameters import GroupParameters, Mode, Threat, find_parameters
from tests.unit.secagg.playing import make_world

FIVE = ("a", "b", "c", "d", "e")


def of_five(leaves: Mapping[str, Step], *, mode: Mode = "malicious", min_cohort: int = 2) -> Fate:
    """Return the fate of five who are all neighbours, where any three of a member's four open its secrets."""
    terms = make_world(5, mode=mode).terms
    nonces = {client: bytes(16) for client in FIVE}
    threat = Threat(terms.corrupt, terms.dropout, mode)

    def find(clients: int, threat: Threat) -> GroupParameters:
        return GroupParameters(clients, clients - 1, 3) if clients > 3 else find_parameters(clients, threat)

    return fate(FIVE, nonces, terms, leaves, threat, min_cohort, find)


def test_when_all_stay_all_are_in_the_sum() -> None:
    assert of_five({}) == Fate(FIVE)


@pytest.mark.parametrize("step", ["advert", "shares", "vector"])
def test_who_leaves_before_its_vector_is_not_in_the_sum(step: Step) -> None:
    assert of_five({"b": step}) == Fate(("a", "c", "d", "e"))


@pytest.mark.parametrize("step", ["signature", "unmask"])
@pytest.mark.parametrize("mode", ["malicious", "semi_honest"])
def test_who_leaves_after_its_vector_is_in_the_sum(step: Step, mode: Mode) -> None:
    assert of_five({"b": step}, mode=mode) == Fate(FIVE)


def test_two_who_leave_before_the_end_leave_too_few_shares_of_the_others() -> None:
    # Of "a" there are shares at "b" to "e"; without two of these only two are left, and three are needed.
    assert of_five({"b": "unmask", "c": "unmask"}) == Fate(reason=REASONS["unmask"])
    assert of_five({"b": "signature", "c": "signature"}) == Fate(reason=REASONS["signature"])
    assert of_five({"b": "signature", "c": "unmask"}) == Fate(reason=REASONS["unmask"])
    assert of_five({"b": "signature", "c": "unmask"}, mode="semi_honest") == Fate(reason=REASONS["unmask"])


def test_two_who_leave_before_their_vectors_leave_too_few_neighbours() -> None:
    assert of_five({"b": "vector", "c": "vector"}) == Fate(reason=REASONS["vector"])


def test_two_who_deal_no_shares_leave_too_few_to_open_anything() -> None:
    assert of_five({"b": "shares", "c": "shares"}) == Fate(reason=REASONS["shares"])


def test_fewer_than_the_least_cohort_have_no_sum_whatever_is_left_of_them() -> None:
    steps: tuple[Step, ...] = ("advert", "shares", "vector")
    for step in steps:
        assert of_five({"b": step}, min_cohort=5) == Fate(reason=REASONS[step])
        assert of_five({"b": step}, min_cohort=4) == Fate(("a", "c", "d", "e"))
    assert of_five({"b": "unmask"}, min_cohort=5) == Fate(FIVE)


def test_two_clients_never_have_a_sum() -> None:
    assert of_five(dict.fromkeys("abc", "advert"), min_cohort=2) == Fate(reason=REASONS["advert"])


def test_a_member_whose_neighbours_deal_no_shares_counts_as_one_who_dealt_none_itself() -> None:
    clients = tuple(f"{i:02}" for i in range(12))
    nonces = {client: bytes([i]) * 16 for i, client in enumerate(clients)}
    terms = make_world(12).terms
    graph = neighbours(12, 6, terms.graph_seed(nonces.items()))
    # Three of the first's six neighbours deal nothing, so that it has fewer than four of them.
    leaves: dict[str, Step] = {clients[at]: "shares" for at in graph[0][:3]}
    threat = Threat(0.1, 0.1, "malicious")
    found = fate(clients, nonces, terms, leaves, threat, 2, lambda n, _: GroupParameters(n, 6, 4))
    assert clients[0] not in found.survivors
