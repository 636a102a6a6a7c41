"""Every wrong file and setting: a number, the place, what to do, an exit code, and nothing left behind."""

from collections.abc import Callable
from pathlib import Path

import pytest


def _replace(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


PYTHON = {
    "syntax error": (_replace("def model():", "def model(:"), "T112", "tiny.py, line 5", "Correct the line"),
    "raises": (_replace("job =", "1 / 0\njob ="), "T113", "tiny.py, line 11", "Correct the job file"),
    "missing import": (_replace("import tacit", "import tacitt"), "T113", "line 3", "Correct the job file"),
    "unknown key": (
        _replace("rounds=3", "rounds=3, flavour=1"),
        "T113",
        "tiny.py, line",
        "Correct the job file",
    ),
    "wrong type": (_replace("rounds=3", "rounds='many'"), "T103", "Job.rounds", "of that type"),
    "impossible value": (_replace("rounds=3", "rounds=0"), "T103", "Job.rounds", "within that bound"),
    "impossible rate": (_replace("lr=0.1", "lr=-1"), "T103", "LocalSGD.lr", "within that bound"),
    "no job": (_replace("job =", "jobb ="), "T115", "tiny.py", "job = tacit.Job"),
    "no population": (_replace("def population", "def populous"), "T116", "tiny.py", "population()"),
    "wrong population": (_replace("return tacit.data", "return 5 #"), "T120", "population", "split"),
    "raising population": (
        _replace("return tacit.data", "return 1 / 0 #"),
        "T113",
        "tiny.py, line 9",
        "Correct",
    ),
    "no module": (
        _replace("return nn.Linear(64, 10)", "return 5"),
        "T121",
        "$.task.model",
        "Return a module",
    ),
    "nothing to train": (_replace("nn.Linear(64, 10)", "nn.ReLU()"), "T122", "$.task.model", "requires_grad"),
    "raising model": (_replace("Linear(64, 10)", "Linear(-64, 10)"), "T113", "tiny.py, line 6", "Correct"),
    "unknown metric": (_replace('"accuracy"', '"acuracy"'), "T106", "acuracy", "accuracy"),
    "large cohort": (_replace("FixedSize(4)", "FixedSize(40)"), "T152", "$.cohort.count", "at most 10"),
}

TOML = {
    "syntax error": (_replace("rounds = 3", "rounds = = 3"), "T112", "tiny.toml", "Correct the line"),
    "unknown key": (_replace("rounds = 3", "rounds = 3\nflavour = 1"), "T101", "flavour", "Known here"),
    "misspelt key": (_replace("rounds = 3", "ronds = 3"), "T101", "did you mean `rounds`", "Known here"),
    "misspelt below": (_replace("lr = 0.1", "l = 0.1"), "T101", "$.algorithm.local", "Known here"),
    "misspelt kind": (_replace('"fedavg"', '"fedavgg"'), "T102", "did you mean `fedavg`", "One of"),
    "wrong type": (_replace("rounds = 3", 'rounds = "many"'), "T103", "$.rounds", "of that type"),
    "wrong type below": (_replace("lr = 0.1", 'lr = "fast"'), "T103", "$.algorithm.local.lr", "of that type"),
    "impossible value": (_replace("rounds = 3", "rounds = 0"), "T103", "$.rounds", "within that bound"),
    "missing setting": (_replace("rounds = 3", ""), "T103", "rounds", "fix:"),
    "no population": (_replace("[population]", "[world]"), "T116", "tiny.toml", "Add one"),
    "wrong population": (_replace("clients = 10", "clients = 0"), "T103", "$.population.clients", "bound"),
    "unknown source": (_replace('"digits"', '"digitz"'), "T102", "did you mean `digits`", "One of"),
    "missing model": (
        _replace("tiny_model.py:model", "tiny_model.py:mode"),
        "T111",
        "tiny_model.py",
        "Define it",
    ),
    "missing model file": (_replace("tiny_model.py", "no.py"), "T110", "no.py", "fix:"),
    "later schema": (
        _replace('name = "tiny"', 'name = "tiny"\nschema_version = 99'),
        "T117",
        "tiny.toml",
        "fix:",
    ),
}

SETTINGS = {
    "ronds=5": ("T101", "did you mean `rounds`"),
    "algorithm.local.learning=5": ("T101", "$.algorithm.local"),
    "rounds=many": ("T103", "$.rounds"),
    "rounds=-1": ("T103", "$.rounds"),
    "rounds": ("T118", "--set rounds"),
    "population.clients=0": ("T103", "$.population.clients"),
}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("case", PYTHON)
def test_what_is_wrong_in_a_python_file_is_refused(
    tacit, job: Path, folder: Path, command: str, case: str
) -> None:
    change, *expected = PYTHON[case]
    job.write_text(change(job.read_text()))
    _refused(tacit(command, str(job), "--json"), expected, folder)


@pytest.mark.parametrize("case", TOML)
def test_what_is_wrong_in_a_toml_file_is_refused(tacit, toml: Path, folder: Path, case: str) -> None:
    change, *expected = TOML[case]
    toml.write_text(change(toml.read_text()))
    _refused(tacit("run", str(toml), "--json"), expected, folder)


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_is_wrong_in_an_override_is_refused(tacit, job: Path, folder: Path, setting: str) -> None:
    _refused(tacit("run", str(job), "--set", setting, "--json"), [*SETTINGS[setting], "fix:"], folder)


def _refused(ended, expected: list[str], folder: Path) -> None:
    code, place, fix = expected
    assert ended.code == 2, ended.err
    assert code in ended.err
    assert place in ended.err
    assert fix in ended.err
    assert "This is a bug" not in ended.err
    assert ended.json["error"]["code"] == code
    assert ended.json["error"]["exit_code"] == 2
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("name", ["no.py", "no.toml", "no.txt", "."])
def test_a_job_file_that_is_not_there_is_named(tacit, name: str) -> None:
    ended = tacit("run", name)
    assert ended.code == 2
    assert name in ended.err
    assert "fix:" in ended.err


def test_a_job_file_that_cannot_be_read_is_named(tacit, folder: Path) -> None:
    (folder / "binary.toml").write_bytes(b"\xff\xfe\x00")
    ended = tacit("run", "binary.toml")
    assert ended.code == 2
    assert "binary.toml" in ended.err


def test_a_missing_data_folder_is_named(tacit, job: Path) -> None:
    ended = tacit("run", str(job), "--data", "nowhere", "--json")
    assert ended.code == 3
    assert ended.json["error"]["code"] == "T220"
    assert ended.json["error"]["where"] == "nowhere"


def test_a_missing_data_file_says_what_to_put_where(tacit, toml: Path, folder: Path) -> None:
    toml.write_text(toml.read_text().replace('{ type = "digits" }', '{ type = "credit_default" }'))
    (folder / "data").mkdir()
    ended = tacit("run", str(toml), "--data", "data", "--json")
    assert ended.code == 3
    assert "UCI_Credit_Card.csv" in ended.json["error"]["what"]
    assert str(Path("data") / "credit") in ended.json["error"]["fix"]


def test_a_broken_csv_names_row_and_column(tacit, toml: Path, folder: Path) -> None:
    (folder / "some.csv").write_text("a,b\n1,0\nsecret,1\n")
    source = '{ type = "csv", path = "some.csv", target = "b" }'
    toml.write_text(toml.read_text().replace('{ type = "digits" }', source))
    ended = tacit("run", str(toml), "--json")
    assert ended.code == 3
    assert ended.json["error"]["code"] == "T215"
    assert "row 3" in ended.json["error"]["what"]
    assert "secret" not in ended.out + ended.err


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_run_folder_that_cannot_be_written_is_named(tacit, job: Path, folder: Path, out: str) -> None:
    (folder / "file").write_text("in the way")
    ended = tacit("run", str(job), "--out", out, "--json")
    assert ended.code == 5
    assert ended.json["error"]["where"].startswith("file")


@pytest.mark.parametrize("command", ["evaluate", "report", "compare"])
def test_a_folder_without_a_run_is_named(tacit, folder: Path, command: str) -> None:
    ended = tacit(command, *["nowhere"] * (2 if command == "compare" else 1), "--json")
    assert ended.code == 5
    assert ended.json["error"]["code"] == "T404"
    assert ended.json["error"]["where"] == "nowhere"


def test_an_unknown_command_and_a_missing_argument_are_usage_errors(tacit) -> None:
    for arguments in (["runn"], ["run"], ["compare", "one"]):
        ended = tacit(*arguments, "--json")
        assert ended.code == 2
        assert ended.json["error"]["code"] == "T100"
