from pathlib import Path

import pytest

FIXED_NAMES = {
    "job.toml",
    "run.json",
    "rounds.jsonl",
    "metrics.jsonl",
    "privacy.jsonl",
    "model.safetensors",
    "report.html",
}


def test_run_says_everything_in_its_last_line_of_json(tacit, job: Path) -> None:
    ended = tacit("run", str(job), "--json", "--out", "one")
    said = ended.json
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 1
    assert said["outcome"] == "completed"
    assert said["rounds"] == 3
    assert said["run"] == "one"
    assert set(said["metrics"]) == {"central", "clients"}
    assert 0 <= said["metrics"]["clients"]["accuracy"]["worst_10"] <= 1
    assert said["seconds"] > 0 < said["seconds_per_round"]
    assert said["bytes_up_per_client"] > 0 < said["bytes_down_per_client"]
    assert len(said["model_sha256"]) == 64


def test_the_run_folder_has_its_fixed_names(tacit, job: Path, folder: Path) -> None:
    tacit("run", str(job), "--out", "one")
    assert {path.name for path in (folder / "one").iterdir()} >= FIXED_NAMES


def test_a_short_run_writes_a_line_for_each_round(tacit, job: Path) -> None:
    ended = tacit("run", str(job))
    lines = [line for line in ended.out.splitlines() if line.startswith("round ")]
    assert [line.split()[1] for line in lines] == ["0/3", "1/3", "2/3", "3/3"]
    assert "accuracy" in lines[-1]
    assert "not private" in ended.out
    assert "report.html" in ended.out
    assert ended.err == ""


def test_with_json_everything_for_people_goes_to_stderr(tacit, job: Path) -> None:
    ended = tacit("run", str(job), "--json")
    assert "round 3/3" in ended.err
    assert "not private" in ended.err


def test_a_quiet_run_prints_its_folder_alone(tacit, job: Path) -> None:
    ended = tacit("run", str(job), "--quiet", "--out", "one")
    assert (ended.out, ended.err) == ("one\n", "")


def test_settings_are_changed_and_recorded(tacit, job: Path, folder: Path) -> None:
    tacit("run", str(job), "--out", "one", "--set", "rounds=1", "--set", "algorithm.local.lr=0.5")
    assert "lr = 0.5" in (folder / "one" / "job.toml").read_text()
    assert "algorithm.local.lr=0.5" in (folder / "one" / "run.json").read_text()


def test_python_and_toml_train_the_same_model(tacit, job: Path, toml: Path) -> None:
    runs = [tacit("run", str(path), "--json").json["model_sha256"] for path in (job, toml)]
    assert runs[0] == runs[1]


def test_the_model_does_not_depend_on_the_number_of_workers(tacit, job: Path) -> None:
    runs = [tacit("run", str(job), "--json", "--workers", n).json["model_sha256"] for n in ("1", "2")]
    assert runs[0] == runs[1]


def test_a_finished_run_is_neither_overwritten_nor_resumed(tacit, job: Path) -> None:
    first = tacit("run", str(job), "--out", "one", "--json").json
    again, resumed = (
        tacit("run", str(job), "--out", "one"),
        tacit("run", str(job), "--out", "one", "--resume"),
    )
    assert (again.code, resumed.code) == (5, 5)
    assert "T403" in again.err
    assert "T407" in resumed.err
    assert tacit("evaluate", "one", "--json").json["metrics"] == first["metrics"]


def test_there_may_be_nothing_to_resume(tacit, job: Path) -> None:
    tacit("run", str(job))
    ended = tacit("run", str(job), "--resume")
    assert ended.code == 5
    assert "T409" in ended.err
    assert "'tiny'" in ended.err


def _with_failing_loss(job: Path, condition: str) -> None:
    text = job.read_text().replace("import tacit\n", "import tacit\nimport torch, sys\n", 1)
    loss = (
        "def loss(outputs, targets):\n"
        f"    if {condition}:\n"
        "        raise ValueError('a client that raises')\n"
        "    return nn.functional.cross_entropy(outputs, targets)\n\njob ="
    )
    job.write_text(text.replace("job =", loss).replace("model=model,", "model=model, loss=loss,"))


def test_a_client_that_raises_is_shown_once_and_takes_nobody_along(tacit, job: Path) -> None:
    broken = "dict.fromkeys(map(str, range(9)), data) | {'broken': lambda: 1 / 0}"
    text = job.read_text().replace(
        "return tacit.data.digits()", "data = sample()\n    return tacit.Population.of("
    )
    text = text.replace(".split(tacit.IID(), clients=10)", f"{broken}, sizes={{'broken': 5}})")
    sample = "def sample():\n    return np.ones((5, 64), np.float32), np.zeros(5, int)\n\ndef population"
    job.write_text("import numpy as np\n" + text.replace("def population", sample))
    ended = tacit("run", str(job), "--set", "cohort.count=10", "--json")
    assert ended.code == 0
    assert ended.json["outcome"] == "completed"
    assert ended.err.count("ZeroDivisionError: ") == 1
    assert "client broken raised ZeroDivisionError" in ended.err
    assert "9/10 answered" in ended.err


def test_a_run_whose_every_client_raises_fails_and_says_why(tacit, job: Path, folder: Path) -> None:
    _with_failing_loss(job, "outputs.requires_grad")
    ended = tacit("run", str(job), "--out", "one", "--json")
    assert ended.code == 4
    assert ended.json["outcome"] == "failed"
    assert ended.json["error"]["code"] == "T304"
    assert "raised ValueError" in ended.json["error"]["what"]
    assert ended.err.count("Traceback") == 1
    assert "--out one --resume" in ended.json["resume"]
    assert (folder / "one" / "report.html").is_file()


def test_what_a_job_file_raises_in_evaluation_fails_the_run_and_names_the_line(tacit, job: Path) -> None:
    _with_failing_loss(job, "not outputs.requires_grad")
    ended = tacit("run", str(job), "--json")
    assert ended.code == 4
    assert ended.json["outcome"] == "failed"
    assert ended.json["error"]["code"] == "T306"
    assert f"{job}, line" in ended.json["error"]["where"]
    assert "This is a bug" not in ended.err


def test_a_model_that_does_not_fit_the_data_is_no_bug_of_ours(tacit, job: Path) -> None:
    job.write_text(job.read_text().replace("nn.Linear(64, 10)", "nn.Linear(63, 10)"))
    ended = tacit("run", str(job))
    assert ended.code == 4
    assert "63" in ended.err
    assert "This is a bug" not in ended.err


def test_a_model_that_diverges_fails_with_a_reason(tacit, job: Path) -> None:
    wild = ("--set", "algorithm.server.lr=1e18", "--set", "algorithm.local.lr=1e18")
    ended = tacit("run", str(job), *wild, "--json")
    assert ended.code == 4
    assert ended.json["error"]["code"] == "T304"
    assert "finite" in ended.json["error"]["what"]


@pytest.mark.parametrize("option", [["--workers", "0"], ["--rounds", "5"], ["--set"]])
def test_wrong_options_are_usage_errors_with_a_number(tacit, job: Path, option: list[str]) -> None:
    ended = tacit("run", str(job), *option)
    assert ended.code == 2
    assert "T100" in ended.err
    assert "--help` shows how it is used" in ended.err
