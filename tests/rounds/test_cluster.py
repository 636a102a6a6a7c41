"""A cluster gives the same model as one machine, whoever dies on the way, and nothing is left on it."""

import os
import random
import shutil
import signal
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.core.errors import RunError
from tacit.job import make_plan, model_seed
from tacit.round.messages import Assignment
from tacit.sim import crew
from tacit.sim.cluster import RayTrainers
from tacit.sim.engine import Call
from tacit.training.flat import build
from tests.rounds import worlds
from tests.rounds.launcher import Launcher, until
from tests.rounds.nodes import Deadly, Greedy, Nodes, Once, Slow, kill_whoever_writes
from tests.rounds.test_kills import begun
from tests.rounds.worlds import told

Undisturbed = Callable[[str], dict[str, Any]]
TORCH: dict[str, Any] = {"executor": "torch"}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A cluster of two nodes, one CPU each."""
    if sys.platform != "linux":
        pytest.skip("looks for processes in /proc")
    nodes = Nodes()
    yield nodes
    nodes.close()


@pytest.fixture(autouse=True)
def no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason for a warning."""
    monkeypatch.setattr(crew, "_LATECOMERS_S", 60.0)


JOB = """
import numpy as np
import tacit
from model_beside import model

def loss(outputs, targets):
    from model_beside import half
    return half(outputs, targets)

class Clinic:
    def __init__(self, number):
        self.number = number
    def __call__(self):
        rng = np.random.default_rng(self.number)
        return rng.standard_normal((9, 4)).astype(np.float32), rng.integers(0, 2, 9)

shared = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)

def population():
    clients = {f"c{number}": Clinic(number) for number in range(9)}
    clients["arrays"] = (shared, np.arange(12) % 2)
    clients["broken"] = lambda: 1 / 0
    return tacit.Population.of(clients, sizes={"broken": 3}, holdout=0.2)

job = tacit.Job(
    name="files",
    task=tacit.Task(model=model, loss=loss, metrics=[lambda outputs, targets: outputs.abs().mean()]),
    algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.1, batch_size=3)),
    cohort=tacit.All(),
    rounds=2,
)
"""
BESIDE = """
from torch import nn

def model():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))

def half(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets) * 0.5
"""


def test_a_job_file_that_no_node_has_gives_the_same_run_as_here(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "study"
    place.mkdir()
    (place / "model_beside.py").write_text(BESIDE)
    (place / "study.py").write_text(JOB)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the job file's folder joins it
    loaded = tacit.load_job(place / "study.py")
    tacit.run(loaded.job, loaded.population, folder=tmp_path / "here", **TORCH)
    monkeypatch.setattr("tacit.sim.cluster.loaded_sources", gone_after_reading(place))
    result = tacit.run(loaded.job, loaded.population, folder=tmp_path / "cluster", cluster=nodes.url, **TORCH)
    assert not place.exists()
    assert result.info.workers == 2
    assert told(tmp_path / "cluster") == told(tmp_path / "here")
    nodes.until_idle()


def gone_after_reading(place: Path) -> Callable[[], Any]:
    """Read the sources, then remove them: what the nodes import cannot come from this disk."""
    from tacit.sim.sources import loaded_sources

    def read() -> Any:
        found = loaded_sources()
        shutil.rmtree(place)
        return found

    return read


def clients(mark: Path, what: str) -> tacit.Population:
    """Forty clients; that with the least data, the last one to be trained, does something once."""
    sizes = {f"c{number:02}": 6 + number for number in range(40)}
    loaders = {name: worlds.Loader(number + 10, size) for number, (name, size) in enumerate(sizes.items())}
    special = {"c00": Once(10, sizes["c00"], mark, what, os.getpid())}
    return tacit.Population.of({**loaders, **special}, sizes=sizes)


def everybody() -> tacit.Job:
    return worlds.job(cohort=tacit.All(), rounds=3, model=worlds.dropping)


def undisturbed_by_clients(folder: Path) -> dict[str, Any]:
    mark = folder.with_name("mark-before")
    mark.touch()
    tacit.run(everybody(), clients(mark, "nothing"), folder=folder.with_name("before"), **TORCH)
    return told(folder.with_name("before"))


def test_what_a_killed_worker_had_summed_is_done_again_and_the_round_completes(
    nodes: Nodes, folder: Path
) -> None:
    mark = folder.with_name("mark")
    killer = threading.Thread(target=kill_whoever_writes, args=[mark])
    killer.start()
    tacit.run(everybody(), clients(mark, "sleep"), folder=folder, cluster=nodes.url, **TORCH)
    killer.join()
    assert told(folder) == undisturbed_by_clients(folder)
    nodes.until_idle()


def test_ctrl_c_stops_at_once_leaves_no_worker_and_the_run_goes_on_without_the_cluster(
    nodes: Nodes, folder: Path
) -> None:
    mark = folder.with_name("mark")
    population = clients(mark, "interrupt")
    assert (
        tacit.run(everybody(), population, folder=folder, cluster=nodes.url, **TORCH).outcome == "interrupted"
    )
    nodes.until_idle()
    assert mark.exists()
    assert tacit.run(everybody(), population, folder=folder, resume=True, **TORCH).outcome == "completed"
    assert told(folder) == undisturbed_by_clients(folder)


@pytest.mark.slow
@pytest.mark.parametrize("world", ["stragglers", "poisson", "average_buffers", "local_buffers"])
def test_a_cluster_gives_the_same_run_as_one_process_and_as_two(
    nodes: Nodes, undisturbed: Undisturbed, folder: Path, world: str
) -> None:
    job = getattr(worlds, world)()
    tacit.run(job, worlds.population, folder=folder, cluster=nodes.url, **TORCH)
    tacit.run(job, worlds.population, folder=folder.with_name("two"), workers=2, **TORCH)
    assert told(folder) == told(folder.with_name("two")) == undisturbed(world)


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["rules", "stacked", "onnx"])
def test_a_cluster_gives_the_same_run_with_any_executor(nodes: Nodes, folder: Path, executor: str) -> None:
    tacit.run(worlds.plain(), worlds.population, folder=folder, cluster=nodes.url, executor=executor)
    here = folder.with_name("here")
    tacit.run(worlds.plain(), worlds.population, folder=here, executor=executor)
    assert told(folder) == told(here)


