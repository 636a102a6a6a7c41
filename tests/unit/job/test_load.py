"""Job files, Python and TOML, and what is wrong with them."""

import pickle
from pathlib import Path

import pytest
import tomli_w

from tacit.core.cohort import All, FixedSize, Poisson
from tacit.core.errors import ConfigError
from tacit.core.part import encode
from tacit.data import Dirichlet, Split
from tacit.job import Job, digest, load_job
from tacit.job.load import job_of
from tacit.job.modules import load_module, loaded_files

PYTHON = """
from torch import nn
import tacit

def model():
    return nn.Linear(64, 10)

def own_metric(outputs, targets):
    return outputs.mean()

def population():
    return tacit.data.digits().split(tacit.Dirichlet(alpha=0.3), clients=100)

job = tacit.Job(
    name="mine",
    task=tacit.Task(model=model, metrics=["accuracy", own_metric]),
    algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.1)),
    cohort=tacit.FixedSize(20),
    rounds=30,
    stop=[tacit.Patience(rounds=5), tacit.TargetMetric(metric="accuracy", value=0.9)],
)
"""

TOML = """
schema_version = 1
name = "mine"
rounds = 30
[task]
model = "models.py:model"
loss = "models.py:loss"
metrics = ["accuracy", "models.py:loss"]
[algorithm]
type = "fedavg"
[algorithm.local]
type = "local_sgd"
lr = 0.1
[cohort]
type = "fixed_size"
count = 20
[population]
clients = 100
[population.source]
type = "digits"
[population.by]
type = "dirichlet"
alpha = 0.3
"""

MODELS = """
from torch import nn
def model():
    return nn.Linear(64, 10)
def loss(outputs, targets):
    return outputs.mean()
"""


@pytest.fixture
def python_file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(PYTHON)
    return file


@pytest.fixture
def toml_file(tmp_path: Path) -> Path:
    tmp_path.joinpath("models.py").write_text(MODELS)
    file = tmp_path / "mine.toml"
    file.write_text(TOML)
    return file


def refusal(path: Path, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_job(path, overrides)
    return caught.value


def split_of(path: Path, *overrides: str) -> Split:
    population = load_job(path, overrides).population
    if not isinstance(population, Split):
        population = population()  # type: ignore[operator]
    assert isinstance(population, Split)
    return population


# --- reading -----------------------------------------------------------------------------------


def test_a_python_file_gives_its_job_and_its_population(python_file: Path) -> None:
    loaded = load_job(python_file)
    assert loaded.job.name == "mine"
    assert loaded.job.cohort == FixedSize(20)
    assert (loaded.path, loaded.overrides) == (python_file, ())
    assert split_of(python_file).clients == 100


def test_a_toml_file_says_the_same_as_a_python_file(toml_file: Path) -> None:
    loaded = load_job(toml_file)
    assert loaded.job.algorithm.local.lr == 0.1
    assert loaded.job.cohort == FixedSize(20)
    assert isinstance(loaded.population, Split)
    assert loaded.population.by == Dirichlet(alpha=0.3)


def test_functions_that_a_toml_file_names_are_those_of_the_file_beside_it(toml_file: Path) -> None:
    task = load_job(toml_file).job.task
    module = load_module(toml_file.parent / "models.py")
    assert task.model is module.model
    assert task.loss is module.loss
    assert task.metrics == ("accuracy", module.loss)


def test_functions_of_a_job_file_pickle_by_name(python_file: Path) -> None:
    model = load_job(python_file).job.task.model
    assert pickle.loads(pickle.dumps(model)) is model
    assert python_file.resolve() in loaded_files()


def test_a_resolved_job_is_read_back_as_the_same_job(python_file: Path, toml_file: Path) -> None:
    for path in (python_file, toml_file):
        job = load_job(path).job
        tree = {"schema_version": 1, **encode(job), "population": {}}
        assert job_of(tree, Path("elsewhere")) == job
        assert digest(job_of(tree, Path("elsewhere"))) == digest(job)


def test_the_digest_of_the_text_changes_with_the_text(python_file: Path) -> None:
    before = load_job(python_file).source_sha256
    python_file.write_text(PYTHON + "\n")
    assert load_job(python_file).source_sha256 != before


# --- digests -----------------------------------------------------------------------------------


def test_the_digest_of_settings_never_changes_between_releases() -> None:
    # Its value is written into every run folder; a new default or field changes it, and that is worth a note.
    assert digest(FixedSize(20)) == digest(FixedSize(20, over_selection=1))
    assert digest(FixedSize(20)) == "2866926088de6f0b91890644d02f1a6faab03a542cc00307cf80f0ba56436702"


def test_different_settings_have_different_digests(python_file: Path) -> None:
    job = load_job(python_file).job
    others = [load_job(python_file, [text]).job for text in ("seed=1", "rounds=31", "cohort={type='all'}")]
    assert len({digest(job), *map(digest, others)}) == 4
    assert digest(job) == digest(load_job(python_file, ["seed=0"]).job)


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "code", "said"),
    [
        ("job.json", "{}", "T114", "ends in .py or .toml"),
        ("job.py", "x = 1", "T115", "no `job`"),
        ("job.py", "job = 3", "T115", "no `job`"),
        ("job.py", PYTHON.replace("def population", "def nobody"), "T116", "no `population`"),
        ("job.py", "def f(:\n", "T112", "syntax error"),
        ("job.py", "\nimport no_such_module_at_all\n", "T113", "ModuleNotFoundError"),
        ("job.py", "\n\n1 / 0\n", "T113", "ZeroDivisionError"),
        ("job.toml", "name = ", "T112", "not valid TOML"),
        ("job.toml", TOML.replace("schema_version = 1", "schema_version = 2"), "T117", "schema_version 2"),
        ("job.toml", TOML.partition("[population]")[0], "T116", "[population]"),
    ],
)
def test_a_broken_file_is_refused_with_its_name(
    tmp_path: Path, name: str, text: str, code: str, said: str
) -> None:
    path = tmp_path / name
    tmp_path.joinpath("models.py").write_text(MODELS)
    path.write_text(text)
    error = refusal(path)
    assert error.code == code
    assert str(path) in error.where
    assert said in error.what


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for name in ("none.py", "none.toml"):
        assert refusal(tmp_path / name).code == "T110"


