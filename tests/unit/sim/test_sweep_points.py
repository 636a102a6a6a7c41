"""The grid of a sweep: keys, values, `none`, seeds, and points that are the same."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tacit
from tacit.core.bounds import Positive
from tacit.core.errors import ConfigError
from tacit.core.part import Settings
from tacit.job import Job
from tacit.job.override import override
from tacit.privacy.settings import Privacy
from tacit.sim.sweep_points import checked_grid, checked_metric, checked_seeds, grid_points
from tacit.sim.sweep_settings import Variant, text_of
from tacit.sim.sweep_texts import read_over, read_seeds
from tests.rounds import worlds

SPLIT = tacit.data.digits().split(tacit.Dirichlet(alpha=0.3), clients=10)


class Shield(Settings, frozen=True):
    """A block that says in one of two ways how strong it is."""

    epsilon: Positive | None = None
    noise_multiplier: Positive | None = None
    delta: Positive = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epsilon is None and self.noise_multiplier is None:
            raise ConfigError("T104", "a shield needs epsilon or noise_multiplier", where="Shield")


class ShieldedJob(Job, frozen=True):
    """A job with an optional block."""

    shield: Shield | None = None


class PrivateJob(Job, frozen=True):
    """A job whose privacy may be left out."""

    privacy: Privacy | None = None


def shielded(shield: Shield | None) -> Variant:
    plain = msgspec.structs.asdict(worlds.job())
    return Variant(ShieldedJob(**plain, shield=shield), SPLIT)


def base(**settings: Any) -> Variant:
    return Variant(worlds.job(**settings), SPLIT)


def refusal(over: dict[str, Any], variant: Variant | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        grid_points(variant or base(), checked_grid(over))
    return caught.value


# --- none -----------------------------------------------------------------------------------------


def test_none_makes_a_setting_none_that_may_be() -> None:
    changed, removed = base(clipping_bound=0.5).without("clipping_bound")
    assert removed == "clipping_bound"
    assert changed.job.clipping_bound is None


def test_none_removes_the_nearest_block_that_may_be_left_out() -> None:
    changed, removed = base(world=worlds.SLOW_WORLD).without("world.duration.median_s")
    assert removed == "world.duration"
    assert changed.job.world == tacit.World(dropout=worlds.SLOW_WORLD.dropout)


def test_none_in_the_population_leaves_the_partitioner_out() -> None:
    changed, removed = base().without("population.by.alpha")
    assert removed == "population.by"
    assert isinstance(changed.population, tacit.Split)
    assert changed.population.by is None


def test_none_removes_a_block_that_would_be_wrong_without_the_setting() -> None:
    changed, removed = shielded(Shield(epsilon=2.0)).without("shield.epsilon")
    assert removed == "shield"
    assert changed.job == msgspec.structs.replace(changed.job, shield=None)


def test_none_keeps_a_block_that_is_right_without_the_setting() -> None:
    changed, removed = shielded(Shield(epsilon=2.0, noise_multiplier=1.0)).without("shield.epsilon")
    assert removed == "shield.epsilon"
    assert changed.job.shield == Shield(noise_multiplier=1.0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("spent", [{"epsilon": 2.0}, {"noise_multiplier": 1.0}])
def test_none_is_a_job_without_privacy(spent: dict[str, float]) -> None:
    private = Privacy(unit="user", delta=1e-4, **spent)  # type: ignore[arg-type]
    plain = {**msgspec.structs.asdict(worlds.job()), "privacy": private}
    (key,) = spent
    points = grid_points(Variant(PrivateJob(**plain), SPLIT), checked_grid({f"privacy.{key}": [0.5, None]}))
    assert [point.variant.job.privacy for point in points] == [  # type: ignore[attr-defined]
        msgspec.structs.replace(private, **{key: 0.5}),
        None,
    ]
    assert points[1].overrides == ("privacy=none",)


@pytest.mark.parametrize(
    "key", ["algorithm.local.lr", "algorithm.server.lr", "rounds", "cohort.count", "population.scaling"]
)
def test_none_is_refused_where_nothing_may_be_left_out(key: str) -> None:
    error = refusal({key: [None]})
    assert (error.code, error.where) == ("T139", key)
    assert "cannot be none" in error.what


@pytest.mark.parametrize("value", [1.0, None])
def test_a_block_that_the_job_does_not_have_cannot_be_swept(value: float | None) -> None:
    error = refusal({"shield.epsilon": [value]}, shielded(None))
    assert error.code == "T139"
    assert "no block `shield`" in error.what


def test_an_unknown_setting_is_not_taken_for_none() -> None:
    assert refusal({"clipping_bond": [None]}).code == "T101"
    assert refusal({"world.duration.median": [None]}, base(world=worlds.SLOW_WORLD)).code == "T101"


# --- points ---------------------------------------------------------------------------------------


def test_every_combination_is_a_point_with_a_readable_name() -> None:
    over = {"clipping_bound": [0.5, None], "algorithm.local.lr": [0.1, 1], "algorithm.server.lr": [1.0]}
    points = grid_points(base(), checked_grid(over))
    assert [point.name for point in points] == [
        "clipping_bound=0.5,local.lr=0.1,server.lr=1",
        "clipping_bound=0.5,local.lr=1,server.lr=1",
        "clipping_bound=none,local.lr=0.1,server.lr=1",
        "clipping_bound=none,local.lr=1,server.lr=1",
    ]
    last = points[-1].variant.job
    assert (last.clipping_bound, last.algorithm.local.lr) == (None, 1.0)
    assert points[0].job(7).seed == 7


def test_what_set_would_have_to_be_given_makes_the_same_job() -> None:
    variant = base(clipping_bound=1.0, world=worlds.SLOW_WORLD)
    over = {"world.duration.median_s": [1.5, None], "clipping_bound": [0.25, None], "rounds": [3]}
    for point in grid_points(variant, checked_grid(over)):
        job = variant.job
        for text in point.overrides:
            path, _, value = text.partition("=")
            job = override(job, path, value)
        assert job == point.variant.job


def test_a_removed_block_is_one_point_whatever_else_of_it_is_swept() -> None:
    over = {"shield.epsilon": [1.0, None], "shield.delta": [1e-4, 1e-5, 1e-6]}
    points = grid_points(shielded(Shield(epsilon=2.0)), checked_grid(over))
    assert [point.name for point in points] == [
        "epsilon=1,delta=0.0001",
        "epsilon=1,delta=1e-05",
        "epsilon=1,delta=1e-06",
        "epsilon=none",
    ]
    assert points[-1].settings == {"shield.epsilon": None}
    assert points[-1].overrides == ("shield=none",)


def test_values_that_come_to_the_same_are_one_point() -> None:
    assert len(grid_points(base(), checked_grid({"clipping_bound": [1, 1.0, None, 1]}))) == 2


def test_names_are_safe_for_folders_and_never_the_same() -> None:
    values = ["a/../b", "a/?./b", "x" * 300, "x" * 301]
    over = {"task.arguments": [{"in_features": value} for value in values]}
    names = [point.name for point in grid_points(base(), checked_grid(over))]
    assert len(set(names)) == 4
    assert all(len(name) < 140 and "/" not in name and not name.startswith(".") for name in names)


def test_parts_and_arrays_are_values_too() -> None:
    cohorts = [tacit.Poisson(rate=0.25), tacit.FixedSize(3)]
    points = grid_points(base(), checked_grid({"cohort": cohorts, "clipping_bound": np.array([0.5, 1.0])}))
    assert [point.variant.job.cohort for point in points] == [cohorts[0], cohorts[0], cohorts[1], cohorts[1]]
    assert points[0].name == "cohort=poisson_rate=0.25,clipping_bound=0.5"


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below, max_size=3),
        max_leaves=6,
    )
)
def test_a_value_survives_being_written_as_set_takes_it(value: Any) -> None:
    task = msgspec.structs.replace(worlds.job().task, arguments={"x": 0})
    assert override(task, "arguments.x", text_of(value)).arguments["x"] == value


# --- what is no grid ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "over",
    [
        {},
        {"rounds": []},
        {"task.arguments.x": [[1, None]]},
        {"seed": [0, 1]},
        {"rounds": 5},
        {"task.loss": "mse"},
        {"rounds": {"a": 1}},
    ],
)
def test_what_is_no_grid_is_refused(over: dict[str, Any]) -> None:
    assert refusal(over).code == "T135"


def test_a_value_that_the_setting_does_not_take_is_refused_before_anything_runs() -> None:
    assert refusal({"rounds": [3, "many"]}).code == "T103"
    assert refusal({"population.clients": [3, 0]}).code == "T103"
    no_split = Variant(worlds.job(), worlds.population)
    assert refusal({"population.clients": [3]}, no_split).code == "T119"


def test_seeds_are_counted_from_the_jobs_own_or_named() -> None:
    assert checked_seeds(3, first=5) == (5, 6, 7)
    assert checked_seeds([4, 0], first=5) == (4, 0)
    assert checked_seeds(np.arange(2), first=5) == (0, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("seeds", [0, -1, [], [1, 1], [-1], [0.5], ["1"]])
def test_what_are_no_seeds_is_refused(seeds: Any) -> None:
    with pytest.raises(ConfigError, match="T135"):
        checked_seeds(seeds, first=0)


def test_the_metric_is_one_that_the_task_measures() -> None:
    assert checked_metric(worlds.job(), None) == "accuracy"
    assert checked_metric(worlds.job(), "loss") == "loss"
    assert checked_metric(worlds.job(task=tacit.Task(model=worlds.linear)), None) == "loss"
    with pytest.raises(ConfigError, match="did you mean `accuracy`") as caught:
        checked_metric(worlds.job(), "acuracy")
    assert caught.value.code == "T135"


# --- the command line -----------------------------------------------------------------------------


def test_the_command_line_names_values_as_set_does() -> None:
    given = [
        "privacy.epsilon=0.5,1, none",
        'task.metrics=["accuracy", "auc"],[]',
        'name="a,b",none_of_it,"none"',
    ]
    assert read_over(given) == {
        "privacy.epsilon": (0.5, 1, None),
        "task.metrics": (["accuracy", "auc"], []),
        "name": ("a,b", "none_of_it", "none"),
    }
    assert read_over(["cohort={type = 'fixed_size', count = 5},{type='all'}"])["cohort"][1] == {"type": "all"}
    assert math.isinf(read_over(["x=inf"])["x"][0])


@pytest.mark.parametrize("text", ["rounds", "=1", "rounds=", "rounds=1,,2", "rounds=1,"])
def test_what_is_not_of_the_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="T135"):
        read_over([text])


def test_a_setting_is_swept_once() -> None:
    with pytest.raises(ConfigError, match="swept twice"):
        read_over(["rounds=1", "rounds=2"])


def test_seeds_on_the_command_line() -> None:
    assert [read_seeds(text) for text in ("3", "3,", "0, 2")] == [3, (3,), (0, 2)]
    for text in ("", "many", "1.5", ","):
        with pytest.raises(ConfigError, match="T135"):
            read_seeds(text)
