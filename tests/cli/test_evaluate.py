from pathlib import Path

import pytest


@pytest.fixture
def run(tacit, job: Path) -> dict:
    return tacit("run", str(job), "--out", "one", "--json").json


def test_the_final_model_measures_again_what_the_run_measured(tacit, run: dict) -> None:
    ended = tacit("evaluate", "one", "--json")
    assert ended.code == 0
    assert ended.json["metrics"] == run["metrics"]
    assert "accuracy" in ended.err


def test_fewer_clients_or_none_may_be_measured(tacit, run: dict) -> None:
    few = tacit("evaluate", "one", "--clients", "3", "--json").json["metrics"]
    none = tacit("evaluate", "one", "--clients", "0", "--json").json["metrics"]
    assert few["clients"]["accuracy"]["clients"] == 3
    assert none["clients"] == {}
    assert few["central"] == none["central"] == run["metrics"]["central"]


def test_a_population_that_is_a_function_is_read_from_the_job_file(tacit, job: Path) -> None:
    sample = "data = np.ones((5, 64), np.float32), np.zeros(5, int)\n\ndef population"
    text = "import numpy as np\n" + job.read_text().replace("def population", sample)
    mapping = "return tacit.Population.of(dict.fromkeys('abcd', data), test=data) #"
    job.write_text(text.replace("return tacit.data", mapping))
    before = tacit("run", str(job), "--out", "one", "--json").json
    after = tacit("evaluate", "one", "--json")
    assert after.json["metrics"] == before["metrics"]
    assert "warning" not in after.err


def test_a_job_file_that_has_changed_since_is_warned_about(tacit, run: dict, job: Path) -> None:
    job.write_text(job.read_text() + "# another line\n")
    ended = tacit("evaluate", "one")
    assert ended.code == 0
    assert "has changed since the run" in ended.err


def test_another_population_may_be_measured(tacit, run: dict, toml: Path) -> None:
    toml.write_text(toml.read_text().replace("clients = 10", "clients = 10\nseed = 7"))
    ended = tacit("evaluate", "one", "--on", "tiny.toml", "--json")
    assert ended.code == 0
    assert ended.json["on"] == "tiny.toml"
    assert ended.json["metrics"] != run["metrics"]


def test_data_of_another_shape_is_refused(tacit, run: dict, toml: Path) -> None:
    toml.write_text(toml.read_text().replace("digits", "breast_cancer"))
    ended = tacit("evaluate", "one", "--on", "tiny.toml", "--json")
    assert ended.code == 3
    assert ended.json["error"]["code"] == "T224"


def test_a_run_without_a_model_cannot_be_measured(tacit, run: dict) -> None:
    Path("one/model.safetensors").unlink()
    ended = tacit("evaluate", "one", "--json")
    assert ended.code == 4
    assert ended.json["error"]["code"] == "T303"


def test_a_model_with_buffers_of_its_own_at_every_client_measures_the_same_again(tacit, job: Path) -> None:
    layers = "nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 10))"
    text = job.read_text().replace("nn.Linear(64, 10)", layers)
    job.write_text(text.replace("model=model,", 'model=model, buffers="local",'))
    before = tacit("run", str(job), "--out", "one", "--json").json["metrics"]
    after = tacit("evaluate", "one", "--json").json["metrics"]
    assert before["central"] == {}
    assert after == before


def test_the_report_is_written_again(tacit, run: dict) -> None:
    report = Path("one/report.html")
    report.unlink()
    ended = tacit("report", "one", "--json")
    assert ended.code == 0
    assert ended.json["report"] == str(report)
    assert ended.json["model_sha256"] == run["model_sha256"]
    assert report.is_file()


def test_runs_are_put_side_by_side(tacit, run: dict, job: Path) -> None:
    tacit("run", str(job), "--out", "two", "--set", "algorithm.local.lr=0.2")
    ended = tacit("compare", "one", "two", "--json")
    assert ended.code == 0
    assert ended.json["differences"] == {"algorithm.local.lr": [0.1, 0.2]}
    assert "algorithm.local.lr" in ended.err
