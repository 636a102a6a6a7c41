"""The accounts of sites, and the one executor that protects records: nothing slips past either."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.core.errors import ConfigError, StoreError
from tacit.core.examples import Array, Examples
from tacit.data.population import Sizes
from tacit.job import Plan, make_plan, model_seed
from tacit.privacy.ledger import BudgetExceeded
from tacit.round import RoundRecord, Run, Snapshot
from tacit.round.messages import Assignment
from tacit.sim.choosing import choose_again
from tacit.sim.engine import Call, Engine, recipe_of
from tacit.sim.site_spending import HEADS, SiteSpending, keeper_of
from tacit.sim.spending import NoSpending, Spending
from tacit.store import RunFolder, RunInfo
from tacit.store.ledger import LEDGER, Ledger
from tacit.training.executor import UnsupportedError
from tacit.training.executors import EXECUTORS, build_executor
from tacit.training.flat import FlatModel, build
from tacit.training.private_draws import SecureRecordDraws, SeededRecordDraws
from tests.rounds import worlds
from tests.rounds.record_jobs import SIZES, job, population, privacy, rounds_charged

IDS = list(SIZES)


def planned(**settings: Any) -> tuple[Plan, FlatModel]:
    made = job(**settings)
    model = build(made.task, model_seed(made))
    return make_plan(made, model.layout, np.array(list(SIZES.values()))), model


# --- the accounts ------------------------------------------------------------------------------------


@dataclass
class Bench:
    """A run's accounts, and the run, moved on by hand."""

    folder: RunFolder
    plan: Plan
    run: Run
    accounts: SiteSpending

    @classmethod
    def open(cls, path: Path, number: int = 0, **settings: Any) -> "Bench":
        path.mkdir(exist_ok=True)
        plan, model = planned(**settings)
        state = Snapshot(number, number, 0, 0.0, model.vector())
        folder = RunFolder(path)
        accounts = keeper_of(plan, population(), folder)
        assert isinstance(accounts, SiteSpending)
        accounts.reconcile(None)
        return cls(folder, plan, Run(plan.run_settings(), state), accounts)

    def play(self) -> None:
        self.accounts.reserve(self.run)
        self.accounts.settle(is_released=True)
        self.run.state = replace(self.run.state, round=self.run.state.round + 1)

    def charged(self) -> dict[str, int]:
        return rounds_charged(self.folder.path)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "run"


def everybody(rounds: int) -> dict[str, int]:
    return dict.fromkeys(IDS, rounds)


def test_sites_are_charged_before_the_round_and_stay_charged_if_the_process_dies(place: Path) -> None:
    bench = Bench.open(place)
    bench.accounts.reserve(bench.run)
    assert bench.charged() == everybody(1)  # nothing was closed, settled or written otherwise
    assert Bench.open(place).accounts.statement().steps > 0


@pytest.mark.parametrize(("randomness", "rounds"), [("system", 2), ("seeded", 1)])
def test_a_round_that_is_repeated_is_charged_anew_unless_its_noise_is_the_same(
    place: Path, randomness: str, rounds: int
) -> None:
    for _ in range(2):
        bench = Bench.open(place, privacy=privacy(randomness=randomness))
        bench.play()
    assert bench.charged() == everybody(rounds)
    assert bench.plan.sites is not None
    assert bench.accounts.statement() == bench.plan.sites.statement(
        dict.fromkeys(bench.plan.sites.plans, rounds)
    )


def test_another_model_under_the_same_noise_is_charged_anew(place: Path) -> None:
    Bench.open(place).play()
    bench = Bench.open(place)
    bench.run.state = replace(bench.run.state, vector=bench.run.state.vector + 1)
    bench.play()
    assert bench.charged() == everybody(2)


def test_what_was_charged_and_not_released_is_taken_back_in_an_orderly_end(place: Path) -> None:
    bench = Bench.open(place)
    bench.play()
    bench.accounts.reserve(bench.run)
    assert bench.charged() == everybody(2)
    bench.accounts.close()
    assert bench.charged() == everybody(1)


def test_a_round_too_many_is_refused_and_charges_nobody(place: Path) -> None:
    bench = Bench.open(place, rounds=2)
    bench.play()
    bench.play()
    with pytest.raises(BudgetExceeded) as caught:
        bench.play()
    assert caught.value.code == "T341"
    assert bench.charged() == everybody(2)


def test_where_one_site_cannot_go_on_the_others_are_not_charged(place: Path) -> None:
    bench = Bench.open(place)
    assert bench.plan.sites is not None
    with Ledger(place / LEDGER) as ledger:
        ledger.set_budget("clinics/zug", 1e-6, 1e-6)  # the last one
    with pytest.raises(BudgetExceeded, match="clinics/zug") as caught:
        bench.play()
    assert caught.value.code == "T340"
    assert bench.charged() == everybody(0)


def test_equal_sites_are_looked_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tacit.privacy import accounting

    asked: list[Any] = []

    def counting(events: Any, *rest: Any) -> float:
        asked.append(dict(events))
        return real(events, *rest)

    real = accounting.epsilon
    monkeypatch.setattr(accounting, "epsilon", counting)
    bench = Bench.open(place, privacy=privacy(noise_multiplier=1.4375))  # not asked for in any other test
    for _ in range(3):
        bench.play()
    assert len(asked) == len(set(SIZES.values()))


def test_lost_and_rolled_back_ledgers_are_found_and_charged(place: Path) -> None:
    bench = Bench.open(place)
    bench.play()
    bench.accounts.close()
    old = (place / LEDGER).read_bytes()
    bench = Bench.open(place, number=1)
    bench.play()
    bench.play()
    bench.accounts.close()
    (place / LEDGER).write_bytes(old)
    again = Bench.open(place, number=3)
    assert again.charged() == everybody(3)
    again.accounts.close()


