"""A run inside somebody else's program: in a thread, again and again, with any number of clients."""

import gc
import signal
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tacit
from tacit.core.errors import ConfigError
from tacit.core.examples import Examples
from tacit.data.ids import Numbered
from tests.rounds import worlds


def run(folder: Path, **settings: Any) -> str:
    result = tacit.run(worlds.plain(), worlds.population, folder=folder, **settings)
    assert result.info.model_sha256 is not None
    return result.info.model_sha256


def test_a_run_in_a_thread_gives_the_same_model(tmp_path: Path) -> None:
    digests: list[str] = []
    thread = threading.Thread(target=lambda: digests.append(run(tmp_path / "thread")))
    thread.start()
    thread.join()
    assert digests == [run(tmp_path / "main")]


def test_a_second_run_in_a_process_gives_the_same_model_whatever_happened_between(tmp_path: Path) -> None:
    first = run(tmp_path / "first")
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - what others do
    torch.rand(3)
    assert run(tmp_path / "second") == first


def test_a_run_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(11)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    run(tmp_path / "run")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert threading.active_count() == 1


def descriptors() -> int:
    if sys.platform != "linux":
        pytest.skip("looks for descriptors in /proc")
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("workers", [1, 2])
def test_runs_leave_no_descriptor_behind(tmp_path: Path, workers: int) -> None:
    run(tmp_path / "warm")
    before = descriptors()
    run(tmp_path / "run", workers=workers)
    assert descriptors() == before


def test_refused_runs_leave_no_descriptor_behind(tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "file").write_text("")
    before = descriptors()
    for place, resume in ((tmp_path / "run", False), (tmp_path / "run", True), (tmp_path / "file", False)):
        with pytest.raises(tacit.TacitError):
            tacit.run(worlds.plain(), worlds.population, folder=place, resume=resume)
    assert descriptors() == before


def test_a_population_given_by_a_function_is_asked_for_once(tmp_path: Path) -> None:
    asked = []

    def population() -> tacit.Population:
        asked.append(1)
        return worlds.population()

    tacit.run(worlds.plain(), population, folder=tmp_path / "run")
    assert len(asked) == 1


class Many:
    """A hundred thousand clients that hold nothing until they are asked."""

    ids = Numbered(100_000)
    sizes = np.full(100_000, 8, np.int64)
    has_holdout = False

    def train(self, index: int) -> Examples:
        return worlds.examples(index, 8)

    def holdout(self, index: int) -> None:
        return None

    def target(self, index: int) -> Any:
        return self.train(index).target

    def test(self) -> Examples:
        return worlds.examples(7, 50)


def test_a_hundred_thousand_clients_cost_no_memory_of_their_own(tmp_path: Path) -> None:
    job = worlds.job(cohort=tacit.FixedSize(5), rounds=2)
    tacit.run(worlds.plain(), worlds.population, folder=tmp_path / "warm")
    tracemalloc.start()
    tacit.run(job, tacit.Population(Many()), folder=tmp_path / "run")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000  # a list of their names alone would take 7 MB, a set of them 12


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_refused(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "run", workers=workers)
    assert caught.value.code == "T103"
    assert not (tmp_path / "run").exists()


def test_resuming_needs_a_folder() -> None:
    with pytest.raises(ConfigError) as caught:
        tacit.run(worlds.plain(), worlds.population, resume=True)
    assert caught.value.code == "T131"


def test_what_is_no_population_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        tacit.run(worlds.plain(), 7, folder=tmp_path / "run")  # type: ignore[arg-type]
    assert caught.value.code == "T120"
    assert not (tmp_path / "run").exists()
