"""A round whose sums are secure, as it is deployed: real training, a device per client, bytes in between."""

import hashlib
from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from torch import nn

import tacit
from tacit.algorithms import FedAvg
from tacit.core.cohort import All
from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.core.examples import Examples
from tacit.core.local import LocalSGD
from tacit.core.rule import Partial
from tacit.job import Job, Plan, make_plan
from tacit.round import RoundServer
from tacit.round.messages import ClientFailed, ClientsDropped, Opened, ServerEvent, UpdatesReceived
from tacit.round.record import RoundRecord
from tacit.round.secure import GroupEvent, VectorsReceived
from tacit.secagg.events import REASONS, STEPS, Gone, Leave, Received, Step
from tacit.secagg.ideal import Fate, fate
from tacit.secagg.messages import Complaint
from tacit.secagg.parameters import Mode
from tacit.secagg.server import SecureServer
from tacit.secagg.terms import Terms
from tacit.training import Task
from tacit.training.flat import build
from tacit.training.threads import borrowed_torch
from tests.rounds.secure_messages import Deployment, Invitation

CLIENTS = tuple(f"c{i:02d}" for i in range(24))
MODES: tuple[Mode, ...] = ("malicious", "semi_honest")


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


BEFORE_VECTORS = ("new", "advert", "shares")


def machine_of(deployed: Deployment, client: str) -> SecureServer:
    """Return the server's machine of a client's group."""
    return deployed.machines[deployed.group_of(client)]


def plan_of(mode: Mode = "malicious") -> Plan:
    """Two groups of twelve; of each as many as four may vanish."""
    job = Job(
        name="wards",
        task=Task(model=model),
        algorithm=FedAvg(local=LocalSGD(lr=0.2, batch_size=4)),
        cohort=All(),
        rounds=1,
        clipping_bound=2.0,
        weighting=tacit.Weigh(cap=50),
        quorum=0.2,
        secure_aggregation=tacit.SecureAggregation(
            min_cohort=5, mode=mode, corrupt=0.1, dropout=0.2, group=12
        ),
    )
    return make_plan(job, build(job.task, 0).layout, np.full(len(CLIENTS), 6))


def data_of(client: str) -> Examples:
    rng = np.random.default_rng(int(client[1:]))
    return Examples.of(rng.standard_normal((6, 3)).astype(np.float32), rng.integers(0, 2, 6))


BROKEN = Examples.of(np.full((6, 3), np.nan, np.float32), np.zeros(6, dtype=np.int64))


def deployment(mode: Mode = "malicious", *, broken: tuple[str, ...] = (), **more: Any) -> Deployment:
    data = {client: BROKEN if client in broken else data_of(client) for client in CLIENTS}
    return Deployment(plan_of(mode), data, **more)


@pytest.fixture(autouse=True)
def _lent_torch():  # type: ignore[no-untyped-def]
    with borrowed_torch():
        yield


def fates(deployed: Deployment, leaves: Mapping[str, Step]) -> list[Fate]:
    """Return how each group ends by the ideal; all of a group are neighbours, whatever the nonces."""
    secure = deployed.secure
    return [
        fate(
            group,
            {client: bytes(16) for client in group},
            deployed.terms[number],
            {client: leaves[client] for client in group if client in leaves},
            secure.threat,
            secure.min_cohort,
        )
        for number, group in enumerate(deployed.groups)
    ]


def check(deployed: Deployment, leaves: Mapping[str, Step]) -> RoundRecord:
    """Play; those answered whom the ideal says, the sum is theirs to the last bit, and everybody is named."""
    closed = deployed.play()
    survivors = sorted(client for end in fates(deployed, leaves) for client in end.survivors)
    record = closed.record
    assert record.outcome == "committed"
    assert record.answered == tuple(survivors)
    assert closed.partial is not None
    assert closed.partial.clients == len(survivors)
    assert np.array_equal(closed.partial.total, deployed.expected(survivors))
    named = [*record.answered, *record.failed, *record.dropped, *record.late]
    assert sorted(named) == sorted(CLIENTS)
    return record


@pytest.mark.parametrize("mode", MODES)
def test_the_sum_of_a_round_is_that_without_masks(mode: Mode) -> None:
    deployed = deployment(mode)
    assert check(deployed, {}).answered == CLIENTS
    assert [len(group) for group in deployed.sums.groups] == [12, 12]
    assert not deployed.refused
    assert not deployed.rejected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("step", STEPS)
def test_whoever_vanishes_at_whatever_message_the_sum_is_that_of_the_others(step: Step, mode: Mode) -> None:
    deployed = deployment(mode, random=Random(STEPS.index(step)))
    gone = tuple(sorted(client for group in deployed.groups for client in group[3:5]))
    deployed.leaves = dict.fromkeys(gone, step)
    record = check(deployed, deployed.leaves)
    is_in_the_sum = step in ("signature", "unmask")
    assert record.dropped == (() if is_in_the_sum else gone)
    assert len(record.answered) == (24 if is_in_the_sum else 20)


@pytest.mark.parametrize("seed", range(6))
def test_a_round_in_which_everything_happens_names_who_did_what(seed: int) -> None:
    random = Random(seed)
    first, second = deployment().groups
    broken, late, early, refuses = random.sample(first, 4)
    gone, after = random.sample(second, 2)
    deployed = deployment(
        MODES[seed % 2],
        broken=(broken,),
        late=frozenset([late]),
        leaves={early: "shares", gone: "vector", after: "unmask"},
        random=random,
        alter=lambda client, sent: (
            Invitation(sent.terms, bytes(len(sent.model))) if client == refuses else sent
        ),
    )
    record = check(deployed, deployed.leaves | {broken: "vector", late: "vector", refuses: "advert"})
    assert record.dropped == tuple(sorted([early, gone]))
    assert record.late == (late,)
    assert record.failed.keys() == {broken, refuses}
    assert after in record.answered
    assert deployed.refused == {refuses: "T556"}
    assert set(deployed.rejected) <= {"T511"}  # what the late one sends when all is over


