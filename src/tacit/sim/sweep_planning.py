"""What is looked at before the first run of a sweep begins."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tacit.core.errors import ConfigError
from tacit.data import Population
from tacit.job import Plan
from tacit.report.compare import differences
from tacit.sim.beginning import Source, first_info
from tacit.sim.planning import planned
from tacit.sim.populations import open_population
from tacit.sim.sweep_points import Point
from tacit.sim.sweep_settings import Variant
from tacit.store import RunFolder
from tacit.store.sweep_folder import SweepFolder, SweepGrid, SweepRun


def plans(
    base: Variant, points: Sequence[Point], data: Path | str | None
) -> tuple[dict[str, Plan], dict[str, Exception]]:
    """Plan every point, so that what cannot run is known before anything runs.

    Returns:
        The plans, and what the other points were refused with, both by name.

    Raises:
        TacitError: Every point is refused: it is not the grid that is wrong, so the first reason is raised.
    """
    from tacit.training.threads import borrowed_torch  # late: it imports torch

    found: dict[str, Plan] = {}
    refused: dict[str, Exception] = {}
    opened: Population | None = None
    for point in points:
        population = point.population
        try:
            if population is base.population:  # opened once for all that share it
                if opened is None:
                    opened = open_population(population, None if data is None else Path(data))
                population = opened
            with borrowed_torch():
                found[point.name] = planned(point.variant.job, population, data=data)[0]
        except Exception as error:  # noqa: BLE001 - models and populations are the user's own code
            refused[point.name] = error
    if not found:
        raise next(iter(refused.values()))
    return found, refused


def refuse_another_grid(folder: SweepFolder, grid: SweepGrid) -> None:
    """Refuse to go on with a sweep of other settings, values or seeds than it was begun with.

    Raises:
        ConfigError: They differ.
        StoreError: What it was begun with cannot be read.
    """
    before = folder.grid()
    trees = [{"over": one.over, "seeds": list(one.seeds), "settings": one.settings} for one in (before, grid)]
    changes = [
        f"{path.removeprefix('settings.')} was {_said(old)} and is {_said(new)}"
        for path, (old, new) in differences(trees).items()
    ]
    if changes or list(before.over) != list(grid.over):
        reason = "; ".join(changes[:5]) or "the settings come in another order"
        raise _another(reason, folder)


def refuse_other_code(
    folder: SweepFolder, plan: Plan, point: Point, complete: SweepRun, source: Source | None
) -> None:
    """Refuse to go on if the code or the data is no longer what a complete run had.

    Unfinished runs find out by themselves; without this a sweep could mix runs of two different jobs.

    Raises:
        ConfigError: They have changed.
    """
    settings = Variant(point.job(complete.seed), point.population).resolved()
    now = first_info(plan, settings, source, 1)
    before = RunFolder.existing(folder.path / complete.folder).info()
    if before.code_sha256 != now.code_sha256:
        raise _another("the files of its functions have changed", folder)
    if before.sizes_sha256 != now.sizes_sha256:
        raise _another("the clients hold other numbers of examples", folder)
    if before.job_sha256 != now.job_sha256:
        raise _another(f"the settings of {complete.folder} have changed", folder)


def _another(reason: str, folder: SweepFolder) -> ConfigError:
    fix = "Resume with the job, grid and seeds it was begun with, or choose another folder."
    what = f"this is not the sweep that the folder holds: {reason}"
    return ConfigError("T138", what, where=str(folder.path), fix=fix)


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return "{...}"
    return "not set" if value is None else str(value)
