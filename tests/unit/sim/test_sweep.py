"""A sweep as a whole: what its folder holds, what goes on after a stop, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tacit
from tacit.core.errors import ConfigError, DataError, StoreError
from tacit.sim.observer import Observer, Silent
from tacit.sim.sweep_observer import SilentSweep
from tacit.sim.sweep_result import SweepResult
from tacit.sim.sweep_run import sweep
from tacit.store import RunInfo
from tacit.store.sweep_folder import SweepFolder, SweepPoint, SweepRun
from tests.rounds import worlds

OVER: dict[str, list[Any]] = {"clipping_bound": [0.5, None]}


def job(**settings: Any) -> tacit.Job:
    return worlds.job(**{"rounds": 2, "seed": 0, **settings})


def swept(folder: Path, over: Any = None, **settings: Any) -> SweepResult:
    given = {"seeds": 2, "population": worlds.population, "job": job(), **settings}
    return sweep(given.pop("job"), given.pop("population"), over or OVER, folder=folder, **given)


def outcomes(result: SweepResult) -> dict[str, str]:
    return {run.folder: run.outcome for point in result.points for run in point.runs}


class Following(SilentSweep):
    """Takes note of the runs that were really performed."""

    def __init__(self) -> None:
        self.performed: list[str] = []
        self.errors: list[Exception | None] = []

    def run_ended(self, point: SweepPoint, run: SweepRun, error: Exception | None) -> None:
        self.performed.append(run.folder)
        self.errors.append(error)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return swept(tmp_path_factory.mktemp("sweeps") / "done")


def test_every_run_is_the_run_that_tacit_run_makes(done: SweepResult, tmp_path: Path) -> None:
    assert done.outcome == "completed"
    for bound, name in ((0.5, "0.5"), (None, "none")):
        for seed in (0, 1):
            alone = tacit.run(
                job(clipping_bound=bound, seed=seed), worlds.population, folder=tmp_path / f"{name}{seed}"
            )
            assert worlds.told(done.folder / f"clipping_bound={name}" / f"seed={seed}") == worlds.told(
                alone.folder
            )


def test_a_point_has_mean_spread_and_the_runs_that_gave_it(done: SweepResult) -> None:
    for point in done.points:
        values = [result.metrics.central["accuracy"] for result in done.runs(point)]
        assert [run.value for run in point.runs] == values
        assert point.mean == pytest.approx(sum(values) / 2)
        assert point.std == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        assert (point.low, point.high) == (min(values), max(values))
    assert done.best is not None
    assert done.best.mean == max(point.mean or 0 for point in done.points)


def test_the_folder_says_what_the_grid_is_and_what_came_out(done: SweepResult) -> None:
    grid = tomllib.loads((done.folder / "sweep.toml").read_text())
    assert grid["over"] == {"clipping_bound": ["0.5", "none"]}
    assert grid["seeds"] == [0, 1]
    assert grid["settings"]["rounds"] == 2
    plain = json.loads((done.folder / "sweep.json").read_text())
    assert plain["over"] == {"clipping_bound": [0.5, None]}
    assert [point["settings"] for point in plain["points"]] == [
        {"clipping_bound": 0.5},
        {"clipping_bound": None},
    ]
    assert {"mean", "std", "low", "high", "epsilon", "runs"} <= set(plain["points"][0])
    assert (plain["metric"], plain["measured"], plain["private"], plain["note"]) == (
        "accuracy",
        "central",
        False,
        "",
    )
    assert "without clipping_bound" in (done.folder / "sweep.html").read_text()
    assert done.as_dict()["report"] == str(done.folder / "sweep.html")


def test_a_finished_sweep_repeats_no_run(done: SweepResult) -> None:
    following, before = Following(), {path: path.stat().st_mtime_ns for path in done.folder.rglob("run.json")}
    again = swept(done.folder, resume=True, observer=following)
    assert following.performed == []
    assert again.outcome == "completed"
    assert {path: path.stat().st_mtime_ns for path in done.folder.rglob("run.json")} == before


def test_another_metric_is_compared_without_running_anything(done: SweepResult) -> None:
    before = done.record
    again = swept(done.folder, resume=True, metric="loss")
    assert again.best is not None
    assert again.best.mean == min(point.mean or 9 for point in again.points)
    assert swept(done.folder, resume=True).record == before


# --- stopping and going on ------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [3, 7])
def test_ctrl_c_stops_at_a_safe_point_and_resuming_ends_the_same(
    done: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(worlds.Loader, "asked", [])
    monkeypatch.setattr(worlds.Loader, "interrupt_at", asked)
    stopped = swept(tmp_path / "sweep")
    assert stopped.outcome == "interrupted"
    assert [run.outcome for point in stopped.points for run in point.runs].count("interrupted") == 1
    assert (tmp_path / "sweep" / "sweep.html").exists()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert ends_like(done, tmp_path / "sweep")


def test_ctrl_c_after_the_last_safe_point_of_a_run_stops_the_sweep(done: SweepResult, tmp_path: Path) -> None:
    class Late(Following):
        def run_begins(self, point: SweepPoint, seed: int) -> Observer:
            return AtTheEnd()

    class AtTheEnd(Silent):
        def finished(self, info: RunInfo) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    late = Late()
    assert swept(tmp_path / "sweep", observer=late).outcome == "interrupted"
    assert late.performed == ["clipping_bound=0.5/seed=0"]
    assert signal.set_wakeup_fd(-1) == -1
    assert ends_like(done, tmp_path / "sweep")


def ends_like(done: SweepResult, place: Path) -> bool:
    """Go on with a sweep; it repeats nothing and ends like one that was never stopped."""
    complete = [folder for folder, outcome in outcomes(SweepResult(place)).items() if outcome == "completed"]
    following = Following()
    resumed = swept(place, resume=True, observer=following)
    assert not set(complete) & set(following.performed)
    assert resumed.outcome == "completed"
    for folder in outcomes(done):
        assert worlds.told(resumed.folder / folder) == worlds.told(done.folder / folder)
    return True


def test_a_sweep_runs_in_a_thread(tmp_path: Path) -> None:
    outcome: list[str] = []
    thread = threading.Thread(target=lambda: outcome.append(swept(tmp_path / "sweep", seeds=1).outcome))
    thread.start()
    thread.join()
    assert outcome == ["completed"]


def test_a_sweep_that_was_killed_goes_on_where_it_was(done: SweepResult, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.unit.sim.test_sweep import swept;"
        "swept(Path(sys.argv[1]))"
    )
    environment = {
        **os.environ,
        worlds.PAUSE: "0.02",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    place = tmp_path / "sweep"
    second = place / "clipping_bound=none" / "seed=0" / "rounds.jsonl"
    with subprocess.Popen([sys.executable, "-c", program, str(place)], env=environment) as process:
        until = time.monotonic() + 60
        while not second.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert SweepResult(place).outcome == "running"
    assert outcomes(SweepResult(place))["clipping_bound=0.5/seed=0"] == "completed"
    assert ends_like(done, place)


# --- failures -------------------------------------------------------------------------------------


def test_a_run_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    following = Following()
    over = {"algorithm.local.lr": [0.1, 1e18], "algorithm.server.lr": [1e18, 1.0]}
    result = swept(tmp_path / "sweep", over, seeds=[0], observer=following)
    assert result.outcome == "failed"
    assert len(following.performed) == 4
    wild = next(point for point in result.points if point.name == "local.lr=1e+18,server.lr=1e+18")
    assert (wild.runs[0].outcome, wild.runs[0].code, wild.mean) == ("failed", "T304", None)
    assert "finite" in wild.runs[0].reason
    assert result.runs("local.lr=0.1,server.lr=1")[0].outcome == "completed"
    again = Following()
    assert swept(tmp_path / "sweep", over, seeds=[0], observer=again, resume=True).outcome == "failed"
    assert wild.runs[0].folder in again.performed
    assert "local.lr=0.1,server.lr=1/seed=0" not in again.performed


def test_a_point_that_the_plan_refuses_does_not_keep_the_others_from_running(tmp_path: Path) -> None:
    result = swept(tmp_path / "sweep", {"cohort.count": [4, 400]}, seeds=1)
    assert outcomes(result) == {"count=4/seed=0": "completed", "count=400/seed=0": "failed"}
    refused = result.points[1].runs[0]
    assert refused.code == "T152"
    assert not (result.folder / refused.folder).exists()


def test_what_is_wrong_with_every_point_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="T152"):
        swept(tmp_path / "sweep", job=job(cohort=tacit.FixedSize(400)))
    missing = tacit.data.mnist().split(tacit.IID(), clients=3)
    with pytest.raises(DataError):
        swept(
            tmp_path / "sweep",
            population=missing,
            data=tmp_path,
            job=job(task=tacit.Task(model="torch.nn:ReLU")),
        )
    for wrong in ({"workers": 0}, {"executor": "abacus"}, {"metric": "dice"}, {"seeds": 0}):
        with pytest.raises(ConfigError):
            swept(tmp_path / "sweep", **wrong)
    with pytest.raises(ConfigError, match="T131"):
        sweep(job(), worlds.population, OVER, resume=True)
    assert list(tmp_path.iterdir()) == []


def raising(outputs: Any, targets: Any) -> Any:
    if outputs.requires_grad:
        return (outputs * 0).sum()
    raise ValueError("patient 4711")


def test_the_words_of_somebody_elses_error_are_in_no_file(tmp_path: Path) -> None:
    following = Following()
    task = tacit.Task(model=worlds.linear, loss=raising)
    result = swept(tmp_path / "sweep", job=job(task=task), seeds=1, observer=following)
    assert [run.reason for point in result.points for run in point.runs] == ["raised ValueError"] * 2
    assert "4711" in str(following.errors[0])
    assert not any(b"4711" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


# --- another sweep in the same folder -------------------------------------------------------------

OTHERS: dict[str, Callable[[], dict[str, Any]]] = {
    "other values": lambda: {"over": {"clipping_bound": [0.5, 1.0]}},
    "another key": lambda: {"over": {"quorum": [0.5]}},
    "more keys": lambda: {"over": {**OVER, "quorum": [0.5]}},
    "other seeds": lambda: {"seeds": 3},
    "another job": lambda: {"job": job(rounds=3)},
    "other code": lambda: {"source": tacit.sim.Source(__file__, "0" * 64)},
    "other clients": lambda: {"population": lambda: worlds.population(clients=15)},
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_sweep_in_the_same_folder_is_refused(done: SweepResult, other: str) -> None:
    before = {path: path.read_bytes() for path in done.folder.rglob("*.*") if path.is_file()}
    with pytest.raises(ConfigError) as caught:
        swept(done.folder, resume=True, **OTHERS[other]())
    assert caught.value.code == "T138"
    assert {path: path.read_bytes() for path in done.folder.rglob("*.*") if path.is_file()} == before


def test_a_folder_holds_one_sweep_and_no_run(done: SweepResult, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="T403"):
        swept(done.folder)
    with pytest.raises(StoreError, match="T403"):
        swept(done.folder / "clipping_bound=0.5" / "seed=0")
    with pytest.raises(StoreError, match="T404"):
        swept(tmp_path / "nothing", resume=True)


def test_two_sweeps_do_not_write_to_one_folder(done: SweepResult) -> None:
    writing = SweepFolder.reopen(done.folder)
    try:
        with pytest.raises(StoreError, match="T405"):
            swept(done.folder, resume=True)
    finally:
        writing.close()


@pytest.mark.parametrize("name", ["sweep.toml", "sweep.json"])
def test_a_damaged_file_is_named(done: SweepResult, tmp_path: Path, name: str) -> None:
    for file in ("sweep.toml", "sweep.json"):
        tmp_path.joinpath(file).write_bytes((done.folder / file).read_bytes())
    tmp_path.joinpath(name).write_text("{")
    folder = SweepFolder.existing(tmp_path)
    with pytest.raises(StoreError) as caught:
        _ = folder.grid() if name == "sweep.toml" else folder.record()
    assert (caught.value.code, caught.value.where) == ("T406", str(tmp_path / name))


# --- who is measured, and by whom -----------------------------------------------------------------


def test_settings_of_the_population_are_swept_too(tmp_path: Path) -> None:
    task = tacit.Task(
        model="torch.nn:Linear", arguments={"in_features": 64, "out_features": 10}, metrics=["accuracy"]
    )
    split = tacit.data.digits().split(tacit.Dirichlet(alpha=0.3), clients=10, test=0)
    over = {"population.by.alpha": [0.1, 10]}
    result = sweep(job(task=task, rounds=1), split, over, seeds=1, folder=tmp_path / "sweep", workers=2)
    assert result.outcome == "completed"
    assert result.record.measured == "clients"
    for point, alpha in zip(result.points, (0.1, 10.0), strict=True):
        run = tomllib.loads((result.folder / point.runs[0].folder / "job.toml").read_text())
        assert run["population"]["by"]["alpha"] == alpha
        assert point.mean == result.runs(point)[0].metrics.clients["accuracy"].mean
