"""Who is asked: as far apart as promised, by a draw that nobody outside can repeat."""

import secrets
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.core.spec import COORDINATE_LIMIT
from tacit.privacy.mechanisms import Separation
from tacit.round import RoundDevice, RoundPolicy, RoundServer
from tacit.round.messages import (
    Assignment,
    AssignmentReceived,
    Opened,
    RoundClosed,
    SendAssignment,
    SendUpdates,
    TrainingDone,
)
from tacit.round.run import StartRound
from tacit.training import Trained
from tests.attacks.privacy_checks import check_device_separation, check_sampling, check_separation
from tests.rounds.private_runs import Machines, plan_of, play, private

CORRELATED = {"mechanism": tacit.BandedInverse(bands=2), "min_separation": 4}


# --- apart -------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [CORRELATED, {"min_separation": 4}], ids=["correlated", "independent"])
@pytest.mark.parametrize("cohort", [tacit.FixedSize(5), tacit.Poisson(rate=0.2)], ids=repr)
def test_nobody_is_asked_again_before_the_promised_distance(settings: Any, cohort: Any) -> None:
    plan = plan_of(private(**settings), clients=60, cohort=cohort, rounds=16, quorum=0.5)
    check_separation(plan)


def test_without_abandoned_rounds_everybody_comes_again_as_soon_as_they_may() -> None:
    plan = plan_of(private(**CORRELATED), clients=20, cohort=tacit.FixedSize(5), rounds=8)
    played = play(plan)
    cohorts = [set(record.invited) for record in played.rounds]
    assert all(cohorts[i] == cohorts[i + 4] for i in range(4))
    assert set.union(*cohorts[:4]) == {f"c{i}" for i in range(20)}


def test_who_vanished_or_failed_has_taken_part_as_far_as_anybody_knows() -> None:
    plan = plan_of(private(**CORRELATED), clients=40, cohort=tacit.FixedSize(9), rounds=1, quorum=0.1)
    broken = np.full(plan.parameters + 1, np.nan, dtype=np.float32)
    fine = np.zeros(plan.parameters + 1, dtype=np.float32)
    machines = Machines(
        plan,
        row_of=lambda client, number: broken if int(client[1:]) % 3 == 0 else fine,
        answers=lambda client, number: int(client[1:]) % 3 != 1,
    )
    played = machines.play()
    (record,) = played.rounds
    assert record.failed
    assert record.dropped
    assert set(played.state.took_part) == set(record.invited)


def test_the_server_itself_passes_over_who_may_not_be_asked() -> None:
    server = RoundServer(
        "job", 9, 0, tacit.All(), RoundPolicy(), plan_of(private()).rule, step=6,
        separation=Separation(min_separation=4), took_part={"a": 3, "b": 2, "c": 6, "d": 9},
    )  # fmt: skip
    (sent,) = server.receive(Opened(tuple("abcde")), 0.0)
    assert isinstance(sent, SendAssignment)
    assert sent.clients == ("b", "e")
    assert sent.positions == (1, 4)
    assert (sent.assignment.step, sent.assignment.min_separation) == (6, 4)


def test_where_too_few_are_left_those_who_are_left_are_asked() -> None:
    plan = plan_of(private(**CORRELATED), clients=22, cohort=tacit.FixedSize(5), rounds=4, quorum=0.2)
    played = play(plan, answers=lambda client, number: number != 3)
    assert [len(record.invited) for record in played.rounds] == [5, 5, 5, 5, 2]
    assert played.rounds[-1].outcome == "committed"


def test_where_nobody_is_left_the_run_ends_and_says_so() -> None:
    plan = plan_of(private(**CORRELATED), clients=20, cohort=tacit.FixedSize(5), rounds=4)
    played = play(plan, answers=lambda client, number: number in (1, 3))
    assert played.end is not None
    assert played.end.outcome == "failed"
    assert "abandoned" in played.end.reason


def test_only_those_are_remembered_who_are_still_barred() -> None:
    plan = plan_of(private(**CORRELATED), clients=60, cohort=tacit.FixedSize(5), rounds=14)
    state = play(plan).state
    assert sorted(state.took_part.values()) == [10] * 5 + [11] * 5 + [12] * 5 + [13] * 5


def test_no_more_steps_are_released_than_were_accounted_for() -> None:
    plan = plan_of(private(**CORRELATED), clients=20, cohort=tacit.FixedSize(5), rounds=4)
    machines = Machines(plan)
    end = machines.play().state
    release = machines.run._release  # noqa: SLF001 - asked for more than a run ever does
    assert release is not None
    with pytest.raises(LocalProtocolError, match="all 4 steps"):
        release.release(plan.rule.empty(plan.grid), end)


# --- the device's side -------------------------------------------------------------------------


def device_of(**settings: Any) -> RoundDevice:
    plan = plan_of(private(**(CORRELATED | settings)), clients=40, cohort=tacit.FixedSize(5))
    return RoundDevice(plan.codec, 0)


