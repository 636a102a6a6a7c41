"""Clients that have finished training form a group, and no update is in two sums."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.core.errors import LocalProtocolError, PlanError
from tacit.secagg.epoch_events import (
    CheckedIn,
    CheckInRefused,
    Committed,
    EpochEffect,
    EpochEnded,
    EpochRules,
    Left,
    OpenEpoch,
    WaitOver,
    WakeAfterWait,
    models_digest,
)
from tacit.secagg.epochs import Epochs
from tacit.secagg.terms import Terms
from tests.unit.secagg.epoch_setting import Setting, model


def check_in(epochs: Epochs, clients: Iterable[str], base: int) -> list[EpochEffect]:
    return [effect for client in clients for effect in epochs.receive(CheckedIn(client, base))]


def refusal(effects: Iterable[EpochEffect]) -> str:
    (refused,) = effects
    assert isinstance(refused, CheckInRefused)
    assert refused.error.code == "T567"
    assert refused.reason in refused.error.what
    return refused.reason


def test_an_epoch_opens_when_enough_clients_wait() -> None:
    epochs = Setting().epochs(versions=4)
    first, *nothing = check_in(epochs, "abcd", 2)
    assert first == WakeAfterWait(0)
    assert not nothing
    (opened,) = epochs.receive(CheckedIn("e", 3))
    assert isinstance(opened, OpenEpoch)
    assert opened.clients == tuple("abcde")
    assert epochs.open == {0: tuple("abcde")}
    assert not epochs.waiting


def test_its_terms_are_bound_to_its_number_to_its_version_and_to_every_model() -> None:
    epochs = Setting().epochs(versions=6)
    *_, opened = check_in(epochs, "abcde", 5)
    assert isinstance(opened, OpenEpoch)
    offer = opened.offer
    assert (offer.terms.round, offer.terms.base_round) == (5, 3)
    assert offer.models == ((3, model(3)), (4, model(4)), (5, model(5)))
    digests = {
        models_digest(number, models) for number in (0, 1) for models in (offer.models, offer.models[1:])
    }
    assert len(digests) == 4
    assert offer.terms.model_sha256 == models_digest(0, offer.models)


def test_every_epoch_has_an_assignment_of_its_own() -> None:
    setting = Setting()
    epochs = setting.epochs()
    check_in(epochs, "abcde", 0)
    check_in(epochs, "fghij", 0)
    assert len({terms.assignment_id for terms in setting.made}) == 2
    assert len({terms.model_sha256 for terms in setting.made}) == 2


def test_an_update_from_too_old_a_model_is_refused() -> None:
    epochs = Setting().epochs(versions=6, staleness=2)
    assert refusal(epochs.receive(CheckedIn("a", 2))) == "too stale"
    assert check_in(epochs, "a", 3) == [WakeAfterWait(0)]


@pytest.mark.parametrize("base", [-1, 1, 2**60])
def test_an_update_from_a_model_that_was_never_sent_is_refused(base: int) -> None:
    assert refusal(Setting().epochs().receive(CheckedIn("a", base))) == "unknown version"


def test_a_client_that_waits_until_it_is_too_stale_is_told_so() -> None:
    epochs = Setting().epochs(staleness=1)
    check_in(epochs, "ab", 0)
    assert epochs.receive(Committed(1, model(1))) == ()
    check_in(epochs, "c", 1)
    dropped = epochs.receive(Committed(2, model(2)))
    assert dropped == (CheckInRefused("a", "too stale"), CheckInRefused("b", "too stale"))
    assert list(epochs.waiting) == ["c"]


def test_a_client_waits_once_and_is_in_one_epoch_at_a_time() -> None:
    epochs = Setting().epochs(versions=2)
    check_in(epochs, "a", 0)
    assert refusal(epochs.receive(CheckedIn("a", 1))) == "waits already"
    check_in(epochs, "bcde", 0)
    assert refusal(epochs.receive(CheckedIn("a", 1))) == "in an open epoch"
    epochs.receive(EpochEnded(0, tuple("abcde")))
    assert refusal(epochs.receive(CheckedIn("a", 0))) == "spent"
    assert check_in(epochs, "a", 1) == [WakeAfterWait(1)]


def test_an_update_that_came_into_no_sum_may_come_again() -> None:
    epochs = Setting().epochs()
    check_in(epochs, "abcde", 0)
    epochs.receive(EpochEnded(0, tuple("abcd")))
    assert check_in(epochs, "e", 0) == [WakeAfterWait(1)]
    assert refusal(epochs.receive(CheckedIn("d", 0))) == "spent"
    check_in(epochs, "fghi", 0)
    epochs.receive(EpochEnded(1))
    *_, opened = check_in(epochs, "efghi", 0)
    assert isinstance(opened, OpenEpoch)
    assert opened.offer.number == 2


def test_when_the_wait_is_over_an_epoch_opens_with_fewer_but_not_with_too_few() -> None:
    epochs = Setting().epochs()
    check_in(epochs, "ab", 0)
    assert epochs.receive(WaitOver(0)) == (WakeAfterWait(0),)
    check_in(epochs, "c", 0)
    (opened,) = epochs.receive(WaitOver(0))
    assert isinstance(opened, OpenEpoch)
    assert opened.clients == ("a", "b", "c")
    assert epochs.receive(WaitOver(0)) == ()  # a clock that rings late opens nothing
    assert check_in(epochs, "de", 0) == [WakeAfterWait(1)]


def test_who_has_left_is_not_invited() -> None:
    epochs = Setting().epochs()
    check_in(epochs, "abcd", 0)
    epochs.receive(Left("b"))
    (*_, opened) = check_in(epochs, "ef", 0)
    assert isinstance(opened, OpenEpoch)
    assert opened.clients == tuple("acdef")


def test_when_nobody_waits_any_more_the_next_client_starts_the_clock_again() -> None:
    epochs = Setting().epochs()
    check_in(epochs, "a", 0)
    epochs.receive(Left("a"))
    assert epochs.receive(WaitOver(0)) == ()
    assert check_in(epochs, "b", 0) == [WakeAfterWait(0)]


def test_a_server_that_starts_again_knows_what_it_has_counted() -> None:
    setting = Setting()
    before = setting.epochs()
    check_in(before, "abcde", 0)
    before.receive(EpochEnded(0, tuple("abcde")))
    rules = EpochRules(5, min_cohort=3, max_staleness=2)
    after = Epochs(rules, {0: model(0)}, setting.terms, number=before.number, counted=before.counted)
    assert refusal(after.receive(CheckedIn("a", 0))) == "spent"
    assert check_in(after, "f", 0) == [WakeAfterWait(1)]


def test_what_was_counted_is_forgotten_when_nothing_as_old_is_taken_any_more() -> None:
    epochs = Setting().epochs(staleness=1)
    check_in(epochs, "abcde", 0)
    epochs.receive(EpochEnded(0, tuple("abcde")))
    epochs.receive(Committed(1, model(1)))
    assert set(epochs.counted) == set("abcde")
    epochs.receive(Committed(2, model(2)))
    assert not epochs.counted
    assert refusal(epochs.receive(CheckedIn("a", 0))) == "too stale"


@pytest.mark.parametrize(
    "event", [Committed(2, model(2)), Committed(1, b"short"), EpochEnded(0), EpochEnded(7)]
)
def test_what_the_driver_cannot_have_seen_is_refused(event: Committed | EpochEnded) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Setting().epochs().receive(event)
    assert caught.value.code == "T512"


def test_a_sum_of_others_than_the_members_is_no_end_of_an_epoch() -> None:
    epochs = Setting().epochs()
    check_in(epochs, "abcde", 0)
    with pytest.raises(LocalProtocolError):
        epochs.receive(EpochEnded(0, ("z",)))


@pytest.mark.parametrize(
    "change", [{"round": 9}, {"base_round": 1}, {"model_sha256": bytes(32)}, {"min_cohort": 2}]
)
def test_terms_of_another_epoch_are_refused_and_nobody_is_lost(change: dict[str, object]) -> None:
    setting = Setting()
    rules = EpochRules(3, min_cohort=3)

    def wrong(**words: object) -> Terms:
        return msgspec.structs.replace(setting.terms(**words), **change)  # type: ignore[arg-type]

    epochs = Epochs(rules, {0: model(0)}, wrong)
    with pytest.raises(LocalProtocolError) as caught:
        check_in(epochs, "abc", 0)
    assert caught.value.code == "T576"
    assert set(epochs.waiting) == set("abc")
    assert not epochs.open


@pytest.mark.parametrize(("size", "min_cohort"), [(9, 10), (2, 2)])
def test_an_epoch_that_can_never_open_is_refused(size: int, min_cohort: int) -> None:
    with pytest.raises(PlanError) as caught:
        EpochRules(size, min_cohort)
    assert caught.value.code == "T187"


@settings(max_examples=60)
@given(st.data())
def test_no_update_is_ever_in_two_sums_and_no_client_in_two_open_epochs(data: st.DataObject) -> None:
    setting = Setting()
    epochs = setting.epochs(size=4, staleness=2)
    updates: dict[int, dict[str, int]] = {}
    summed: list[tuple[str, int]] = []
    for _ in range(data.draw(st.integers(10, 80))):
        effects: tuple[EpochEffect, ...] = ()
        waiting = dict(epochs.waiting)
        match data.draw(st.sampled_from(["in", "in", "in", "in", "new", "left", "wait", "end"])):
            case "in":
                client, base = (
                    data.draw(st.sampled_from("abcdefghij")),
                    data.draw(st.integers(max(0, epochs.version - 3), epochs.version + 1)),
                )
                effects = epochs.receive(CheckedIn(client, base))
                waiting.setdefault(client, base)
            case "new":
                version = epochs.version + 1
                effects = epochs.receive(Committed(version, model(version)))
            case "left":
                epochs.receive(Left(data.draw(st.sampled_from("abcdefghij"))))
            case "wait":
                effects = epochs.receive(WaitOver(epochs.number))
            case "end" if epochs.open:
                number = data.draw(st.sampled_from(sorted(epochs.open)))
                survivors = tuple(data.draw(st.sets(st.sampled_from(sorted(updates[number])))))
                epochs.receive(EpochEnded(number, survivors))
                summed += [(client, updates[number][client]) for client in survivors]
        for effect in effects:
            if isinstance(effect, OpenEpoch):
                terms, members = effect.offer.terms, effect.clients
                assert 3 <= len(members) <= 4
                updates[effect.offer.number] = {client: waiting[client] for client in members}
                assert all(terms.base_round <= waiting[client] <= terms.round for client in members)
                assert terms.round - terms.base_round <= 2
        inside = [client for members in epochs.open.values() for client in members]
        assert len(inside) == len(set(inside))
        assert set(epochs.waiting).isdisjoint(inside)
    assert len(summed) == len(set(summed))
    assert sorted(updates) == list(range(epochs.number))
