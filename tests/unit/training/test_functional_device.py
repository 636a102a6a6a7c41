"""Where to compute: found, or refused with what to do; and a whole run on what is found."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tacit
from tacit.core.errors import ConfigError
from tacit.job import make_plan, model_seed
from tacit.round import RoundRecord
from tacit.sim.choice_key import choice_key
from tacit.sim.choosing import Chosen, choose
from tacit.sim.observer import Silent
from tacit.store.choices import ChoiceCache
from tacit.training.flat import build
from tacit.training.functional_device import Device, device_beside, exactly, open_device
from tests.rounds import worlds
from tests.rounds.worlds import examples, told

SECOND = Device("cpu:0", "a second processor", kept_bytes=2**20)
"""The processor by another name: a run on it goes where one on a GPU goes."""
NOWHERE = Device("meta", "no numbers")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place for a run folder."""
    return tmp_path / "run"


needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


# --- devices -------------------------------------------------------------------------------------


@needs_no_gpu
@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_where_there_is_no_gpu_the_processor_computes(name: str) -> None:
    assert open_device(name) == Device()
    assert open_device(name, alone=False).is_cpu


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "cuda0", "meta", ""])
def test_a_device_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no device `{name}`") as caught:
        open_device(name)
    assert caught.value.code == "T105"


@needs_no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
def test_a_gpu_that_is_not_here_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(ConfigError, match="finds no GPU here") as caught:
        open_device(name)
    assert caught.value.code == "T105"
    assert "driver" in caught.value.fix


