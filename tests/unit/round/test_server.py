"""The server's side of one round: transcripts of every path, and random ones."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tacit.aggregate import WeightedMean
from tacit.core.cohort import All, Cohort, FixedSize, Poisson
from tacit.core.errors import LocalProtocolError, PlanError, RemoteProtocolError
from tacit.core.rule import Partial
from tacit.round import RoundPolicy, RoundRecord, RoundServer
from tacit.round.messages import (
    ClientFailed,
    ClientsDropped,
    DeadlinePassed,
    Opened,
    RoundClosed,
    SendAssignment,
    ServerEffect,
    ServerEvent,
    UpdatesReceived,
    WakeAt,
)

NAMES = tuple("abcdefgh")


def server(cohort: Cohort = All(), *, number: int = 4, **policy: object) -> RoundServer:
    return RoundServer("job", number, 0, cohort, RoundPolicy(**policy), WeightedMean())  # type: ignore[arg-type]


def opened(cohort: Cohort = All(), clients: tuple[str, ...] = NAMES[:4], **policy: object) -> RoundServer:
    machine = server(cohort, **policy)
    machine.receive(Opened(clients), 10.0)
    return machine


def number_of(client: str) -> int:
    """Give each client its own bit, so that a sum says who is in it."""
    return 1 << NAMES.index(client)


def update(*clients: str, partial_work: tuple[str, ...] = ()) -> UpdatesReceived:
    total = np.array([sum(map(number_of, clients))], dtype=np.int64)
    return UpdatesReceived(clients, Partial(total, len(clients)), partial_work)


def closing(effects: tuple[ServerEffect, ...]) -> tuple[RoundRecord, int | None]:
    """Return the record, and the sum or None if the round was abandoned."""
    (closed,) = effects
    assert isinstance(closed, RoundClosed)
    return closed.record, None if closed.partial is None else int(closed.partial.total[0])


# --- opening -----------------------------------------------------------------------------------


def test_opening_sends_the_assignment_to_the_cohort_and_asks_to_be_woken() -> None:
    sent, wake = server(deadline_s=5.0, partial_work=False).receive(Opened(NAMES), 10.0)
    assert isinstance(sent, SendAssignment)
    assert (sent.positions, sent.clients) == (tuple(range(8)), NAMES)
    assert sent.assignment.round == 4
    assert sent.assignment.deadline_s == 15.0
    assert not sent.assignment.partial_work
    assert wake == WakeAt(15.0)


def test_without_a_deadline_nobody_is_woken() -> None:
    (sent,) = server().receive(Opened(NAMES), 10.0)
    assert isinstance(sent, SendAssignment)
    assert sent.assignment.deadline_s is None


def test_positions_and_ids_of_a_cohort_belong_together_and_follow_from_seed_and_round() -> None:
    def drawn(number: int) -> SendAssignment:
        (sent,) = server(FixedSize(3), number=number).receive(Opened(NAMES), 0.0)
        assert isinstance(sent, SendAssignment)
        return sent

    assert drawn(1) == drawn(1)
    assert len({drawn(number).clients for number in range(20)}) > 5
    assert all(drawn(n).clients == tuple(NAMES[p] for p in drawn(n).positions) for n in range(20))


def test_an_empty_cohort_is_abandoned_at_once() -> None:
    machine = server(Poisson(rate=1e-12))
    record, total = closing(machine.receive(Opened(NAMES), 3.0))
    assert (record.outcome, record.reason, total) == ("abandoned", "nobody was invited", None)
    assert (record.invited, record.opened_s, record.closed_s) == ((), 3.0, 3.0)
    assert closing(server().receive(Opened(()), 0.0))[0].outcome == "abandoned"


def test_a_population_too_small_for_the_cohort_is_a_plan_error() -> None:
    with pytest.raises(PlanError):
        server(FixedSize(9)).receive(Opened(NAMES), 0.0)


# --- collecting and closing --------------------------------------------------------------------


def test_a_round_commits_when_everybody_has_answered() -> None:
    machine = opened()
    assert machine.receive(update("b"), 11.0) == ()
    assert machine.receive(update("d", "a", partial_work=("d",)), 12.0) == ()
    record, total = closing(machine.receive(update("c"), 13.0))
    assert total == 0b1111
    assert record == RoundRecord(
        round=4,
        outcome="committed",
        reason="",
        invited=("a", "b", "c", "d"),
        answered=("a", "b", "c", "d"),
        partial_work=("d",),
        opened_s=10.0,
        closed_s=13.0,
    )


def test_a_round_commits_when_nobody_is_left_who_could_answer_and_the_quorum_is_met() -> None:
    machine = opened()
    machine.receive(update("a", "c"), 11.0)
    assert machine.receive(ClientFailed("b", "no data"), 12.0) == ()
    record, total = closing(machine.receive(ClientsDropped(("d",)), 13.0))
    assert (record.outcome, total) == ("committed", 0b0101)
    assert (record.failed, record.dropped) == ({"b": "no data"}, ("d",))


def test_a_round_below_its_quorum_is_abandoned_and_lets_nothing_out() -> None:
    machine = opened()
    machine.receive(update("a"), 11.0)
    record, total = closing(machine.receive(ClientsDropped(("b", "c", "d")), 12.0))
    assert (record.outcome, record.reason) == ("abandoned", "1 of at least 2 clients answered")
    assert (record.answered, total) == (("a",), None)


@pytest.mark.parametrize(
    ("quorum", "needed"), [(0.01, 1), (0.25, 1), (0.3, 2), (0.5, 2), (0.75, 3), (1.0, 4)]
)
def test_the_quorum_is_a_share_of_the_wanted_updates_rounded_up(quorum: float, needed: int) -> None:
    for answers in range(5):
        machine = opened(quorum=quorum)
        for client in NAMES[:answers]:
            effects = machine.receive(update(client), 11.0)
        if answers < 4:
            effects = machine.receive(DeadlinePassed(), 12.0)
        record, total = closing(effects)
        assert (record.outcome == "committed") == (total is not None) == (answers >= needed)


def test_a_deadline_closes_the_round_and_names_the_late() -> None:
    machine = opened(deadline_s=5.0)
    machine.receive(update("a", "b"), 11.0)
    record, total = closing(machine.receive(DeadlinePassed(), 15.0))
    assert (record.outcome, record.late, total) == ("committed", ("c", "d"), 0b0011)
    assert record.closed_s == 15.0


def test_over_selection_closes_with_the_last_wanted_update_and_counts_no_more() -> None:
    machine = opened(FixedSize(2, over_selection=2.0))
    assert machine.missing == 2
    assert machine.receive(update("c"), 11.0) == ()
    assert machine.missing == 1
    record, total = closing(machine.receive(update("a"), 12.0))
    assert (record.answered, record.late, total) == (("a", "c"), ("b", "d"), 0b0101)
    assert machine.missing == 0
    with pytest.raises(RemoteProtocolError) as caught:
        machine.receive(update("b"), 13.0)
    assert caught.value.code == "T511"


def test_over_selections_quorum_counts_what_is_wanted_not_what_was_invited() -> None:
    machine = opened(FixedSize(2, over_selection=2.0), quorum=1.0)
    machine.receive(ClientsDropped(("a", "b")), 11.0)
    machine.receive(update("c"), 12.0)
    assert closing(machine.receive(update("d"), 13.0))[1] == 0b1100


# --- what is refused, and the round goes on ----------------------------------------------------


def refused(machine: RoundServer, event: ServerEvent, code: str, kind: type = RemoteProtocolError) -> None:
    with pytest.raises(kind) as caught:
        machine.receive(event, 11.0)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (update("h"), "T515"),  # a stranger
        (update("b", "b"), "T515"),  # twice in one sum
        (update("b", "h"), "T515"),  # a stranger beside a client
        (update("a"), "T515"),  # has answered already
        (update("c", "a"), "T515"),
        (UpdatesReceived(("b", "c"), update("b").partial), "T513"),  # one update for two
        (UpdatesReceived(("b",), update("b", "c").partial), "T513"),  # two updates under one name
        (UpdatesReceived((), update("b").partial), "T513"),  # an update under no name
        (ClientFailed("a", "after all not"), "T515"),
        (ClientFailed("h", "not invited"), "T515"),
        (ClientsDropped(("b", "a")), "T515"),
    ],
)
def test_an_illegal_event_is_refused_and_changes_nothing(event: ServerEvent, code: str) -> None:
    machine = opened()
    machine.receive(update("a"), 11.0)
    refused(machine, event, code)
    record, total = closing(machine.receive(update("b", "c", "d"), 12.0))
    assert (total, record.answered) == (0b1111, ("a", "b", "c", "d"))
    assert (record.failed, record.dropped, record.late) == ({}, (), ())


def test_more_updates_than_are_wanted_are_refused_whole() -> None:
    machine = opened(FixedSize(2, over_selection=2.0))
    machine.receive(update("a"), 11.0)
    refused(machine, update("b", "c"), "T514")
    assert closing(machine.receive(update("c"), 12.0))[1] == 0b0101


def test_a_sum_of_another_length_is_refused_and_the_round_goes_on() -> None:
    machine = opened()
    machine.receive(update("a"), 11.0)
    wrong = UpdatesReceived(("b",), Partial(np.zeros(2, dtype=np.int64), 1))
    refused(machine, wrong, "T503", LocalProtocolError)
    assert closing(machine.receive(update("b", "c", "d"), 12.0))[1] == 0b1111


@pytest.mark.parametrize("event", [update("a"), ClientFailed("a", "x"), DeadlinePassed()])
def test_nothing_is_legal_before_the_round_is_open(event: ServerEvent) -> None:
    refused(server(), event, "T512", LocalProtocolError)


def test_a_round_opens_once() -> None:
    machine = opened()
    refused(machine, Opened(NAMES), "T512", LocalProtocolError)
    machine.receive(DeadlinePassed(), 12.0)
    refused(machine, Opened(NAMES), "T512", LocalProtocolError)


@pytest.mark.parametrize("answered", [0, 3])
def test_what_clients_send_after_the_close_is_refused_as_their_fault(answered: int) -> None:
    machine = opened()
    for client in NAMES[:answered]:
        machine.receive(update(client), 11.0)
    machine.receive(DeadlinePassed(), 12.0)
    refused(machine, update("d"), "T511")
    refused(machine, ClientFailed("d", "no battery"), "T511")


def test_the_call_back_of_a_deadline_may_come_after_an_early_close() -> None:
    machine = opened(deadline_s=5.0)
    machine.receive(update("a", "b", "c", "d"), 11.0)
    assert machine.receive(DeadlinePassed(), 15.0) == ()
    assert machine.phase == "committed"


# --- any order of events -----------------------------------------------------------------------

clients = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(tuple)


class AnyRound(RuleBasedStateMachine):
    """Whatever arrives in whatever order, the promises of a round hold."""

    @initialize(
        cohort=st.sampled_from([All(), FixedSize(2, over_selection=2.0), FixedSize(5), Poisson(rate=0.5)]),
        quorum=st.sampled_from([0.1, 0.5, 1.0]),
        seed=st.integers(0, 50),
    )
    def begin(self, cohort: Cohort, quorum: float, seed: int) -> None:
        policy = RoundPolicy(quorum=quorum, deadline_s=9.0)
        self.machine = RoundServer("job", 1, seed, cohort, policy, WeightedMean())
        self.closed: list[RoundClosed] = []
        self.accepted: list[str] = []
        self.invited: tuple[str, ...] = ()
        self.cohort, self.policy = cohort, policy
        self.tell(Opened(NAMES))

    def tell(self, event: ServerEvent) -> bool:
        try:
            effects = self.machine.receive(event, 0.0)
        except RemoteProtocolError:
            return False
        for effect in effects:
            if isinstance(effect, SendAssignment):
                self.invited = effect.clients
            if isinstance(effect, RoundClosed):
                self.closed.append(effect)
        return True

    @rule(who=clients)
    def answer(self, who: tuple[str, ...]) -> None:
        if self.tell(update(*who)):
            self.accepted += who

    @rule(who=clients, claimed=clients)
    def lie_about_the_count(self, who: tuple[str, ...], claimed: tuple[str, ...]) -> None:
        if len(who) != len(claimed):
            assert not self.tell(UpdatesReceived(claimed, update(*who).partial))

    @rule(who=st.sampled_from(NAMES))
    def fail(self, who: str) -> None:
        self.tell(ClientFailed(who, "x"))

    @precondition(lambda self: not self.closed)
    @rule(who=clients)
    def drop(self, who: tuple[str, ...]) -> None:
        self.tell(ClientsDropped(who))

    @precondition(lambda self: len(self.accepted) > 1 or self.closed)
    @rule()
    def deadline(self) -> None:
        self.tell(DeadlinePassed())

    @invariant()
    def it_closes_at_most_once_and_when_it_must(self) -> None:
        assert len(self.closed) <= 1
        assert bool(self.closed) == (self.machine.phase in ("committed", "abandoned"))

    @invariant()
    def nobody_is_counted_twice_and_no_stranger_at_all(self) -> None:
        assert len(set(self.accepted)) == len(self.accepted)
        assert set(self.accepted) <= set(self.invited)

    @invariant()
    def it_commits_exactly_when_the_quorum_is_met_and_the_sum_holds_who_answered(self) -> None:
        for closed in self.closed:
            record, partial = closed.record, closed.partial
            wanted = self.cohort.wanted(len(self.invited))
            assert list(record.answered) == sorted(self.accepted)
            assert len(record.answered) <= wanted
            met = len(record.answered) >= self.policy.least(wanted)
            assert (record.outcome == "committed") == met == (partial is not None)
            if partial is not None:
                assert int(partial.total[0]) == sum(map(number_of, record.answered))
                assert partial.clients == len(record.answered)

    @invariant()
    def every_invited_client_is_accounted_for_once(self) -> None:
        for closed in self.closed:
            record = closed.record
            everybody = [*record.answered, *record.failed, *record.dropped, *record.late]
            assert sorted(everybody) == sorted(record.invited)


TestAnyRound = AnyRound.TestCase
TestAnyRound.settings = settings(max_examples=150, stateful_step_count=12, deadline=None)
