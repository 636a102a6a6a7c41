"""``tacit sweep``: what it prints, how it ends, and the command that goes on."""

import json
import shlex
from pathlib import Path

import pytest

OVER = ("--over", "clipping_bound=0.5,none")
STOPPING = """
import os, signal

def loss(outputs, targets):
    if outputs.requires_grad and os.environ.pop("STOP", None):
        os.kill(os.getpid(), signal.SIGINT)
    return nn.functional.cross_entropy(outputs, targets)

job ="""


@pytest.fixture
def job(job: Path) -> Path:
    """The small job, with one round."""
    job.write_text(job.read_text().replace("rounds=3", "rounds=1"))
    return job


def test_a_sweep_writes_a_line_for_each_run_and_a_table(tacit, job: Path, folder: Path) -> None:
    ended = tacit("sweep", str(job), *OVER, "--seeds", "2", "--folder", "one")
    assert ended.code == 0
    assert ended.err == ""
    lines = [line for line in ended.out.splitlines() if "  seed " in line]
    assert [line.split("  ")[:3] for line in lines] == [
        ["1/4", "clipping_bound=0.5", "seed 0"],
        ["2/4", "clipping_bound=none", "seed 0"],
        ["3/4", "clipping_bound=0.5", "seed 1"],
        ["4/4", "clipping_bound=none", "seed 1"],
    ]
    assert all("accuracy 0." in line for line in lines)
    assert "accuracy, mean" in ended.out
    assert "Tuning is not covered" not in ended.out
    assert (folder / "one" / "sweep.html").is_file()


def test_a_sweep_says_everything_in_its_last_line_of_json(tacit, job: Path, folder: Path) -> None:
    ended = tacit("sweep", str(job), *OVER, "--seeds", "0,3", "--set", "cohort.count=2", "--json")
    said = ended.json
    assert len(ended.out.splitlines()) == 1
    assert (said["outcome"], said["metric"], said["seeds"]) == ("completed", "accuracy", [0, 3])
    assert Path(said["sweep"]).parent == Path("sweeps")
    assert json.loads(Path(said["sweep"], "sweep.json").read_text())["best"] == said["best"]
    record = json.loads(Path(said["sweep"], "clipping_bound=none", "seed=3", "run.json").read_text())
    assert record["overrides"] == ["cohort.count=2", "clipping_bound=none", "seed=3"]


def test_ctrl_c_says_how_to_go_on_and_that_command_completes_the_sweep(
    tacit, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = job.read_text().replace("job =", STOPPING).replace("model=model,", "model=model, loss=loss,")
    job.write_text(text)
    monkeypatch.setenv("STOP", "1")
    ended = tacit("sweep", str(job), *OVER, "--seeds", "1", "--folder", "my sweep", "--metric", "loss")
    assert ended.code == 130
    assert "nothing is lost" in ended.out
    again = next(line.strip() for line in ended.out.splitlines() if line.startswith("  tacit sweep"))
    resumed = tacit(*shlex.split(again)[1:], "--json")
    assert resumed.code == 0
    assert (resumed.json["outcome"], resumed.json["metric"]) == ("completed", "loss")


def test_resume_without_a_folder_takes_the_newest_unfinished_sweep(tacit, job: Path) -> None:
    wild = ("--over", "algorithm.server.lr=1,1e18", "--set", "algorithm.local.lr=1e18", "--seeds", "1")
    first = tacit("sweep", str(job), *wild, "--json")
    assert first.code == 4
    assert tacit("sweep", str(job), *wild, "--resume", "--json").json["sweep"] == first.json["sweep"]
    tacit("sweep", str(job), *OVER, "--seeds", "1", "--folder", "sweeps/whole")
    nothing = tacit("sweep", str(job), *OVER, "--set", "name=other", "--resume")
    assert nothing.code == 5
    assert "T409" in nothing.err


def test_failed_runs_are_told_and_the_exit_code_is_that_of_a_failed_run(tacit, job: Path) -> None:
    wild = ("--over", "algorithm.server.lr=1,1e18", "--set", "algorithm.local.lr=1e18", "--seeds", "1")
    ended = tacit("sweep", str(job), *wild)
    assert ended.code == 4
    assert "server.lr=1e+18  seed 0  failed: T304" in ended.out.replace(
        "lr=1e+18  seed", "server.lr=1e+18  seed"
    )
    assert "--resume" in ended.out


def test_a_point_that_cannot_run_is_told_before_the_others_run(tacit, job: Path) -> None:
    ended = tacit("sweep", str(job), "--over", "cohort.count=4,40", "--seeds", "1", "--json")
    assert ended.code == 4
    assert "count=40 cannot be run: T152" in ended.err
    assert [point["runs"][0]["outcome"] for point in ended.json["points"]] == ["completed", "failed"]


def test_code_that_raises_is_shown_with_its_traceback(tacit, job: Path) -> None:
    failing = STOPPING.replace("os.kill(os.getpid(), signal.SIGINT)", "pass").replace(
        "    return", "    if not outputs.requires_grad: raise ValueError('no measure')\n    return"
    )
    job.write_text(
        job.read_text().replace("job =", failing).replace("model=model,", "model=model, loss=loss,")
    )
    ended = tacit("sweep", str(job), "--over", "rounds=1", "--seeds", "1")
    assert ended.code == 4
    assert "rounds=1  seed 0  failed: raised ValueError" in ended.out
    assert "no measure" in ended.err
    assert f'File "{job}"' in ended.err


def test_another_grid_in_the_same_folder_is_refused(tacit, job: Path) -> None:
    tacit("sweep", str(job), *OVER, "--seeds", "1", "--folder", "one")
    ended = tacit("sweep", str(job), *OVER, "--seeds", "2", "--folder", "one", "--resume", "--json")
    assert ended.code == 2
    assert ended.json["error"]["code"] == "T138"
    assert "seeds was" in ended.json["error"]["what"]
    job.write_text(job.read_text() + "\n# other code\n")
    ended = tacit("sweep", str(job), *OVER, "--seeds", "1", "--folder", "one", "--resume")
    assert ended.code == 2
    assert "files of its functions have changed" in ended.err


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ([], "T100", "--over"),
        (["--over", "rounds"], "T135", "path=value"),
        (["--over", "rounds=1,,2"], "T135", "comma"),
        (["--over", "ronds=1"], "T101", "did you mean `rounds`"),
        (["--over", "rounds=many"], "T103", "$.rounds"),
        (["--over", "algorithm.server.lr=1,none"], "T139", "cannot be none"),
        (["--over", "seed=1,2"], "T135", "--seeds 0,1,2"),
        ([*OVER, "--seeds", "x"], "T135", "--seeds 3"),
        ([*OVER, "--metric", "acuracy"], "T135", "did you mean `accuracy`"),
        ([*OVER, "--workers", "0"], "T100", "--workers"),
        ([*OVER, "--executor", "abacus"], "T141", "abacus"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_and_leaves_nothing(
    tacit, job: Path, folder: Path, given: list[str], code: str, says: str
) -> None:
    before = set(folder.rglob("*"))
    ended = tacit("sweep", str(job), *given)
    assert ended.code == 2
    assert code in ended.err
    assert says in ended.err
    assert {path for path in folder.rglob("*") if "__pycache__" not in str(path)} == before