def test_a_device_that_is_late_hears_that_the_round_is_closed() -> None:
    deployed = deployment(late=frozenset(["c02"]))
    record = check(deployed, {"c02": "vector"})
    assert record.late == ("c02",)
    assert set(deployed.rejected) == {"T511"}


@pytest.mark.parametrize("mode", MODES)
def test_a_device_with_terms_and_model_of_its_own_is_in_no_sum(mode: Mode) -> None:
    """A server that gives a device another model has to give it other terms, and then nobody is with it."""
    deployed = deployment(mode)
    other = bytes(deployed.vector.nbytes)

    def alter(client: str, sent: Invitation) -> Invitation:
        terms = replace(Terms.from_bytes(sent.terms), model_sha256=hashlib.sha256(other).digest())
        return Invitation(terms.to_bytes(), other) if client == "c05" else sent

    deployed.alter = alter
    record = check(deployed, {"c05": "advert"})
    assert record.failed.keys() == {"c05"}
    assert deployed.refused == {}


@pytest.mark.parametrize("field", [{"round": 2, "base_round": 2}, {"job": "another"}])
def test_a_device_refuses_terms_of_another_round_or_job(field: dict[str, Any]) -> None:
    def alter(client: str, sent: Invitation) -> Invitation:
        terms = replace(Terms.from_bytes(sent.terms), **field)
        return Invitation(terms.to_bytes(), sent.model) if client == "c05" else sent

    deployed = deployment(alter=alter)
    check(deployed, {"c05": "advert"})
    assert deployed.refused == {"c05": "T556"}


def test_a_group_without_a_sum_leaves_that_of_the_others() -> None:
    deployed = deployment()
    lost = deployed.groups[1]
    deployed.leaves = dict.fromkeys(lost[:6], "vector")
    record = check(deployed, deployed.leaves)
    assert record.answered == deployed.groups[0]
    assert record.dropped == lost[:6]
    assert set(record.failed.values()) == {f"its group has no sum: {REASONS['vector']}"}


@pytest.mark.parametrize("event", [ClientsDropped(("c05",)), ClientFailed("c05", "out of memory")])
def test_whose_connection_breaks_after_its_vector_has_answered_and_nothing_else(event: ServerEvent) -> None:
    deployed = deployment()
    deployed.open()
    while "c05" in machine_of(deployed, "c05").waiting or machine_of(deployed, "c05").state in BEFORE_VECTORS:
        assert deployed.step()
    deployed.devices.pop("c05")
    deployed.tell(event)
    deployed.open = lambda: None  # type: ignore[method-assign]
    assert check(deployed, {"c05": "unmask"}).answered == CLIENTS


# --- what the round's machine refuses --------------------------------------------------------------------


def complaint(deployed: Deployment) -> Complaint:
    return Complaint(deployed.terms[0].assignment_id, -1, 551)


def test_a_stranger_and_a_member_of_another_group_are_refused_and_the_round_goes_on() -> None:
    deployed = deployment()
    deployed.open()
    for client in ("nobody", deployed.groups[1][0]):
        with pytest.raises(RemoteProtocolError, match="T515"):
            deployed.server.receive(GroupEvent(0, Received(client, complaint(deployed))), 0.0)
        with pytest.raises(RemoteProtocolError, match="T515"):
            deployed.server.receive(GroupEvent(0, Gone(client)), 0.0)
    deployed.open = lambda: None  # type: ignore[method-assign]
    assert check(deployed, {}).answered == CLIENTS


def test_a_plain_update_is_not_legal_where_sums_are_secure_and_a_masked_one_where_they_are_not() -> None:
    deployed = deployment()
    deployed.open()
    update = Partial(np.zeros(deployed.plan.grid.size, np.int64), clients=1)
    with pytest.raises(LocalProtocolError, match="T512"):
        deployed.server.receive(UpdatesReceived(("c00",), update), 0.0)
    job = deployed.plan.job
    plain = RoundServer(job.name, 1, job.seed, job.cohort, job.policy, deployed.plan.rule)
    plain.receive(Opened(CLIENTS), 0.0)
    words = np.zeros(deployed.secure.ring.words, np.uint64)
    for event in (VectorsReceived(0, ("c00",), words), GroupEvent(0, Received("c00", complaint(deployed)))):
        with pytest.raises(LocalProtocolError, match="T512"):
            plain.receive(event, 0.0)


def test_after_its_close_a_round_takes_no_message_of_a_secure_sum() -> None:
    deployed = deployment()
    record = check(deployed, {})
    words = np.zeros(deployed.secure.ring.words, np.uint64)
    for event in (
        GroupEvent(0, Received("c00", complaint(deployed))),
        GroupEvent(0, Gone("c00")),
        VectorsReceived(0, ("c00",), words),
    ):
        with pytest.raises(RemoteProtocolError, match="T511"):
            deployed.server.receive(event, 0.0)
    assert record.answered == CLIENTS


def test_a_device_that_is_told_that_the_round_is_over_holds_no_secret_any_more() -> None:
    deployed = deployment()
    deployed.open()
    while machine_of(deployed, "c05").state in BEFORE_VECTORS:
        assert deployed.step()
    device = deployed.devices["c05"]
    assert device._client.holds_secrets  # noqa: SLF001 - nobody else may know
    device.receive(Leave("the round is over"))
    assert not device._client.holds_secrets  # noqa: SLF001 - as above
