"""Runs side by side: what came out, what it cost, and which settings differ."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tacit.report import words
from tacit.report.run_data import RunData, ordered
from tacit.report.tables import plain
from tacit.store import RunFolder

if TYPE_CHECKING:
    from rich.console import RenderableType

_ABSENT = object()


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs.

    Attributes:
        folder: Where it is.
        name: The job's name.
        outcome: What became of it.
        rounds: How many rounds committed.
        central: Final metrics on the test set.
        mean: Final metrics, mean over clients.
        worst_10: Final metrics, mean over the worst tenth of clients.
        privacy: Which guarantee holds, in words.
        epsilon: What was spent, at the delta of its guarantee; None where nothing is promised.
        bytes_up: Bytes of all updates; None where they would tell how many took part.
        bytes_down: Bytes of all assignments; likewise.
        seconds: Real time.
        seed: The seed.
    """

    folder: str
    name: str
    outcome: str
    rounds: int
    central: Mapping[str, float | None]
    mean: Mapping[str, float | None]
    worst_10: Mapping[str, float | None]
    privacy: str
    epsilon: float | None
    bytes_up: int | None
    bytes_down: int | None
    seconds: float
    seed: int

    @classmethod
    def of(cls, folder: RunFolder, data: RunData) -> "ComparedRun":
        """Return what a comparison says about a run."""
        clients = data.final.clients
        return cls(
            folder=str(folder.path),
            name=data.info.name,
            outcome=data.info.outcome,
            rounds=data.committed,
            central={name: _finite(value) for name, value in data.final.central.items()},
            mean={name: _finite(summary.mean) for name, summary in clients.items()},
            worst_10={name: _finite(summary.worst_10) for name, summary in clients.items()},
            privacy=data.info.privacy,
            epsilon=None if data.info.epsilon is None else _finite(data.info.epsilon),
            bytes_up=None if data.traffic is None else data.traffic.up,
            bytes_down=None if data.traffic is None else data.traffic.down,
            seconds=data.info.seconds,
            seed=data.info.seed,
        )


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; prints as a table with ``rich``.

    Attributes:
        runs: The runs, in the order given.
        differences: For each setting that is not the same everywhere, by dotted path, its value in each
            run; None where a run does not have it.
    """

    runs: tuple[ComparedRun, ...]
    differences: Mapping[str, tuple[Any, ...]]

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as the JSON object that ``--json`` prints."""
        return {
            "runs": [asdict(run) for run in self.runs],
            "differences": {path: list(values) for path, values in self.differences.items()},
        }

    def __rich__(self) -> "RenderableType":
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column(style="dim")
        for run in self.runs:
            table.add_column(Text(words.clean(run.name, 60)), overflow="fold", justify="right")
        for name, cells in self._lines():
            table.add_row(Text(name), *(Text(cell) for cell in cells))
        if self.differences:
            table.add_section()
            table.add_row(Text("settings that differ", style="bold"))
        for path, values in self.differences.items():
            table.add_row(
                Text(words.clean(path)),
                *(Text(words.MISSING if value is None else plain(value)) for value in values),
            )
        return table

    def _lines(self) -> Iterator[tuple[str, list[str]]]:
        yield "folder", [words.clean(run.folder) for run in self.runs]
        yield "outcome", [run.outcome for run in self.runs]
        yield "rounds", [words.count(run.rounds) for run in self.runs]
        for metric in ordered([name for run in self.runs for name in (*run.central, *run.mean)]):
            spoken = words.metric(metric)
            for place, values in (
                ("test set", "central"),
                ("clients, mean", "mean"),
                ("worst tenth", "worst_10"),
            ):
                cells = [getattr(run, values).get(metric) for run in self.runs]
                if any(cell is not None for cell in cells):
                    yield f"{spoken}, {place}", [words.number(cell) for cell in cells]
        if any(run.epsilon is not None for run in self.runs):
            # With its delta and relation: without them no two epsilons can be compared.
            yield "privacy", [words.clean(run.privacy) or words.MISSING for run in self.runs]
        for name, values in ("bytes up", "bytes_up"), ("bytes down", "bytes_down"):
            sent = [getattr(run, values) for run in self.runs]
            yield name, [words.MISSING if value is None else words.size(value) for value in sent]
        yield "time", [words.duration(run.seconds) for run in self.runs]
        yield "seed", [str(run.seed) for run in self.runs]


def compare(folders: Iterable[RunFolder]) -> Comparison:
    """Put runs side by side, finished or not.

    Raises:
        StoreError: A folder holds no run, or is damaged.
    """
    read = [(folder, RunData.read(folder)) for folder in folders]
    runs = tuple(ComparedRun.of(folder, data) for folder, data in read)
    return Comparison(runs, differences([data.settings for _, data in read]))


def differences(settings: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Return the settings that are not the same in all trees, by dotted path.

    >>> differences([{"seed": 0, "task": {"lr": 0.1}}, {"seed": 0, "task": {"lr": 0.2}}])
    {'task.lr': (0.1, 0.2)}
    """
    flat = [dict(_leaves(tree, "")) for tree in settings]
    paths = dict.fromkeys(path for leaves in flat for path in leaves)
    columns = {path: tuple(leaves.get(path, _ABSENT) for leaves in flat) for path in paths}
    return {
        path: tuple(None if value is _ABSENT else value for value in values)
        for path, values in columns.items()
        if any(value != values[0] for value in values)
    }


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the values that hold no others, with the paths that ``--set`` would take."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(tree, Mapping):
        items = tree.items()
    elif isinstance(tree, list) and any(isinstance(value, Mapping | list) for value in tree):
        items = enumerate(tree)
    below = list(items)
    if not below:
        yield path, tree
    for name, value in below:
        yield from _leaves(value, f"{path}.{name}" if path else str(name))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
