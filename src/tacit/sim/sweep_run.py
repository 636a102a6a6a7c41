"""A sweep: a grid over settings, several seeds a point, each run in a folder of its own."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tacit.core.errors import ConfigError, TacitError
from tacit.core.metrics import higher_is_better
from tacit.job import Job, Plan, PopulationLike
from tacit.sim.beginning import Source
from tacit.sim.choosing import AUTO, check_executor
from tacit.sim.populations import called
from tacit.sim.sweep_driver import SweepDriver
from tacit.sim.sweep_observer import SilentSweep, SweepObserver
from tacit.sim.sweep_planning import plans, refuse_another_grid
from tacit.sim.sweep_points import Point, checked_grid, checked_metric, checked_seeds, grid_points
from tacit.sim.sweep_result import SweepResult
from tacit.sim.sweep_settings import Variant, text_of
from tacit.store.sweep_folder import SweepFolder, SweepGrid, SweepPoint, SweepRecord, SweepRun


def sweep(
    job: Job,
    population: PopulationLike,
    over: Mapping[str, Iterable[Any]],
    *,
    seeds: int | Sequence[int] = 3,
    folder: Path | str | None = None,
    metric: str | None = None,
    workers: int | None = None,
    executor: str = AUTO,
    resume: bool = False,
    data: Path | str | None = None,
    observer: SweepObserver | None = None,
    source: Source | None = None,
) -> SweepResult:
    """Run a job at every point of a grid over its settings, with several seeds, and compare what comes out.

    A run that fails is recorded with the reason and does not end the sweep. Ctrl-C and SIGTERM stop it at the
    next safe point: the result's outcome is then ``"interrupted"``. Choosing settings by a sweep over private
    data is itself not covered by any privacy guarantee, and the report says so.

    Args:
        job: The job.
        population: What ``tacit.run`` takes.
        over: For each setting, named as ``--set`` names it (``"algorithm.local.lr"``), the values to try.
            None removes the setting: it becomes None if it may be, else the nearest block around it that
            may be left out (``"privacy.epsilon"``: the job runs without ``privacy``).
        seeds: With which seeds each point is run, or with how many, counted from the job's own.
        folder: The sweep folder; by default ``sweeps/NAME-DATE-TIME``.
        metric: By which metric points are compared; by default the first of the task. On the central test
            set if there is one, else the mean over clients.
        workers: Processes that train in each run; runs come one after the other.
        executor: Who trains, as for ``tacit.run``.
        resume: Go on with the sweep in ``folder``: complete runs are kept, unfinished and failed ones go on.
        data: Where data files lie; by default ``TACIT_DATA`` or the user's cache.
        observer: Is told how the sweep is going.
        source: Where the job came from, for the record.

    Raises:
        ConfigError: The job, the grid or the way it is run is wrong, or ``folder`` holds another sweep.
        DataError: The data is missing, or fits none of the points.
        StoreError: A folder cannot be used.
    """
    _check(workers, executor, folder, resume=resume)
    grid = checked_grid(over)
    chosen = checked_seeds(seeds, job.seed)
    base = Variant(job, called(population))
    points = grid_points(base, grid)
    metric = checked_metric(job, metric)
    found, refused = plans(base, points, data)
    record = SweepRecord(
        name=job.name,
        outcome="running",
        metric=metric,
        higher_is_better=higher_is_better(metric),
        over=grid,
        seeds=chosen,
        points=tuple(_point(point, chosen, found.get(point.name)) for point in points),
    )
    place = Path(folder) if folder is not None else default_sweep_folder(job.name)
    kept = _opened(place, _grid(job.name, grid, chosen, base, source), resume=resume)
    try:
        options = {"workers": workers, "executor": executor, "data": data}
        going = SweepDriver(kept, points, record, refused, options, observer or SilentSweep(), source)
        going.look_around(found)
        going.go()
    finally:
        kept.close()
    return SweepResult(place)


def default_sweep_folder(name: str) -> Path:
    """Return a folder for a new sweep of that name: ``sweeps/NAME-DATE-TIME``, numbered if it exists."""
    stem = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    candidates = (Path("sweeps") / (stem if not number else f"{stem}-{number}") for number in range(1000))
    return next(path for path in candidates if not path.exists())


def _check(workers: int | None, executor: str, folder: Path | str | None, *, resume: bool) -> None:
    """Refuse what would be refused for every run."""
    if workers is not None and workers < 1:
        raise ConfigError("T103", f"workers must be at least 1, not {workers}", where="workers")
    check_executor(executor)
    if resume and folder is None:
        fix = "Name the folder to go on with."
        raise ConfigError("T131", "resume needs the sweep folder", where="resume", fix=fix)


def _grid(
    name: str,
    grid: Mapping[str, tuple[Any, ...]],
    seeds: tuple[int, ...],
    base: Variant,
    source: Source | None,
) -> SweepGrid:
    return SweepGrid(
        name=name,
        over={key: tuple(map(text_of, values)) for key, values in grid.items()},
        seeds=seeds,
        settings=base.resolved(),
        source=None if source is None else source.path,
        overrides=() if source is None else source.overrides,
    )


def _opened(place: Path, grid: SweepGrid, *, resume: bool) -> SweepFolder:
    """Make the folder, or reopen that of the same sweep."""
    folder = SweepFolder.reopen(place) if resume else SweepFolder.create(place)
    try:
        if resume:
            refuse_another_grid(folder, grid)
        else:
            folder.write_grid(grid)
    except TacitError:
        folder.close()
        raise
    return folder


def _point(point: Point, seeds: Sequence[int], plan: Plan | None) -> SweepPoint:
    """Return what is known of a point before it is run; without a plan it was refused."""
    return SweepPoint(
        name=point.name,
        settings=point.settings,
        overrides=point.overrides,
        privacy="" if plan is None else plan.privacy,
        runs=tuple(SweepRun(seed=seed, folder=f"{point.name}/seed={seed}") for seed in seeds),
    )