@pytest.mark.parametrize(
    ("text", "line"), [("x = 1\n\nraise ValueError('no')\n", 3), ("x = 1\ndef f(:\n", 2)]
)
def test_an_error_in_a_job_file_names_its_line(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "job.py"
    path.write_text(text)
    assert refusal(path).where == f"{path}, line {line}"


def test_a_job_file_may_be_corrected_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "job.py"
    path.write_text("1 / 0")
    refusal(path)
    path.write_text(PYTHON)
    assert load_job(path).job.name == "mine"


def test_a_wrong_setting_in_a_python_file_keeps_its_own_number(tmp_path: Path) -> None:
    path = tmp_path / "job.py"
    path.write_text(PYTHON.replace("rounds=30", "round=30").replace("lr=0.1", "lr=-1"))
    assert refusal(path).code == "T103"


def test_text_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    for name in ("job.py", "job.toml"):
        path = tmp_path / name
        path.write_bytes(b"name = '\xff'\n")
        assert refusal(path).code == "T112"


def test_functions_that_are_not_there_are_refused(toml_file: Path) -> None:
    toml_file.write_text(TOML.replace("models.py:model", "models.py:modle"))
    assert refusal(toml_file).code == "T111"
    toml_file.write_text(TOML.replace("models.py:model", "modles.py:model"))
    assert refusal(toml_file).code == "T110"


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "-x", "a b", "a\n", "x" * 65, "naïve"])
def test_a_name_must_be_fit_for_a_folder(python_file: Path, name: str) -> None:
    job = load_job(python_file).job
    with pytest.raises(ConfigError, match=r"Job\.name"):
        Job(**{field: getattr(job, field) for field in job.__struct_fields__} | {"name": name})


# --- overrides ---------------------------------------------------------------------------------


