"""Clients that lie, raise, diverge or have nothing: each fails alone, and no NaN ever reaches the disk."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tacit
from tacit.core.errors import PlanError, RunError
from tacit.core.examples import Examples
from tacit.sim.observer import Silent
from tacit.store import RunFolder, RunInfo
from tacit.training.executor import Failure
from tests.rounds import worlds
from tests.rounds.worlds import FEATURES, assert_sound, examples, job, linear, normalised, numbers


class Listener(Silent):
    """Remembers which failures were told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Failure]] = []
        self.ended: RunInfo | None = None

    def client_failed(self, client: str, failure: Failure) -> None:
        self.told.append((client, failure))

    def finished(self, info: RunInfo) -> None:
        self.ended = info


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "run"
    yield place
    assert_sound(place)
    assert (place / "report.html").exists()


def filled(value: float, size: int = 8) -> Examples:
    return Examples.of(np.full((size, FEATURES), value, np.float32), np.arange(size) % 3)


def good(count: int = 4) -> dict[str, Any]:
    return {f"good-{i}": examples(i, 10) for i in range(count)}


def run(
    clients: Mapping[str, Any], folder: Path, observer: Silent | None = None, **settings: Any
) -> tacit.Result:
    population = tacit.Population.of(clients, sizes=settings.pop("sizes", None))
    known = {"cohort": tacit.All(), "rounds": 3} | settings
    return tacit.run(job(**known), population, folder=folder, observer=observer)


def assert_fails_alone(result: tacit.Result, client: str, reason: str) -> None:
    """Check that one client has failed in every round, and the others have not."""
    assert result.outcome == "completed"
    for record in result.rounds:
        assert record.outcome == "committed"
        assert record.failed == {client: reason}
        assert len(record.answered) == len(record.invited) - 1
    assert result.info.model_sha256 is not None


NOT_FINITE = "update is not finite or beyond its bound"


def test_a_client_without_data_fails_alone(folder: Path) -> None:
    nothing = Examples.of(np.zeros((0, FEATURES), np.float32), np.zeros(0, np.int64))
    assert_fails_alone(run(good() | {"empty": nothing}, folder), "empty", "no data")


def test_a_population_of_one_learns(folder: Path) -> None:
    result = run(good(1), folder)
    assert result.outcome == "completed"
    assert [record.answered for record in result.rounds] == [("good-0",)] * 3


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38, -3e38])
@pytest.mark.parametrize("buffers", [None, "average", "local"])
def test_a_client_with_impossible_features_fails_alone(
    folder: Path, value: float, buffers: str | None
) -> None:
    model = linear if buffers is None else normalised
    task = tacit.Task(model=model, metrics=["accuracy"], buffers=buffers or "average")
    result = run(good() | {"bad": filled(value)}, folder, task=task)
    assert result.outcome == "completed"
    if not np.isfinite(value) or buffers is None:
        assert_fails_alone(result, "bad", NOT_FINITE)


@pytest.mark.parametrize("value", [np.nan, 1e38])
def test_buffers_that_overflow_are_not_kept(folder: Path, value: float) -> None:
    task = tacit.Task(model=normalised, buffers="local")
    population = tacit.Population.of(good() | {"bad": filled(value, 20)}, holdout=0.5)
    tacit.run(job(task=task, cohort=tacit.All(), rounds=4), population, folder=folder)
    assert all(np.isfinite(tensor).all() for tensor in numbers(folder))


