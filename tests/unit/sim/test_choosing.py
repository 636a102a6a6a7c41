"""Who trains a run: found out once, kept for the next run, never wrong, and the same when it is resumed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

import tacit
from tacit.core.errors import ConfigError, PlanError
from tacit.core.examples import Examples
from tacit.core.layout import Vector
from tacit.core.spec import UpdateSpec
from tacit.job import Plan, make_plan, model_seed
from tacit.round.server import drawn
from tacit.sim.choice_key import choice_key, program_key
from tacit.sim.choosing import Chosen, choose, choose_again
from tacit.sim.trial import Trial, torch_group
from tacit.store import RunInfo
from tacit.store.choices import ChoiceCache
from tacit.training import ClientWork, Trained
from tacit.training.calibrate import Calibration
from tacit.training.executor import Choice, Executor, UnsupportedError
from tacit.training.executors import Recipe, build_executor
from tacit.training.flat import FlatModel, build
from tacit.training.threads import borrowed_torch
from tests.rounds.worlds import dropping, examples, job, linear

PROGRAM = b"a program"


class Slowed:
    """An executor that trains everybody a few times over before it answers."""

    def __init__(self, executor: Executor, times: int) -> None:
        self._executor, self._times = executor, times

    @property
    def spec(self) -> UpdateSpec:
        return self._executor.spec

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        for _ in range(self._times - 1):
            self._executor.train(vector, group)
        return self._executor.train(vector, group)


class Scaled(Slowed):
    """An executor that is wrong by a thousandth."""

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        trained = super().train(vector, group)
        return replace(trained, rows=trained.rows * np.float32(1.001))


class Builder:
    """Builds executors of which only some are to be had, and remembers what it was asked for.

    Those that run a program are the rules executor, as long as they are given the program.
    """

    def __init__(self, *known: str, torch_times: int = 1, wrong: str = "") -> None:
        self._known, self._torch_times, self._wrong = ("torch", *known), torch_times, wrong
        self.built: list[str] = []

    def __call__(self, name: str, recipe: Recipe) -> Executor:
        self.built.append(name)
        if name not in self._known:
            raise UnsupportedError(f"no {name} today")
        if name in ("stacked", "onnx"):
            assert recipe.programs[name].startswith(PROGRAM)
        right = Slowed(build_executor("torch", recipe), self._torch_times) if name == "torch" else None
        right = right or Slowed(build_executor("rules", recipe), 1)
        return Scaled(right, 1) if name == self._wrong else right


class Scaling:
    """Builds the real executors, one of them wrong."""

    def __init__(self, wrong: str) -> None:
        self._wrong = wrong

    def __call__(self, name: str, recipe: Recipe) -> Executor:
        executor = build_executor(name, recipe)
        return Scaled(executor, 1) if name == self._wrong else executor


class Exporter:
    """Exports something that says for which kind it is."""

    def __init__(self, fails: str = "") -> None:
        self._fails = fails
        self.asked: list[str] = []

    def __call__(self, recipe: Recipe, shown: Examples, kind: str) -> bytes:
        self.asked.append(kind)
        if kind == self._fails:
            raise UnsupportedError("aten::strange")
        return PROGRAM + kind.encode()


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    with borrowed_torch():
        yield


@pytest.fixture
def cache(tmp_path: Path) -> ChoiceCache:
    return ChoiceCache(tmp_path / "executors")


Setup = tuple[Plan, tacit.Population, FlatModel]


def setup(clients: int = 24, **settings: Any) -> Setup:
    known: dict[str, Any] = {"rounds": 1_000_000, "cohort": tacit.FixedSize(16)}
    made = job(**(known | settings))
    population = tacit.Population.of({f"c{i}": examples(i, 10 + i) for i in range(clients)})
    model = build(made.task, model_seed(made))
    return make_plan(made, model.layout, population.sizes), population, model


# --- finding out ------------------------------------------------------------------------------------


def test_with_few_steps_torch_trains_and_nobody_is_asked_for_data(cache: ChoiceCache) -> None:
    def refuses() -> Examples:
        raise AssertionError

    made = job(rounds=3)
    population = tacit.Population.of(
        {f"c{i}": refuses for i in range(8)}, sizes={f"c{i}": 9 for i in range(8)}
    )
    model = build(made.task, model_seed(made))
    builder = Builder("rules")
    chosen = choose(
        make_plan(made, model.layout, population.sizes), population, model, cache=cache, build=builder
    )
    assert chosen.choice.executor == "torch"
    assert chosen.choice.reason == "the run is too short for another executor to pay"
    assert builder.built == []


def test_in_a_short_run_torch_trains_and_nothing_is_kept(cache: ChoiceCache) -> None:
    chosen = choose(*setup(rounds=30), cache=cache, build=Builder("rules"))
    assert chosen.choice.executor == "torch"
    assert not cache.folder.exists()


def test_near_the_limit_the_decision_is_kept(cache: ChoiceCache, monkeypatch: pytest.MonkeyPatch) -> None:
    made = setup(rounds=1000)
    steps = 1000 * made[0].steps_per_round
    paces = iter([4.0 / steps, 400.0 / steps])
    measured = Calibration.time_torch

    def time_torch(self: Calibration) -> float:
        measured(self)
        return next(paces)

    monkeypatch.setattr(Calibration, "time_torch", time_torch)
    first = choose(*made, cache=cache, build=Builder("rules"))
    again = choose(*made, cache=cache, build=Builder("rules"))
    assert first == again
    assert first.choice.executor == "torch"


def test_a_long_run_gets_the_fastest_executor_that_is_right(cache: ChoiceCache) -> None:
    chosen = choose(*setup(), cache=cache, build=Builder("rules", torch_times=9), export=Exporter())
    assert chosen.choice.executor == "rules"
    assert chosen.choice.group > 1
    assert "times as fast as torch, equal to" in chosen.choice.reason
    assert "stacked: no stacked today; onnx: no onnx today" in chosen.choice.reason
    assert chosen.program is None


def test_what_was_found_is_found_again_without_measuring(
    cache: ChoiceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = choose(*setup(), cache=cache, build=Builder("rules", torch_times=9), export=Exporter())

    def unasked(self: Calibration) -> float:
        raise AssertionError

    monkeypatch.setattr(Calibration, "time_torch", unasked)
    assert choose(*setup(), cache=cache, build=Builder("rules"), export=Exporter()) == first


def test_a_wrong_executor_is_not_chosen(cache: ChoiceCache) -> None:
    builder = Builder("rules", torch_times=9, wrong="rules")
    chosen = choose(*setup(), cache=cache, build=builder, export=Exporter())
    assert chosen.choice.executor == "torch"
    assert "rules: differs from torch by 1e-03 after one step" in chosen.choice.reason


def test_what_was_kept_is_compared_again_and_forgotten_if_it_has_become_wrong(cache: ChoiceCache) -> None:
    right = Builder("rules", torch_times=9)
    assert choose(*setup(), cache=cache, build=right, export=Exporter()).choice.executor == "rules"
    wrong = Builder("rules", torch_times=9, wrong="rules")
    assert choose(*setup(), cache=cache, build=wrong, export=Exporter()).choice.executor == "torch"
    assert choose(*setup(), cache=cache, build=wrong, export=Exporter()).choice.executor == "torch"


def test_an_export_is_made_where_it_pays_and_kept(cache: ChoiceCache) -> None:
    told: list[str] = []
    exporter, builder = Exporter(), Builder("stacked", "onnx", torch_times=9)
    chosen = choose(*setup(), cache=cache, build=builder, export=exporter, exporting=told.append)
    assert chosen.choice.executor == "stacked"
    assert chosen.program == PROGRAM + b"stacked"
    assert chosen.program_sha256 is not None
    assert exporter.asked == ["stacked", "step"]
    assert told == ["stacked", "onnx"]
    assert "rules: no rules today" in chosen.choice.reason
    later = Exporter()
    assert choose(*setup(), cache=cache, build=Builder("stacked"), export=later) == chosen
    assert later.asked == []


def test_a_program_that_is_lost_is_exported_again(cache: ChoiceCache) -> None:
    exporter = Exporter()
    builder = Builder("stacked", torch_times=9)
    first = choose(*setup(), cache=cache, build=builder, export=exporter)
    for path in cache.folder.glob("*.onnx"):
        path.write_bytes(b"torn")
    assert choose(*setup(), cache=cache, build=builder, export=exporter).program == first.program
    assert exporter.asked == ["stacked", "step"] * 2


def test_no_export_is_made_that_the_run_is_too_short_to_pay_for(
    cache: ChoiceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tacit.sim.choosing._SHORT_S", 0.001)
    plan, population, model = setup(rounds=350)
    exporter = Exporter()
    short = choose(
        plan, population, model, cache=cache, build=Builder("rules", torch_times=9), export=exporter
    )
    assert exporter.asked == []
    assert "stacked and onnx: not exported, the run is too short" in short.choice.reason
    # A longer run is not content with that; what it finds does not change what the short one found.
    longer = Builder("rules", "stacked", torch_times=9)
    found = choose(*setup(), cache=cache, build=longer, export=exporter)
    assert exporter.asked == ["stacked", "step"]
    assert "too short" not in found.choice.reason
    assert choose(plan, population, model, cache=cache, build=longer, export=exporter) == short
    # Another short run takes what is known.
    assert choose(*setup(rounds=2001), cache=cache, build=longer, export=exporter) == found


def test_an_operator_without_an_export_is_named(cache: ChoiceCache) -> None:
    builder = Builder("onnx", torch_times=9)
    chosen = choose(*setup(), cache=cache, build=builder, export=Exporter(fails="stacked"))
    assert chosen.choice.executor == "onnx"
    assert chosen.choice.group == torch_group(setup()[0])
    assert "stacked: aten::strange" in chosen.choice.reason


@pytest.mark.parametrize("name", ["stacked", "onnx"])
def test_a_program_with_dropout_is_compared_with_a_torch_that_draws_the_same(
    cache: ChoiceCache, name: str
) -> None:
    chosen = choose(*setup(model=dropping, rounds=1), name, cache=cache)
    assert float(chosen.choice.reason.rpartition(" ")[2]) < 1e-5
    assert chosen.program is not None
    with pytest.raises(PlanError, match="differs from torch"):
        choose(*setup(model=dropping), name, cache=cache, build=Scaling(name))


def test_a_program_cannot_be_told_from_torch_where_that_draws_something_else(cache: ChoiceCache) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(6, 3)

        def forward(self, x: Any) -> Any:
            return self.last(x + torch.rand_like(x))

    plan, population, model = setup(model=Noisy)
    with pytest.raises(PlanError) as caught:
        choose(plan, population, model, "onnx", cache=cache)
    assert caught.value.code == "T158"


def test_the_model_gets_its_state_back(cache: ChoiceCache) -> None:
    plan, population, model = setup()
    before = model.vector()
    choose(plan, population, model, cache=cache, build=Builder("rules", torch_times=9), export=Exporter())
    assert np.array_equal(model.vector(), before)
    choose(plan, population, model, "rules", cache=cache)
    assert np.array_equal(model.vector(), before)


def test_clients_whose_data_cannot_be_loaded_are_left_out(cache: ChoiceCache) -> None:
    def broken() -> Examples:
        raise OSError("the disk")

    sizes = {f"c{i}": 12 for i in range(8)}
    for lost in (4, 8):
        clients = {f"c{i}": broken if i < lost else examples(i, 12) for i in range(8)}
        made = job(rounds=1_000_000, cohort=tacit.All())
        population = tacit.Population.of(clients, sizes=sizes)
        model = build(made.task, model_seed(made))
        plan = make_plan(made, model.layout, population.sizes)
        chosen = choose(
            plan, population, model, cache=cache, build=Builder("rules", torch_times=9), export=Exporter()
        )
        assert chosen.choice.executor == ("rules" if lost == 4 else "torch")
    assert "no client" in chosen.choice.reason
    with pytest.raises(PlanError, match="no client of the first cohort"):
        choose(plan, population, model, "stacked", cache=cache, export=Exporter())
    info = msgspec.structs.replace(RunInfo(name="small", outcome="running"), executor="rules", group=2)
    with pytest.raises(ConfigError, match="no client of the first cohort"):
        choose_again(plan, population, model, info, None)


def test_an_empty_first_cohort_is_no_obstacle(cache: ChoiceCache) -> None:
    plan, population, model = setup(cohort=tacit.Poisson(rate=0.05), seed=3)
    assert not drawn(plan.job.cohort, plan.population, plan.job.seed, 1)
    trial = Trial(plan, population, model)
    assert trial.sample
    assert choose(
        plan, population, model, cache=cache, build=Builder("rules", torch_times=9), export=Exporter()
    )


def test_a_model_that_raises_for_everybody_is_left_to_torch(cache: ChoiceCache) -> None:
    def misfit() -> nn.Module:
        return nn.Linear(2, 2)

    chosen = choose(*setup(model=misfit), cache=cache, build=Builder("rules"), export=Exporter())
    assert chosen.choice.executor == "torch"


# --- asked for --------------------------------------------------------------------------------------


def test_who_is_asked_for_is_compared_but_not_timed(
    cache: ChoiceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unasked(self: Calibration) -> float:
        raise AssertionError

    monkeypatch.setattr(Calibration, "time_torch", unasked)
    plan, population, model = setup(rounds=1)
    chosen = choose(plan, population, model, "rules", cache=cache)
    assert (chosen.choice.executor, chosen.choice.group) == ("rules", plan.group)
    assert chosen.choice.reason.startswith("asked for; equal to torch to")
    assert choose(plan, population, model, "torch", cache=cache).choice == Choice(
        executor="torch", group=torch_group(plan), reason="asked for"
    )


def test_who_is_asked_for_and_wrong_is_refused(cache: ChoiceCache) -> None:
    with pytest.raises(
        PlanError, match="`rules` cannot train this task: differs from torch by 1e-03"
    ) as caught:
        choose(*setup(), "rules", cache=cache, build=Builder("rules", wrong="rules"))
    assert caught.value.code == "T158"


@pytest.mark.parametrize(("name", "words"), [("rules", "no rules today"), ("stacked", "aten::strange")])
def test_who_is_asked_for_and_cannot_is_refused_with_the_reason(
    cache: ChoiceCache, name: str, words: str
) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        choose(*setup(), name, cache=cache, build=Builder(), export=Exporter(fails="stacked"))
    assert caught.value.code == "T158"


def test_a_program_that_is_asked_for_is_exported_once(cache: ChoiceCache) -> None:
    exporter = Exporter()
    for _ in range(2):
        chosen = choose(*setup(rounds=1), "onnx", cache=cache, build=Builder("onnx"), export=exporter)
        assert chosen.program == PROGRAM + b"step"
    assert exporter.asked == ["step"]


def test_an_executor_that_nobody_knows_is_refused_with_the_nearest(cache: ChoiceCache) -> None:
    with pytest.raises(ConfigError, match="did you mean `stacked`") as caught:
        choose(*setup(), "staked", cache=cache)
    assert caught.value.code == "T141"


# --- again ------------------------------------------------------------------------------------------


def record(chosen: Chosen) -> RunInfo:
    return RunInfo(
        name="small",
        outcome="running",
        executor=chosen.choice.executor,
        group=chosen.choice.group,
        executor_reason=chosen.choice.reason,
        program_sha256=chosen.program_sha256,
    )


@pytest.mark.parametrize("name", ["torch", "rules", "stacked"])
def test_a_resumed_run_keeps_its_executor(cache: ChoiceCache, name: str) -> None:
    builder = Builder("rules", "stacked")
    chosen = choose(*setup(), name, cache=cache, build=builder, export=Exporter())
    for asked in ("auto", name):
        assert choose_again(*setup(), record(chosen), chosen.program, asked, build=builder) == chosen


def test_a_run_from_before_groups_were_recorded_goes_on_as_it_was() -> None:
    plan, population, model = setup()
    info = RunInfo(name="small", outcome="running")
    assert choose_again(plan, population, model, info, None).choice == Choice(group=plan.group)


@pytest.mark.parametrize(
    ("builder", "program", "asked", "words"),
    [
        (Builder("stacked"), PROGRAM + b"stacked", "rules", "not `rules`"),
        (Builder("stacked"), PROGRAM, "auto", "its program is missing or damaged"),
        (Builder("stacked"), None, "auto", "its program is missing or damaged"),
        (Builder(), PROGRAM + b"stacked", "auto", "no stacked today"),
        (Builder("stacked", wrong="stacked"), PROGRAM + b"stacked", "auto", "differs from torch"),
    ],
)
def test_a_run_that_cannot_go_on_as_it_began_is_refused(
    cache: ChoiceCache, builder: Builder, program: bytes | None, asked: str, words: str
) -> None:
    chosen = choose(*setup(), "stacked", cache=cache, build=Builder("stacked"), export=Exporter())
    with pytest.raises(ConfigError, match=words) as caught:
        choose_again(*setup(), record(chosen), program, asked, build=builder)
    assert caught.value.code == "T142"


def test_an_executor_of_a_later_version_is_refused() -> None:
    info = msgspec.structs.replace(RunInfo(name="small", outcome="running"), executor="magic", group=2)
    with pytest.raises(ConfigError, match="unknown here"):
        choose_again(*setup(), info, None)


# --- groups and keys --------------------------------------------------------------------------------


def test_groups_grow_up_to_what_memory_and_the_cohort_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, population, model = setup()
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert Trial(plan, population, model).groups("rules")[-1] == 8  # 16 would leave one core without any
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert Trial(plan, population, model).groups("rules") == (1, 2, 4, 8, 16)
    assert Trial(plan, population, model).groups("onnx") == (2,)

    def large() -> nn.Module:
        return nn.Linear(6, 500_000)

    task = tacit.Task(model=large)
    made = job(task=task, cohort=tacit.FixedSize(16))
    model = build(task, 0)
    plan = make_plan(made, model.layout, population.sizes)
    assert Trial(plan, population, model).groups("rules") == (1, 2)


def test_a_round_takes_longer_with_groups_that_leave_processes_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    trial = Trial(*setup(clients=16, cohort=tacit.All()))
    stretches = [trial.stretch(group) for group in (1, 4, 8, 16)]
    assert stretches == sorted(stretches)
    assert stretches[3] / stretches[0] == pytest.approx(
        2, rel=0.05
    )  # one process as quick, four times slower


def test_the_sample_is_the_middle_of_the_first_cohort_and_its_ends() -> None:
    plan, population, model = setup(clients=300, cohort=tacit.FixedSize(280))
    local = plan.job.algorithm.local
    steps = [local.total_steps(len(work.examples)) for work in Trial(plan, population, model).sample]
    assert len(steps) == 258
    assert steps == sorted(steps, reverse=True)


def test_a_choice_depends_on_task_training_shapes_cohort_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(shown: Examples | None = None, **settings: Any) -> str:
        plan, _, model = setup(**settings)
        return choice_key(plan, model, shown or examples(0, 5))

    first = key()
    assert key() == first == key(examples(1, 9)) == key(rounds=7, seed=9)
    others = [
        key(model=dropping),
        key(task=tacit.Task(model=linear, loss="mse")),
        key(local=tacit.LocalSGD(lr=0.1, batch_size=6)),
        key(local=tacit.LocalSGD(lr=0.2, batch_size=5)),
        key(cohort=tacit.FixedSize(5)),
        key(Examples.of(np.zeros((3, 6)), np.zeros(3, int))),
    ]
    monkeypatch.setattr("tacit.sim.choice_key.machine", lambda: "another")
    others.append(key())
    assert len({first, *others}) == 8


def test_a_program_depends_on_neither_learning_rate_nor_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(kind: str = "step", **settings: Any) -> str:
        plan, _, model = setup(**settings)
        return program_key(plan, model, examples(0, 5), kind)

    first = key()
    assert key(local=tacit.LocalSGD(lr=0.7, batch_size=3)) == first
    assert key(local=tacit.LocalSGD(lr=0.1, momentum=0.5)) == key(local=tacit.LocalSGD(lr=0.1, momentum=0.9))
    assert (
        len({first, key("stacked"), key(local=tacit.LocalSGD(lr=0.1, momentum=0.5)), key(model=dropping)})
        == 4
    )
    monkeypatch.setattr("tacit.sim.choice_key.machine", lambda: "another")
    assert key() == first
