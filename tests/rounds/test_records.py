"""What a run writes down, and what it must not."""

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

import tacit
from tacit.core.errors import ConfigError, PlanError
from tacit.core.part import encode
from tacit.job import load_job
from tacit.sim.observer import Silent
from tacit.store import RunFolder

SECRET = 91827.375  # no other number of a run looks like it


def linear() -> nn.Module:
    return nn.Linear(2, 1)


def regression(**settings: object) -> tacit.Job:
    return tacit.Job(
        name="records",
        task=tacit.Task(model=linear, loss="mse", metrics=["mae"]),
        algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=1e-12)),
        cohort=tacit.All(),
        rounds=1,
        **settings,  # type: ignore[arg-type]
    )


def clients(sizes: tuple[int, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    made = {f"c{i}": (rng.normal(size=(n, 2)), rng.normal(size=n)) for i, n in enumerate(sizes)}
    made["c0"][1][0] = SECRET
    return made


@pytest.mark.parametrize("sizes", [(1, 5, 19), (40, 60, 2)])
def test_no_single_target_value_is_written_down(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    result = tacit.run(regression(), clients(sizes), folder=tmp_path / "run")
    found = result.info.population
    assert found is not None
    assert found.kind == "quantiles"
    assert found.labels == ("25 %", "median", "75 %")
    for size, row in zip(sizes, found.counts, strict=True):
        assert all(value is None for value in row) == (size < 20)
    for path in (tmp_path / "run").glob("*.*"):
        assert "91827" not in path.read_text(errors="ignore"), path.name


def test_the_words_of_a_users_own_error_are_in_no_file(tmp_path: Path) -> None:
    def quoting(outputs: Tensor, targets: Tensor) -> Tensor:
        raise ValueError(f"cannot take {SECRET}")

    job = regression(evaluation=tacit.Evaluation(clients=0))
    task = tacit.Task(model=linear, loss=quoting)
    examples = tacit.Population.of(clients((30, 30)), test=clients((5, 5))["c1"])
    with pytest.raises(ValueError, match="cannot take"):
        tacit.run(
            tacit.Job(**{**_fields(job), "task": task}),
            examples,
            folder=tmp_path / "run",
        )
    info = RunFolder.existing(tmp_path / "run").info()
    assert (info.outcome, info.reason) == ("failed", "raised ValueError")
    for path in (tmp_path / "run").glob("*.*"):
        assert "91827" not in path.read_text(errors="ignore"), path.name


def test_a_stop_rule_on_a_metric_that_nobody_measures_is_refused() -> None:
    job = regression(stop=(tacit.Patience(), tacit.TargetMetric(metric="mea", value=1.0)))
    with pytest.raises(PlanError, match="did you mean `mae`") as caught:
        tacit.plan(job, clients((3, 3)))
    assert (caught.value.code, caught.value.where) == ("T157", "$.stop[1].metric")


def test_a_setting_that_no_file_can_hold_is_refused() -> None:
    task = tacit.Task(model=nn.Linear, arguments={"in_features": object()})
    with pytest.raises(ConfigError) as caught:
        encode(task)
    assert caught.value.code == "T108"
    assert encode(tacit.Task(model=nn.Linear, arguments={"at": np.arange(3)}))["arguments"] == {
        "at": [0, 1, 2]
    }


JOB = """
import numpy as np, tacit
from torch import nn
def model(): return nn.Linear(2, 1)
def population(): return {"a": (np.ones((4, 2)), np.ones(4)), "b": (np.zeros((4, 2)), np.zeros(4))}
job = tacit.Job(
    name="code", task=tacit.Task(model=model, loss="mse"), cohort=tacit.All(), rounds=2,
    algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.1)),
)
"""


class Stopper(Silent):
    def round_closed(self, record: object) -> None:
        raise KeyboardInterrupt


def test_a_run_is_not_resumed_with_other_code(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(JOB)
    loaded = load_job(path)
    tacit.run(loaded.job, loaded.population, folder=tmp_path / "run", observer=Stopper())
    path.write_text(JOB.replace("nn.Linear(2, 1)", "nn.Linear(2, 1, bias=True)"))
    with pytest.raises(ConfigError, match="functions have changed") as caught:
        tacit.run(loaded.job, loaded.population, folder=tmp_path / "run", resume=True)
    assert caught.value.code == "T132"
    path.write_text(JOB)
    assert (
        tacit.run(loaded.job, loaded.population, folder=tmp_path / "run", resume=True).outcome == "completed"
    )


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(2), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.norm(x))
        return out


def test_running_statistics_of_unscaled_data_get_in(tmp_path: Path) -> None:
    data = {name: (x * 2000.0, y) for name, (x, y) in clients((8, 8)).items()}
    data["c0"][1][0] = 0.0
    job = tacit.Job(**{**_fields(regression()), "task": tacit.Task(model=Normed, loss="mse")})
    result = tacit.run(job, data, folder=tmp_path / "run")
    assert result.rounds[0].failed == {}


def _fields(job: tacit.Job) -> dict[str, object]:
    return {name: getattr(job, name) for name in job.__struct_fields__}