def slow_clients() -> tacit.Population:
    sizes = {f"c{number:02}": 6 + number for number in range(40)}
    loaders = {name: Slow(number, size) for number, (name, size) in enumerate(sizes.items())}
    return tacit.Population.of(loaders, sizes=sizes, holdout=0.2)


def slow_job() -> tacit.Job:
    return worlds.job(cohort=tacit.All(), rounds=6, model=worlds.dropping)


@pytest.fixture(scope="module")
def slow_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed run of the slow job tells."""
    folder = tmp_path_factory.mktemp("slow") / "run"
    tacit.run(slow_job(), slow_clients(), folder=folder, **TORCH)
    return told(folder)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_whatever_dies_at_whatever_instant_the_model_is_the_same(
    nodes: Nodes, slow_run: dict[str, Any], folder: Path, seed: int
) -> None:
    ended = threading.Event()

    def kill_some() -> None:
        rng = random.Random(seed)
        for _ in range(6):
            if ended.wait(rng.uniform(0.5, 2.0)):
                return
            for pid in rng.sample(nodes.actors(), min(1, len(nodes.actors()))):
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_some)
    killer.start()
    try:
        tacit.run(slow_job(), slow_clients(), folder=folder, cluster=nodes.url, **TORCH)
    finally:
        ended.set()
        killer.join()
    assert told(folder) == slow_run


@pytest.mark.slow
def test_a_run_goes_on_when_a_node_vanishes(slow_run: dict[str, Any], folder: Path) -> None:
    nodes = Nodes()  # of its own: it takes a while until a cluster counts the vanished node no more

    def vanish() -> None:
        until(lambda: (folder / "rounds.jsonl").exists() and bool((folder / "rounds.jsonl").read_bytes()))
        assert len(nodes.actors()) == 2
        nodes.remove_second()

    thread = threading.Thread(target=vanish)
    thread.start()
    result = tacit.run(slow_job(), slow_clients(), folder=folder, cluster=nodes.url, **TORCH)
    thread.join()
    nodes.close()
    assert result.info.workers == 2
    assert told(folder) == slow_run


@pytest.mark.slow
def test_a_client_that_no_worker_survives_ends_the_run_with_a_number(nodes: Nodes, folder: Path) -> None:
    population = tacit.Population.of({"a": Deadly(), "b": Slow(1, 6)}, sizes={"a": 3, "b": 6})
    with pytest.raises(RunError, match=r"T312.*ended 4 workers"):
        tacit.run(everybody(), population, folder=folder, cluster=nodes.url, **TORCH)
    nodes.until_idle()


@pytest.mark.slow
def test_an_error_of_a_worker_ends_the_run_with_its_traceback(nodes: Nodes, folder: Path) -> None:
    population = tacit.Population.of({"a": Greedy(), "b": Slow(1, 6)}, sizes={"a": 3, "b": 6})
    with pytest.raises(RunError, match="T302") as caught:
        tacit.run(everybody(), population, folder=folder, cluster=nodes.url, **TORCH)
    assert "MemoryError" in caught.value.where
    nodes.until_idle()


@pytest.mark.slow
def test_nodes_with_other_versions_are_refused(
    nodes: Nodes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = crew.versions()
    monkeypatch.setattr(crew, "versions", lambda: {**here, "numpy": "1.0"})
    with pytest.raises(RunError, match=f"T313.*numpy {here['numpy']} instead of 1.0"):
        tacit.run(everybody(), slow_clients(), folder=folder, cluster=nodes.url, **TORCH)
    assert not folder.exists()
    nodes.until_idle()


@pytest.mark.slow
def test_nodes_of_another_kind_are_warned_of(
    nodes: Nodes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "machine", lambda: "an abacus")
    with pytest.warns(RuntimeWarning, match="not an abacus"):
        tacit.run(everybody(), slow_clients(), folder=folder, cluster=nodes.url, **TORCH)


@pytest.mark.slow
def test_workers_that_find_no_cpu_join_later_or_not_at_all(
    nodes: Nodes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "_LATECOMERS_S", 0.5)
    with pytest.warns(RuntimeWarning, match="2 of 3 workers have started"):
        tacit.run(everybody(), slow_clients(), folder=folder, workers=3, cluster=nodes.url, **TORCH)


@pytest.mark.slow
def test_a_cluster_whose_cpus_are_taken_is_given_up(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    job, population = everybody(), slow_clients()
    plan = make_plan(job, build(job.task, model_seed(job)).layout, population.sizes)
    with RayTrainers(nodes.url) as first:
        first.set_up(plan, population)
        monkeypatch.setattr(crew, "_PATIENCE_S", 1.0)
        with RayTrainers(nodes.url) as second, pytest.raises(RunError, match=r"T312.*none has started"):
            second.set_up(plan, population)
        assert ray.is_initialized()  # the second used the connection of the first
        assert len(nodes.actors()) == 2
    assert not ray.is_initialized()
    nodes.until_idle()


@pytest.mark.slow
def test_the_driver_holds_a_few_models_whatever_the_cohort(nodes: Nodes) -> None:
    job = worlds.job(cohort=tacit.All(), model=large)
    population = tacit.Population.of({f"c{n}": worlds.examples(n, 5) for n in range(60)})
    plan = make_plan(job, build(job.task, model_seed(job)).layout, population.sizes)
    vector = np.zeros(plan.layout.size, dtype=np.float32)
    with RayTrainers(nodes.url) as trainers:
        trainers.set_up(plan, population)
        groups = [[Call(position)] for position in range(60)]
        tracemalloc.start()
        done, partial = trainers.train(Assignment("small", 0, None, False), vector, groups, lambda: None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert partial.clients == len(done.clients) == 60
    assert partial.total.nbytes <= peak < 4 * partial.total.nbytes


def large() -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(worlds.FEATURES, 50_000), nn.ReLU(), nn.Linear(50_000, worlds.CLASSES))


CODE = """
import os
os.environ.setdefault("RAY_AUTH_TOKEN", "0" * 64)  # otherwise Ray writes one into the user's home
import tacit
from tests.rounds.test_cluster import slow_clients, slow_job

