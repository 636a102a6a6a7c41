"""A retry is the same release only if everything is the same; else it is charged, and its noise is new."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import tacit
from tacit.job import Plan, make_plan, model_seed
from tacit.privacy.ledger import BudgetExceeded, Reserved
from tacit.round import Run, Snapshot
from tacit.sim.spending import Spending
from tacit.store import RunFolder, RunInfo
from tacit.store.ledger import LEDGER, Ledger
from tacit.training.flat import build
from tests.rounds import worlds


def plan(**privacy: Any) -> Plan:
    known = {"unit": "user", "noise_multiplier": 2.0, "delta": 1e-4} | privacy
    cohort = tacit.All() if "mechanism" in privacy else tacit.Poisson(rate=0.5)
    job = worlds.job(privacy=tacit.Privacy(**known), cohort=cohort)
    return make_plan(job, build(job.task, model_seed(job)).layout, np.full(16, 10))


def begun(made: Plan) -> Run:
    return Run(made.run_settings(), Snapshot(0, 0, 0, 0.0, np.zeros(made.layout.size, np.float32)))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    made = RunFolder.create(tmp_path)
    made.write_info(RunInfo(name="small", outcome="running"))
    yield made
    made.close()


def charged(path: Path) -> int:
    with Ledger(path / LEDGER, read_only=True) as ledger:
        return sum(isinstance(entry.fact, Reserved) for entry in ledger.entries("small"))


def attempt(made: Plan, folder: RunFolder, run: Run, *, is_steady: bool = True) -> bytes:
    """Reserve the next step, as a process does that is killed afterwards; return the noise's key."""
    assert made.private is not None
    spending = Spending(made, made.private, folder, is_steady=is_steady)
    spending.reserve(run)
    spending.close()
    assert run.state.privacy is not None
    return run.state.privacy.key


def test_the_same_release_is_charged_once_and_keeps_its_noise(folder: RunFolder) -> None:
    made = plan()
    run = begun(made)
    assert attempt(made, folder, run) == attempt(made, folder, run)
    assert charged(folder.path) == 1


def _other_model(run: Run, folder: RunFolder) -> None:
    run.state = replace(run.state, vector=run.state.vector + np.float32(1e-7))


def _other_executor(run: Run, folder: RunFolder) -> None:
    folder.write_info(msgspec.structs.replace(folder.info(), executor="rules"))


def _other_data(run: Run, folder: RunFolder) -> None:
    folder.write_info(msgspec.structs.replace(folder.info(), sizes_sha256="0" * 64))


@pytest.mark.parametrize("change", [_other_model, _other_executor, _other_data])
def test_another_sum_never_gets_the_same_noise(
    folder: RunFolder, change: Callable[[Run, RunFolder], None]
) -> None:
    # The same noise over two sums would show their difference.
    made = plan()
    run = begun(made)
    first = attempt(made, folder, run)
    change(run, folder)
    assert attempt(made, folder, run) != first
    assert charged(folder.path) == 2


def test_data_that_may_have_changed_makes_every_retry_a_release_of_its_own(folder: RunFolder) -> None:
    made = plan()
    run = begun(made)
    first = attempt(made, folder, run, is_steady=False)
    assert attempt(made, folder, run, is_steady=False) != first
    assert charged(folder.path) == 2


def correlated() -> Plan:
    return plan(mechanism=tacit.BandedInverse(bands=2), clipping=tacit.FixedClipping(bound=1.0))


def at_step(made: Plan, step: int) -> Run:
    run = begun(made)
    assert run.state.privacy is not None
    run.state = replace(run.state, privacy=replace(run.state.privacy, step=step))
    return run


def test_steps_that_an_earlier_charge_covers_cost_nothing_as_long_as_nothing_has_changed(
    folder: RunFolder,
) -> None:
    made = correlated()
    attempt(made, folder, begun(made))
    run = at_step(made, 3)
    assert run.state.privacy is not None
    before = run.state.privacy.key
    assert attempt(made, folder, run) == before
    assert charged(folder.path) == 1


def test_steps_that_an_earlier_charge_covers_are_charged_anew_where_data_may_have_changed(
    folder: RunFolder,
) -> None:
    made = correlated()
    attempt(made, folder, begun(made), is_steady=False)
    run = at_step(made, 3)
    assert run.state.privacy is not None
    before = run.state.privacy.key
    with pytest.raises(BudgetExceeded):  # a whole run's event does not fit twice
        attempt(made, folder, run, is_steady=False)
    assert run.state.privacy.key != before


def test_a_run_says_what_was_charged_if_that_is_more_than_it_released(folder: RunFolder) -> None:
    made = plan()
    assert made.private is not None
    attempt(made, folder, begun(made), is_steady=False)
    attempt(made, folder, begun(made), is_steady=False)
    spending = Spending(made, made.private, folder, is_steady=True)
    charged_in_all = spending.epsilon(steps=1)
    spending.close()
    assert charged_in_all == pytest.approx(made.private.epsilon_of(2), rel=1e-6)