def asked(device: RoundDevice, number: int, step: int | None, least: int = 4, value: float = 0.0) -> bool:
    """Ask a device for a step; tell whether something has left it."""
    device.receive(AssignmentReceived(Assignment("small", number, None, True, None, step, least), ("c0",)))
    rows = np.full((1, 38), value, dtype=np.float32)
    (sent,) = device.receive(TrainingDone(Trained(("c0",), rows, (3,))))
    assert isinstance(sent, SendUpdates)
    return bool(sent.clients)


def refused(device: RoundDevice, number: int, step: int | None, least: int = 4) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        asked(device, number, step, least)
    assert caught.value.code == "T529"


def test_a_device_answers_no_step_that_comes_too_soon() -> None:
    check_device_separation(plan_of(private(**CORRELATED), clients=40, cohort=tacit.FixedSize(5)))


@pytest.mark.parametrize(("step", "least"), [(2, 1), (2, 2), (None, 4), (None, 1), (-5, 4)])
def test_a_server_cannot_take_its_promise_back(step: int | None, least: int) -> None:
    device = device_of()
    assert asked(device, 1, 1)
    refused(device, 2, step, least)
    assert asked(device, 3, 5)


def test_a_larger_distance_than_before_counts_at_once() -> None:
    device = device_of()
    assert asked(device, 1, 0, least=2)
    refused(device, 2, 5, least=6)
    assert asked(device, 3, 6, least=6)


def test_a_refused_assignment_is_not_under_way() -> None:
    device = device_of()
    assert asked(device, 1, 0)
    refused(device, 2, 1)
    with pytest.raises(LocalProtocolError):
        device.receive(TrainingDone(Trained((), np.zeros((0, 38), dtype=np.float32), ())))


def test_what_never_left_the_device_does_not_count() -> None:
    device = device_of()
    assert not asked(device, 1, 0, value=2 * COORDINATE_LIMIT)
    assert asked(device, 2, 1)


def test_without_a_promise_every_step_is_answered() -> None:
    device = RoundDevice(plan_of(private()).codec, 0)
    assert asked(device, 1, 0, least=1)
    assert asked(device, 2, 0, least=1)
    assert asked(device, 3, None, least=1)


# --- the draw ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cohort", [tacit.Poisson(rate=0.2), tacit.Poisson(rate=1.0), tacit.TruncatedPoisson(rate=0.3, cap=9)]
)
def test_a_claimed_sample_is_the_one_that_is_drawn(cohort: Any) -> None:
    check_sampling(lambda clients: plan_of(private(), clients=clients, cohort=cohort, rounds=100))


def cohorts(randomness: str, seed: int = 3) -> list[tuple[str, ...]]:
    settings = private(randomness=randomness)
    plan = plan_of(settings, clients=30, cohort=tacit.Poisson(rate=0.3), rounds=5, seed=seed)
    return [record.invited for record in play(plan).rounds]


def test_who_is_drawn_does_not_follow_from_the_job() -> None:
    assert cohorts("seeded") == cohorts("seeded") != cohorts("seeded", seed=4)
    assert len({tuple(cohorts(randomness)) for randomness in ("system", "system", "seeded")}) == 3


def test_the_secret_of_the_draw_is_as_long_as_a_key() -> None:
    seeds = [Machines(plan_of(private(randomness="system"))).run.cohort_seed for _ in range(64)]
    assert len(set(seeds)) == 64
    assert max(seeds).bit_length() > 120


def test_nothing_that_is_printed_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    seed, key = 0x1234567890ABCDEF1234567890ABCDEF, bytes(range(65, 97))
    monkeypatch.setattr(secrets, "randbits", lambda bits: seed)
    monkeypatch.setattr("tacit.privacy.noise.keys.os.urandom", lambda size: key)
    settings = private(randomness="system", **CORRELATED)
    machines = Machines(plan_of(settings, clients=40, cohort=tacit.FixedSize(5)))
    assert machines.run.cohort_seed == seed
    effects = [effect for effect in machines.run.begin() if isinstance(effect, StartRound)]
    played = machines.play()
    assert played.state.key == key
    shown = [machines.run, machines.run.snapshot(), played.state, played.state.past, effects, played]
    shown += [machines.run._next(), machines.run._release]  # noqa: SLF001 - all that a log could print
    for text in map(repr, shown):
        assert str(seed) not in text
        assert f"{seed:x}" not in text.lower()
        assert repr(key)[2:-1] not in text
        assert key.hex() not in text


def test_an_empty_cohort_closes_the_round_at_once_and_is_not_abandoned() -> None:
    plan = plan_of(private(), clients=3, cohort=tacit.Poisson(rate=1 / 3), rounds=1)
    server = RoundServer("job", 1, 0, plan.job.cohort, plan.job.policy, plan.rule, plan.grid.size)
    (closed,) = server.receive(Opened(()), 2.0)
    assert isinstance(closed, RoundClosed)
    assert closed.record.outcome == "committed"
    assert closed.partial is not None
    assert closed.partial.clients == 0
    assert not closed.partial.total.any()