@pytest.mark.parametrize("more", [{"workers": 2}, {"cluster": "ray"}])
def test_several_processes_cannot_share_a_gpu(folder: Path, more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot share `cuda`") as caught:
        tacit.run(worlds.plain(), worlds.population, folder=folder, device="cuda", **more)
    assert caught.value.code == "T109"
    assert not folder.exists()


def test_what_is_written_of_a_device_is_read_again() -> None:
    assert device_beside(Device().beside("a machine")) == ""
    assert Device().beside("a machine") == "a machine"
    assert device_beside(SECOND.beside("a machine")) == "a second processor"
    assert str(SECOND) == "cpu:0 (a second processor)"


def test_exact_settings_are_undone_even_after_an_error() -> None:
    def now() -> list[Any]:
        cudnn = torch.backends.cudnn
        return [torch.are_deterministic_algorithms_enabled(), cudnn.allow_tf32, cudnn.benchmark,
                torch.get_float32_matmul_precision()]  # fmt: skip

    before = now()
    torch.backends.cudnn.benchmark = True
    try:
        found = []
        with suppress(KeyError), exactly():
            found = now()
            raise KeyError
        assert found == [True, False, False, "highest"]
        assert now() == [*before[:2], True, before[3]]
    finally:
        torch.backends.cudnn.benchmark = before[2]


# --- choosing ------------------------------------------------------------------------------------


@pytest.fixture
def every_run_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.sim.choosing._FEW_STEPS", 0)
    monkeypatch.setattr("tacit.sim.choosing._SHORT_S", 0.0)


def chosen(place: Path, device: Device, executor: str = "auto", **settings: Any) -> Chosen:
    job, population = worlds.job(**settings), worlds.population()
    model = build(job.task, model_seed(job))
    plan = make_plan(job, model.layout, population.sizes)
    return choose(plan, population, model, executor, cache=ChoiceCache(place), device=device)


@pytest.mark.usefixtures("every_run_is_long")
def test_a_device_has_one_executor_and_its_choice_is_kept_for_that_device(tmp_path: Path) -> None:
    first = chosen(tmp_path, SECOND, cohort=tacit.FixedSize(16))
    assert first.choice.executor in ("functional", "torch")
    assert first.choice.reason.startswith(("on cpu:0 (a second processor), ", "on the processor, "))
    assert "rules" not in first.choice.reason
    assert chosen(tmp_path, SECOND, cohort=tacit.FixedSize(16)) == first


@pytest.mark.usefixtures("every_run_is_long")
def test_what_a_device_cannot_train_torch_trains_on_the_processor(tmp_path: Path) -> None:
    normalised = chosen(tmp_path, SECOND, model=worlds.normalised).choice
    assert normalised.executor == "torch"
    assert normalised.reason.startswith("on the processor, no other can train this (functional: buffers")
    nowhere = chosen(tmp_path, NOWHERE).choice
    assert nowhere.executor == "torch"
    assert "functional: many clients in one call: Cannot copy out of meta tensor" in nowhere.reason


def test_a_choice_belongs_to_its_device() -> None:
    job = worlds.plain()
    model = build(job.task, 0)
    plan = make_plan(job, model.layout, worlds.population().sizes)
    keys = {choice_key(plan, model, examples(1, 5), str(device)) for device in (Device(), SECOND, NOWHERE)}
    assert len(keys) == 3


def test_dropout_is_compared_with_torch_that_is_given_the_same_numbers(tmp_path: Path) -> None:
    found = chosen(tmp_path, SECOND, "functional", model=worlds.dropping).choice
    assert found.reason.startswith("asked for; on cpu:0 (a second processor), equal to torch to ")


def test_a_large_model_is_trained_for_several_clients_at_once_on_a_device_alone(tmp_path: Path) -> None:
    """Rows of three megabytes each: on the processor few of them are kept at a time."""
    settings = {"model": _large, "cohort": tacit.FixedSize(12), "local": tacit.LocalSGD(lr=0.1, steps=1)}
    assert chosen(tmp_path, SECOND, "functional", **settings).choice.group == 12
    assert chosen(tmp_path, Device(), "functional", **settings).choice.group == 2


def test_an_executor_of_the_processor_is_refused_on_a_device(tmp_path: Path) -> None:
    for name in ("rules", "stacked", "onnx"):
        with pytest.raises(ConfigError, match=f"`{name}` trains on the processor alone") as caught:
            chosen(tmp_path, SECOND, name)
        assert caught.value.code == "T109"


# --- runs ----------------------------------------------------------------------------------------


class Stopping(Silent):
    """Asks to stop after a round."""

    def round_closed(self, record: RoundRecord) -> None:
        if record.round == 3:
            os.kill(os.getpid(), signal.SIGINT)


def run(folder: Path, observer: Silent | None = None, **settings: Any) -> tacit.Result:
    return tacit.run(worlds.stragglers(), worlds.population, folder=folder, observer=observer, **settings)


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.sim.simulate.open_device", lambda name, alone: SECOND)


def test_digits_end_as_under_torch_to_five_digits(folder: Path) -> None:
    population = tacit.data.digits().split(tacit.QuantitySkew(alpha=2.0), clients=30)
    local = tacit.LocalSGD(lr=0.2, batch_size=10, momentum=0.5, epochs=3)
    job = tacit.Job(
        name="digits",
        task=tacit.Task(model=_digits, metrics=["accuracy"]),
        algorithm=tacit.FedAvg(local=local),
        cohort=tacit.FixedSize(10),
        rounds=4,
    )
    models = []
    for name in ("functional", "torch"):
        result = tacit.run(job, population, folder=folder.with_name(name), executor=name)
        assert result.info.executor == name
        models.append(torch.nn.utils.parameters_to_vector(result.model().parameters()).detach().numpy())
    np.testing.assert_allclose(*models, atol=1e-5, rtol=0)
    assert result.metrics.central["accuracy"] > 0.5


def _large() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(worlds.FEATURES, 80_000), torch.nn.Linear(80_000, worlds.CLASSES)
    )


def _digits() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


@pytest.mark.slow
def test_two_workers_give_the_same_run(folder: Path) -> None:
    run(folder, executor="functional")
    run(folder.with_name("two"), executor="functional", workers=2)
    assert told(folder.with_name("two")) == told(folder)


@pytest.mark.usefixtures("second")
def test_a_run_on_a_device_is_resumed_on_it_and_nowhere_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(folder.with_name("whole"), executor="functional")
    assert whole.info.machine.endswith("; trained on a second processor")
    stopped = run(folder, Stopping(), executor="functional")
    assert stopped.outcome == "interrupted"
    for device, words in ((Device(), "not on cpu"), (NOWHERE, "not on meta")):
        monkeypatch.setattr("tacit.sim.simulate.open_device", lambda name, alone, device=device: device)
        with pytest.raises(ConfigError, match=f"began on a second processor, {words}") as caught:
            run(folder, resume=True)
        assert caught.value.code == "T142"
    monkeypatch.setattr("tacit.sim.simulate.open_device", lambda name, alone: SECOND)
    assert run(folder, resume=True).outcome == "completed"
    assert told(folder) == told(folder.with_name("whole"))


def test_what_the_processor_trained_is_not_resumed_on_a_device(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, Stopping(), executor="functional")
    monkeypatch.setattr("tacit.sim.simulate.open_device", lambda name, alone: SECOND)
    with pytest.raises(ConfigError, match="began on the processor, not on cpu:0"):
        run(folder, resume=True)