class TurnsNaN(nn.Module):
    """Its loss becomes NaN once a client has done some steps on large values."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(FEATURES, 3)
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps = self.steps + 1 if bool((x[:, 0] > 4).all()) else 0
        return self.inner(x) * (float("nan") if self.steps > 2 else 1.0)


def test_a_loss_that_turns_nan_after_some_steps_fails_alone(folder: Path) -> None:
    bad = Examples.of(np.full((20, FEATURES), 5.0, np.float32), np.zeros(20, np.int64))
    result = run(good() | {"bad": bad}, folder, task=tacit.Task(model=TurnsNaN))
    assert_fails_alone(result, "bad", NOT_FINITE)


def test_a_client_that_raises_is_told_once_with_its_traceback(folder: Path) -> None:
    listener = Listener()
    bad = Examples.of(np.zeros((8, FEATURES + 1), np.float32), np.zeros(8, np.int64))
    result = run(good() | {"bad": bad}, folder, listener)
    assert_fails_alone(result, "bad", "raised RuntimeError")
    ((client, failure),) = listener.told
    assert client == "bad"
    assert "Traceback" in failure.traceback
    assert not any("Traceback" in path.read_text() for path in folder.glob("*.jsonl"))


def broken() -> Examples:
    raise OSError("the disk of this client is broken")


def test_a_client_whose_data_cannot_be_loaded_fails_alone(folder: Path) -> None:
    listener = Listener()
    result = run(good() | {"bad": broken}, folder, listener, sizes={"bad": 8})
    assert_fails_alone(result, "bad", "raised OSError")
    ((client, failure),) = listener.told
    assert client == "bad"
    assert "the disk of this client is broken" in failure.traceback
    assert listener.ended is not None
    population = listener.ended.population
    assert population is not None
    assert population.ids == tuple(good())


def test_a_client_whose_loader_ends_the_program_fails_alone(folder: Path) -> None:
    def leave() -> Examples:
        raise SystemExit(0)

    result = run(good() | {"bad": leave}, folder, sizes={"bad": 8})
    assert_fails_alone(result, "bad", "raised SystemExit")


def test_a_client_that_cannot_be_counted_at_the_start_fails_alone(folder: Path) -> None:
    assert_fails_alone(run(good() | {"bad": broken}, folder), "bad", "raised OSError")


def test_where_nobody_can_be_counted_nothing_is_started(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="T155"):
        run({"bad": broken, "worse": broken}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_if_all_clients_raise_the_run_fails_without_a_model(folder: Path, workers: int) -> None:
    listener = Listener()
    sizes = {f"bad-{i}": 5 for i in range(4)}
    population = tacit.Population.of(dict.fromkeys(sizes, broken), sizes=sizes)
    with pytest.raises(RunError) as caught:
        tacit.run(job(cohort=tacit.All()), population, folder=folder, observer=listener, workers=workers)
    assert caught.value.code == "T304"
    assert caught.value.exit_code != 0
    assert "raised OSError" in caught.value.what
    assert len(listener.told) == 1
    assert not (folder / "model.safetensors").exists()
    opened = RunFolder.existing(folder)
    assert opened.info().outcome == "failed"
    assert [record.outcome for record in opened.rounds()] == ["abandoned"] * 3
    with pytest.raises(RunError):
        tacit.run(job(cohort=tacit.All()), population, folder=folder, resume=True)


def test_a_client_that_claims_a_trillion_examples_fails_alone(folder: Path) -> None:
    clients = good() | {"liar": lambda: examples(9, 10)}
    result = run(clients, folder, sizes={"liar": 10**12})
    assert_fails_alone(result, "liar", "raised DataError")
    assert "T203" in caught_traceback(clients, folder.with_name("again"))


def caught_traceback(clients: Mapping[str, Any], folder: Path) -> str:
    listener = Listener()
    run(clients, folder, listener, sizes={"liar": 10**12})
    return listener.told[0][1].traceback


def test_a_client_that_claims_a_trillion_examples_cannot_hold_up_a_world_with_durations(folder: Path) -> None:
    world = tacit.World(duration=tacit.LogNormalDuration(per_example_s=0.1))
    clients = good() | {"liar": lambda: examples(9, 10)}
    result = run(clients, folder, sizes={"liar": 10**12}, world=world, deadline_s=100.0)
    assert result.outcome == "completed"
    assert all("liar" not in record.answered for record in result.rounds)


def test_a_weight_is_capped_in_public(folder: Path) -> None:
    many, few = examples(1, 400), examples(2, 4)
    capped = run({"many": many, "few": few}, folder, weighting=tacit.Weigh(cap=1))
    equal = run({"many": many, "few": few}, folder.with_name("equal"), weighting=tacit.Weigh(by="uniform"))
    assert capped.info.model_sha256 == equal.info.model_sha256


@pytest.mark.parametrize("lr", [1e3, 1e9, 1e18])
@pytest.mark.parametrize(
    "server", [tacit.ServerSGD(), tacit.ServerSGD(lr=1e18, momentum=0.9), tacit.ServerAdam(lr=1e18)]
)
def test_learning_rates_that_diverge_leave_no_model_that_is_not_finite(
    folder: Path, lr: float, server: Any
) -> None:
    try:
        result = run(good(), folder, local=tacit.LocalSGD(lr=lr, batch_size=2), server=server, rounds=6)
    except RunError:
        assert RunFolder.existing(folder).info().outcome == "failed"
        assert not (folder / "model.safetensors").exists()
    else:
        assert all(np.isfinite(tensor).all() for tensor in numbers(result.folder))


def test_clients_that_send_too_much_are_refused_and_the_others_go_on(folder: Path) -> None:
    loud = Examples.of(np.full((8, FEATURES), 1e5, np.float32), np.arange(8) % 3)
    result = run(good() | {"loud": loud}, folder, local=tacit.LocalSGD(lr=1.0, batch_size=4))
    assert_fails_alone(result, "loud", NOT_FINITE)


def test_a_model_that_changes_its_inputs_in_place_changes_nobodys_data(folder: Path) -> None:
    clients = {name: (data.inputs[0].copy(), data.target.copy()) for name, data in good().items()}
    before = {name: x.copy() for name, (x, _) in clients.items()}
    run(clients, folder, task=tacit.Task(model=Greedy), local=tacit.LocalSGD(lr=0.1, shuffle=False))
    assert all(np.array_equal(before[name], x) for name, (x, _) in clients.items())


class Greedy(nn.Module):
    """Normalises its input in place."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(FEATURES, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.div_(2.0))


def test_the_worlds_are_finite_to_begin_with() -> None:
    assert all(np.isfinite(worlds.examples(i, 10).inputs[0]).all() for i in range(20))