def test_noted_heads_that_cannot_be_read_stop_the_run(place: Path) -> None:
    Bench.open(place).play()
    (place / HEADS).write_bytes(b'{"clinics/zug": {}}')
    with pytest.raises(StoreError, match="heads cannot be read") as caught:
        Bench.open(place)
    assert caught.value.code == "T406"


def test_a_round_in_which_nobody_is_invited_costs_nothing(place: Path) -> None:
    bench = Bench.open(place, cohort=tacit.Poisson(rate=0.25), seed=9)
    rounds = []
    for number in range(1, 6):
        bench.play()
        spend = bench.accounts.noted(
            RoundRecord(round=number, outcome="committed", reason="", invited=(), answered=())
        )
        rounds.append((spend.step, spend.epsilon))
    assert (None, None) in rounds
    assert {step is None for step, _ in rounds} == {True, False}


def test_nobody_who_was_not_charged_may_have_answered(place: Path) -> None:
    bench = Bench.open(place, cohort=tacit.FixedSize(1))
    bench.play()
    strangers = [site for site, rounds in bench.charged().items() if not rounds]
    record = RoundRecord(round=1, outcome="committed", reason="", invited=(), answered=(strangers[0],))
    with pytest.raises(AssertionError):
        bench.accounts.noted(record)


def test_names_too_long_for_a_ledger_are_shortened_and_stay_different(place: Path) -> None:
    place.mkdir()
    made = job(rounds=1)
    names = ["x" * 300 + end for end in ("a", "b")]
    held = tacit.Population.of({name: worlds.examples(0, 8) for name in names})
    model = build(made.task, 0)
    plan = make_plan(made, model.layout, held.sizes)
    accounts = keeper_of(plan, held, RunFolder(place))
    accounts.reserve(Run(plan.run_settings(), Snapshot(0, 0, 0, 0.0, model.vector())))
    with Ledger(place / LEDGER) as ledger:
        assert len(ledger.populations()) == 2


def test_other_jobs_are_kept_as_before(place: Path) -> None:
    with closing(RunFolder.create(place)) as folder:
        folder.write_info(RunInfo(name="job", outcome="running"))
    made = {
        "about users": tacit.Privacy(unit="user", delta=1e-2, noise_multiplier=2.0),
        "about nobody": None,
    }
    kinds = {
        about: type(keeper_of(planned(privacy=its)[0], population(), RunFolder(place)))
        for about, its in made.items()
    }
    assert kinds == {"about users": Spending, "about nobody": NoSpending}


# --- the executor ------------------------------------------------------------------------------------


class Lying:
    """Sites that hold other numbers of records than they have said."""

    ids: Sequence[str] = IDS
    sizes: Sizes = np.array(list(SIZES.values()))
    has_holdout, is_steady = False, True

    def train(self, index: int) -> Examples:
        # As many as basel, whose noise would do for them; their own account would not.
        return worlds.examples(index, 20)

    def holdout(self, index: int) -> Examples | None:
        return None

    def target(self, index: int) -> Array:
        return self.train(index).target

    def test(self) -> Examples | None:
        return None


@pytest.fixture
def one_thread() -> Iterator[None]:
    from tacit.training.threads import borrowed_torch

    with borrowed_torch():
        yield


@pytest.mark.usefixtures("one_thread")
def test_a_site_that_holds_another_number_of_records_than_it_is_charged_for_does_not_train() -> None:
    plan, model = planned()
    engine = Engine(plan, tacit.Population(Lying()), model)
    assert engine.choice.executor == "private"
    total = np.zeros(plan.grid.size, dtype=np.int64)
    calls = [Call(position) for position in range(4)]
    done = engine.train(Assignment("clinics", 1, None, True), model.vector(), calls, total)
    assert sorted(done.clients) == ["basel", "chur"]
    assert {failure.reason for failure in done.failures.values()} == {
        "holds another number of records than it is charged for"
    }


@pytest.mark.parametrize("name", EXECUTORS)
def test_no_other_executor_can_be_built_where_records_are_protected(name: str) -> None:
    plan, model = planned()
    with pytest.raises(UnsupportedError, match="protects no records"):
        build_executor(name, recipe_of(plan, lambda: model))
    with pytest.raises(UnsupportedError, match="nothing is promised about these"):
        build_executor("private", recipe_of(planned(privacy=None)[0], lambda: model))


def test_secret_draws_come_from_the_system_unless_seeded_ones_are_asked_for() -> None:
    clipping = tacit.FixedClipping(bound=0.7)
    by_default = tacit.Privacy(unit="record", delta=1e-3, noise_multiplier=1.5, clipping=clipping)
    for settings, kind in ((by_default, SecureRecordDraws), (privacy(), SeededRecordDraws)):
        plan = planned(privacy=settings)[0]
        protection = recipe_of(plan, partial(build, plan.job.task, 0)).protection
        assert protection is not None
        assert type(protection.draws) is kind


def test_a_run_recorded_with_an_executor_that_protects_nothing_is_not_resumed() -> None:
    plan, model = planned()
    info = RunInfo(name="clinics", outcome="interrupted", executor="torch", group=1)
    with pytest.raises(ConfigError, match="protects no records") as caught:
        choose_again(plan, population(), model, info, None)
    assert caught.value.code == "T142"
    other, model = planned(privacy=None)
    info = RunInfo(name="clinics", outcome="interrupted", executor="private", group=1)
    with pytest.raises(ConfigError, match="does not work here"):
        choose_again(other, population(), model, info, None)
