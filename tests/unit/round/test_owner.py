"""A device asks its owner's floor before it trains, and its own record of what it took part in."""

import numpy as np
import pytest

import tacit
from tacit.core.errors import RemoteProtocolError
from tacit.job import Plan, make_plan, model_seed
from tacit.privacy.accounting import epsilon
from tacit.privacy.floor import DeviceRecord, Floor
from tacit.round import EvaluationRecord, RoundDevice, Run, Snapshot
from tacit.round.messages import Assignment, AssignmentReceived, Opened, SendAssignment, Train
from tacit.round.owner import Owner
from tacit.round.run import Evaluated, StartRound
from tacit.training.flat import build
from tests.rounds import worlds

CLIENTS = tuple(f"c{number}" for number in range(16))


def plan(**privacy: object) -> Plan:
    known = {"unit": "user", "epsilon": 2.0, "delta": 1e-4} | privacy
    job = worlds.job(privacy=tacit.Privacy(**known), cohort=tacit.All())  # type: ignore[arg-type]
    return make_plan(job, build(job.task, model_seed(job)).layout, np.full(len(CLIENTS), 10))


def assigned(made: Plan) -> Assignment:
    """Return the assignment that the run's own machines send for the first round."""
    run = Run(made.run_settings(), Snapshot(0, 0, 0, 0.0, np.zeros(made.layout.size, np.float32)))
    run.begin()
    (effect,) = run.receive(Evaluated(EvaluationRecord(round=0)))
    assert isinstance(effect, StartRound)
    sent = next(e for e in effect.server.receive(Opened(CLIENTS), 0.0) if isinstance(e, SendAssignment))
    return sent.assignment


def device(made: Plan, floor: Floor, record: DeviceRecord | None = None) -> tuple[RoundDevice, Owner]:
    owner = Owner(floor, epsilon, record)
    return RoundDevice(made.codec, seed=0, owner=owner), owner


@pytest.mark.parametrize(
    ("floor", "rule"),
    [
        (Floor(max_epsilon=1.0, max_delta=1e-3), "max_epsilon"),
        (Floor(max_delta=1e-6), "max_delta"),
        (Floor(trust=("local",)), "trust"),
        (Floor(min_cohort=50), "min_cohort"),
        (Floor(max_delta=1e-3, period_epsilon=0.1), "period_epsilon"),
    ],
)
def test_a_round_below_the_floor_is_refused_before_training_and_the_rule_is_named(
    floor: Floor, rule: str
) -> None:
    made = plan()
    guarded, owner = device(made, floor)
    with pytest.raises(RemoteProtocolError, match=rule):
        guarded.receive(AssignmentReceived(assigned(made), ("c1",)))
    assert owner.record == DeviceRecord()


def test_what_was_taken_part_in_is_noted_before_anything_is_trained() -> None:
    made = plan()
    guarded, owner = device(made, Floor(max_epsilon=2.1, max_delta=1e-3))
    assert guarded.receive(AssignmentReceived(assigned(made), ("c1",), day=7)) == (Train(("c1",)),)
    (taken,) = owner.record.participations
    assert (taken.day, taken.offer.step, taken.offer.steps) == (7, 0, made.job.rounds)


def test_the_devices_own_record_counts_and_not_what_the_server_says() -> None:
    made = plan()
    spent_already = device(made, Floor(max_delta=1e-3))[1]
    for _ in range(made.job.rounds):
        spent_already.note(assigned(made).offer, day=1)
    floor = Floor(max_delta=1e-4, period_epsilon=2.0)
    guarded, _ = device(made, floor, spent_already.record)
    with pytest.raises(RemoteProtocolError, match="period_epsilon"):
        guarded.receive(AssignmentReceived(assigned(made), ("c1",), day=2))
    later, _ = device(made, floor, spent_already.record)
    assert later.receive(AssignmentReceived(assigned(made), ("c1",), day=1 + 365)) == (Train(("c1",)),)


def test_a_job_that_promises_nothing_is_refused_where_something_is_demanded() -> None:
    made = plan()
    nothing = Assignment("small", 1, None, partial_work=True)
    guarded, _ = device(made, Floor(unit="user"))
    with pytest.raises(RemoteProtocolError, match="T520"):
        guarded.receive(AssignmentReceived(nothing, ("c1",)))
    free, _ = device(made, Floor())
    assert free.receive(AssignmentReceived(nothing, ("c1",))) == (Train(("c1",)),)