def test_overrides_change_numbers_words_lists_and_deep_settings(python_file: Path) -> None:
    job = load_job(
        python_file,
        [
            "rounds=5",
            "name=other",
            "algorithm.local.lr=1e-3",
            "algorithm.local.batch_size=64",
            "task.metrics=['auc', 'accuracy']",
            "task.arguments={width=3}",
            "stop.0.rounds=7",
            "deadline_s=2",
            "partial_work=false",
        ],
    ).job
    assert (job.rounds, job.name, job.deadline_s, job.partial_work) == (5, "other", 2.0, False)
    assert (job.algorithm.local.lr, job.algorithm.local.batch_size) == (1e-3, 64)
    assert job.task.metrics == ("auc", "accuracy")
    assert job.task.arguments == {"width": 3}
    assert [rule.rounds for rule in job.stop[:1]] == [7]  # type: ignore[attr-defined]
    assert job.stop[1] == load_job(python_file).job.stop[1]


def test_an_inline_table_replaces_a_part_by_another_kind(python_file: Path) -> None:
    job = load_job(
        python_file, ["cohort={type='poisson', rate=0.1}", "algorithm.server={type='server_adam'}"]
    ).job
    assert job.cohort == Poisson(rate=0.1)
    assert type(job.algorithm.server).__name__ == "ServerAdam"
    assert job.algorithm.local.lr == 0.1
    job = load_job(
        python_file, ["stop.1={type='patience'}", "stop.1.metric=accuracy", "cohort={type='all'}"]
    ).job
    assert job.stop[1].metric == "accuracy"  # type: ignore[attr-defined]
    assert job.cohort == All()
    assert load_job(python_file, ["stop=[]"]).job.stop == ()


@pytest.mark.parametrize("kind", ["python", "toml"])
def test_overrides_reach_the_population(kind: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(f"{kind}_file")
    split = split_of(path, "population.clients=7", "population.by.alpha=2.5", "rounds=3")
    assert split.clients == 7
    assert split.by == Dirichlet(alpha=2.5)
    assert split_of(path, "population.by={type='iid'}").by != split.by


def test_later_overrides_win_and_all_are_remembered(python_file: Path) -> None:
    loaded = load_job(python_file, ["rounds=5", "rounds=6"])
    assert loaded.job.rounds == 6
    assert loaded.overrides == ("rounds=5", "rounds=6")


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("round=5", "T101", "$"),
        ("algorithm.local.epoch=5", "T101", "$.algorithm.local"),
        ("algorithm.local.lr.x=5", "T101", "$.algorithm.local.lr"),
        ("stop.2.rounds=5", "T101", "$.stop"),
        ("stop.x=5", "T101", "$.stop"),
        ("stop.².rounds=5", "T101", "$.stop"),
        ("rounds=0", "T103", "$.rounds"),
        ("rounds=many", "T103", "$.rounds"),
        ("rounds=2.5", "T103", "$.rounds"),
        ("rounds=nan", "T103", "$.rounds"),
        ("algorithm.local.lr=-1", "T103", "$.algorithm.local.lr"),
        ("algorithm.local.lr=nan", "T103", "$.algorithm.local.lr"),
        ("cohort={type='poison'}", "T102", "$.cohort"),
        ("cohort={type='poisson', rate=2}", "T103", "$.cohort.rate"),
        ("cohort=all", "T103", "$.cohort"),
        ("stop.0={type='patience', round=3}", "T101", "$.stop[0]"),
        ("population.client=5", "T101", "$.population"),
        ("population.by.alpha=-1", "T103", "$.population.by.alpha"),
        ("name=a/b", "T103", "$.name"),
        ("rounds", "T118", ""),
        ("=5", "T118", ""),
        ("", "T118", ""),
    ],
)
def test_a_wrong_override_is_refused_where_it_is_wrong(
    python_file: Path, text: str, code: str, where: str
) -> None:
    error = refusal(python_file, text)
    assert (error.code, error.where) == (code, where)


def test_a_population_that_is_no_split_cannot_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "job.py"
    path.write_text(PYTHON.replace("return tacit.data.digits()", "return {}\n    tacit.data.digits()"))
    assert refusal(path, "population.clients=3").code == "T119"


def test_what_a_job_is_written_as_is_toml(python_file: Path, tmp_path: Path) -> None:
    loaded = load_job(python_file)
    again = tmp_path / "again.toml"
    again.write_text(tomli_w.dumps({**encode(loaded.job), "population": encode(split_of(python_file))}))
    assert load_job(again).job == loaded.job
