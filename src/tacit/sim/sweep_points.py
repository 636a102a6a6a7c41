"""The points of a sweep's grid: every combination of values, equal ones once."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from operator import index
from typing import Any

import msgspec
import numpy as np

from tacit.core.errors import ConfigError
from tacit.core.part import encode, nearest
from tacit.job import Job, PopulationLike, digest
from tacit.report import sweep_words
from tacit.sim.sweep_settings import Variant, text_of

_UNSAFE = re.compile(r"[^A-Za-z0-9._+=,-]+")
_LONGEST = 120  # characters of a folder's name


@dataclass(frozen=True)
class Point:
    """One point of the grid.

    Attributes:
        name: Its settings in short; names its folder.
        settings: The swept settings that apply, and their values; None: removed.
        overrides: What ``--set`` would have to be given.
        variant: The job and the population.
    """

    name: str
    settings: Mapping[str, Any]
    overrides: tuple[str, ...]
    variant: Variant

    def job(self, seed: int) -> Job:
        """Return the job of one of its runs."""
        return msgspec.structs.replace(self.variant.job, seed=seed)

    @property
    def population(self) -> PopulationLike:
        """Who the clients are."""
        return self.variant.population


def checked_grid(over: Mapping[str, Iterable[Any]]) -> dict[str, tuple[Any, ...]]:
    """Return the swept settings and their values as plain data.

    Raises:
        ConfigError: There is no setting or no value, the seed is swept, or a value is not plain.
    """
    # None stays: it removes a setting.
    grid = {
        key: tuple(None if value is None else encode(value) for value in _each(key, values))
        for key, values in over.items()
    }
    if not grid:
        raise _wrong("a sweep needs a setting to vary", "over")
    for key, values in grid.items():
        if key == "seed":
            raise _wrong("the seed is no setting to compare", "over", "Give seeds: --seeds 0,1,2.")
        if not values:
            raise _wrong(f"there is no value for `{key}`", "over")
    return grid


def checked_seeds(seeds: int | Sequence[int], first: int) -> tuple[int, ...]:
    """Return the seeds of each point.

    Args:
        seeds: The seeds, or how many.
        first: The job's own: counting starts there.

    Raises:
        ConfigError: There is none, one twice, or one that is no seed.
    """
    try:
        chosen = tuple(range(first, first + seeds) if isinstance(seeds, int) else map(index, seeds))
    except TypeError:  # something else than whole numbers
        chosen = ()
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= seed <= 2**53 for seed in chosen):
        raise _wrong(f"{seeds!r} are no seeds", "seeds", "Give how many, or different whole numbers: 0,1,2.")
    return chosen


def checked_metric(job: Job, metric: str | None) -> str:
    """Return the metric that points are compared by: by default the first of the task.

    Raises:
        ConfigError: The task does not measure it.
    """
    from tacit.training.metrics import metric_name  # late: it imports torch

    known = [*map(metric_name, job.task.metrics), "loss"]
    if metric is not None and metric not in known:
        what = f"the task measures no `{metric}`{nearest(metric, known)}"
        raise _wrong(what, "metric", f"One of: {', '.join(known)}.")
    return known[0] if metric is None else metric


def grid_points(base: Variant, grid: Mapping[str, tuple[Any, ...]]) -> tuple[Point, ...]:
    """Return every combination of values; combinations that come to the same settings are one point.

    So ``privacy.epsilon=none`` is one point, whatever other settings of ``privacy`` are swept with it.

    Raises:
        ConfigError: A key or a value is none that the job may have.
    """
    names = sweep_words.short_names(grid)
    points: dict[str, Point] = {}
    taken: set[str] = set()
    for values in product(*grid.values()):
        variant, overrides, settings = _applied(base, dict(zip(grid, values, strict=True)))
        identity = digest(variant.resolved())
        if identity not in points:
            name = _free(_UNSAFE.sub("_", sweep_words.point(settings, names))[:_LONGEST], taken)
            points[identity] = Point(name, settings, overrides, variant)
    return tuple(points.values())


def _applied(base: Variant, settings: Mapping[str, Any]) -> tuple[Variant, tuple[str, ...], dict[str, Any]]:
    """Return a variant with these settings, how ``--set`` says them, and those of them that apply."""
    removed: dict[str, str] = {}
    variant = base
    for key, value in settings.items():
        if value is not None:
            variant = variant.changed(key, text_of(value))
    for key, value in settings.items():  # afterwards: what is below a removed block does not apply
        if value is None and not _is_below(key, removed.values()):
            variant, removed[key] = variant.without(key)
    applied = {
        key: value
        for key, value in settings.items()
        if key in removed or not _is_below(key, removed.values())
    }
    overrides = [f"{removed.get(key, key)}={text_of(value)}" for key, value in applied.items()]
    return variant, tuple(overrides), applied


def _is_below(key: str, blocks: Iterable[str]) -> bool:
    return any(key == block or key.startswith(f"{block}.") for block in blocks)


def _each(key: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise _wrong(f"the values of `{key}` are no list", "over", 'For example {"rounds": [10, 20]}.')
    return tuple(values.tolist() if isinstance(values, np.ndarray) else values)


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no other point has: two long values may look alike in short."""
    number = 1
    while (chosen := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    taken.add(chosen)
    return chosen


def _wrong(
    what: str, where: str, fix: str = "For example --over algorithm.local.lr=0.05,0.1,0.2."
) -> ConfigError:
    return ConfigError("T135", what, where=where, fix=fix)
