"""The device's side of one round: nothing twice, nothing unsound."""

import numpy as np
import pytest

from tacit.codec import Chain, ClipL2, Codec, Weigh
from tacit.core.errors import LocalProtocolError, RemoteProtocolError
from tacit.core.spec import COORDINATE_LIMIT, SegmentSpec, UpdateSpec
from tacit.privacy.ledger import Mark
from tacit.round import RoundDevice
from tacit.round.messages import Assignment, AssignmentReceived, SendUpdates, Train, TrainingDone
from tacit.training import Failure, Trained

SPEC = UpdateSpec((SegmentSpec("parameters", 3), SegmentSpec("metrics", 1, coordinate_bound=2.0**20)))
CODEC = Codec(Chain((ClipL2(bound=1.0), Weigh(cap=10))), SPEC)


def assigned(number: int, *clients: str) -> AssignmentReceived:
    return AssignmentReceived(Assignment("job", number, None, True), clients)


def done(rows: list[list[float]], *clients: str, failures: dict[str, Failure] | None = None) -> TrainingDone:
    examples = tuple(range(1, len(clients) + 1))
    table = np.array(rows, dtype=np.float32).reshape(len(clients), SPEC.size)
    return TrainingDone(Trained(clients, table, examples, failures or {}))


def sent(device: RoundDevice, event: TrainingDone) -> SendUpdates:
    (effect,) = device.receive(event)
    assert isinstance(effect, SendUpdates)
    return effect


def test_an_assignment_is_trained_encoded_and_sent() -> None:
    device = RoundDevice(CODEC, seed=0)
    assert device.receive(assigned(1, "a", "b")) == (Train(("a", "b")),)
    effect = sent(device, done([[3, 0, 4, 9], [0.1, 0, 0, 1]], "a", "b"))
    assert effect.clients == ("a", "b")
    np.testing.assert_allclose(effect.rows, [[0.6, 0, 0.8, 9, 1], [0.2, 0, 0, 2, 2]], rtol=2e-6)
    assert effect.failures == {}


@pytest.mark.parametrize("number", [5, 4, 0])
def test_a_round_that_is_not_newer_than_the_last_is_a_replay(number: int) -> None:
    device = RoundDevice(CODEC, seed=0)
    device.receive(assigned(5, "a"))
    sent(device, done([[0, 0, 0, 0]], "a"))
    with pytest.raises(RemoteProtocolError) as caught:
        device.receive(assigned(number, "a"))
    assert caught.value.code == "T516"
    assert device.receive(assigned(6, "a")) == (Train(("a",)),)


def test_one_replayed_client_refuses_the_whole_assignment() -> None:
    device = RoundDevice(CODEC, seed=0)
    device.receive(assigned(5, "a"))
    device.receive(done([[0.1, 0, 0, 1]], "a"))
    with pytest.raises(RemoteProtocolError):
        device.receive(assigned(5, "b", "a"))
    assert device.receive(assigned(5, "b")) == (Train(("b",)),)  # it was not noted for the other


@pytest.mark.parametrize(
    "value", [np.nan, np.inf, -np.inf, COORDINATE_LIMIT * 1.01, -COORDINATE_LIMIT * 1.01]
)
@pytest.mark.parametrize("place", [0, 2])
def test_an_unsound_update_fails_alone_and_is_not_sent(value: float, place: int) -> None:
    rows = [[0.1, 0, 0, 1], [0.2, 0, 0, 1], [0.3, 0, 0, 1]]
    rows[1][place] = value
    device = RoundDevice(CODEC, seed=0)
    device.receive(assigned(1, "a", "b", "c"))
    effect = sent(device, done(rows, "a", "b", "c"))
    assert effect.clients == ("a", "c")
    np.testing.assert_allclose(effect.rows, [[0.1, 0, 0, 1, 1], [0.9, 0, 0, 3, 3]], rtol=1e-6)
    assert set(effect.failures) == {"b"}
    assert str(value) not in effect.failures["b"].reason


@pytest.mark.parametrize("value", [np.nan, 2.0**21])
def test_an_unsound_metric_fails_the_update_too(value: float) -> None:
    device = RoundDevice(CODEC, seed=0)
    device.receive(assigned(1, "a"))
    effect = sent(device, done([[0.1, 0, 0, value]], "a"))
    assert (effect.clients, effect.rows.shape, set(effect.failures)) == ((), (0, 5), {"a"})


def test_bounds_themselves_are_sound() -> None:
    device = RoundDevice(Codec(Chain((Weigh(),)), SPEC), seed=0)
    device.receive(assigned(1, "a"))
    effect = sent(device, done([[COORDINATE_LIMIT, -COORDINATE_LIMIT, 0, 2.0**20]], "a"))
    assert effect.clients == ("a",)


def test_failures_of_training_are_passed_on() -> None:
    device = RoundDevice(CODEC, seed=0)
    device.receive(assigned(1, "a", "b"))
    failure = Failure("raised ValueError", "a traceback")
    effect = sent(device, done([[0, 0, 0, 0]], "a", failures={"b": failure}))
    assert effect.failures == {"b": failure}


@pytest.mark.parametrize("failures", [{}, {"z": Failure("x")}])
def test_nobody_is_answered_for_who_was_assigned_nothing(failures: dict[str, Failure]) -> None:
    device = RoundDevice(CODEC, seed=0)
    device.receive(assigned(1, "a"))
    event = done([[0, 0, 0, 0]], "a" if failures else "z", failures=failures)
    with pytest.raises(LocalProtocolError) as caught:
        device.receive(event)
    assert caught.value.code == "T512"
    assert sent(device, done([[0, 0, 0, 0]], "a")).clients == ("a",)


def test_training_that_nobody_asked_for_is_not_sent() -> None:
    device = RoundDevice(CODEC, seed=0)
    event = done([[0, 0, 0, 0]], "a")
    with pytest.raises(LocalProtocolError):
        device.receive(event)
    device.receive(assigned(1, "a"))
    sent(device, event)
    with pytest.raises(LocalProtocolError) as caught:
        device.receive(event)  # nor sent twice
    assert caught.value.code == "T512"


def charged_in(number: int, sequence: int | None, letter: str = "a") -> AssignmentReceived:
    mark = None if sequence is None else Mark(sequence=sequence, sha256=letter * 64)
    return AssignmentReceived(Assignment("job", number, None, True, ledger=mark), ("a",))


@pytest.mark.parametrize(("sequence", "letter"), [(3, "a"), (5, "b"), (None, "a")])
def test_a_ledger_that_was_taken_back_or_exchanged_is_refused(sequence: int | None, letter: str) -> None:
    device = RoundDevice(CODEC, seed=0)
    device.receive(charged_in(1, 5))
    sent(device, done([[0, 0, 0, 0]], "a"))
    with pytest.raises(RemoteProtocolError) as caught:
        device.receive(charged_in(2, sequence, letter))
    assert caught.value.code == "T530"
    assert device.receive(charged_in(2, 7)) == (Train(("a",)),)