found = tacit.run(
    slow_job(),
    slow_clients(),
    folder=request["folder"],
    cluster=request["cluster"],
    workers=2,
    executor="torch",
).outcome
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_cluster_of_our_own_ends_with_the_run_however_that_ends(
    launcher: Launcher, slow_run: dict[str, Any], folder: Path, number: int
) -> None:
    started = launcher.start("", folder, code=CODE, cluster="ray")
    begun(started, folder, rounds=2)
    os.killpg(started.pid, number)
    ended = started.wait()
    started.until_alone()
    if number == signal.SIGKILL:
        assert ended["status"] == -number
        for session in Path("/tmp").glob(f"tacit-ray-*/session_*_{started.pid}"):
            shutil.rmtree(session.parent)
    else:
        assert ended["found"] == "interrupted"
        assert "Traceback" not in started.log.read_text()
        assert "ray" not in started.log.read_text().lower()
    tacit.run(slow_job(), slow_clients(), folder=folder, resume=True, **TORCH)
    assert told(folder) == slow_run


@pytest.mark.slow
def test_workers_end_with_a_driver_that_was_killed(nodes: Nodes, launcher: Launcher, folder: Path) -> None:
    started = launcher.start("", folder, code=CODE, cluster=nodes.url)
    begun(started, folder, rounds=2)
    assert len(nodes.actors()) == 2
    started.kill()
    started.until_alone()
    nodes.until_idle()
