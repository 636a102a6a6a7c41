"""What only a process of its own can show: signals, pipes, start-up time, and that nothing stays behind."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TACIT = [sys.executable, "-m", "tacit"]


@pytest.fixture
def slow(job: Path) -> Path:
    """A job that takes as long as the environment says, and trains the same model however long that is."""
    loss = (
        "import os, time\n\ndef loss(outputs, targets):\n"
        "    time.sleep(float(os.environ.get('SLOW', 0)))\n"
        "    return nn.functional.cross_entropy(outputs, targets)\n\njob ="
    )
    text = job.read_text().replace("job =", loss).replace("model=model,", "model=model, loss=loss,")
    job.write_text(text.replace("rounds=3", "rounds=8"))
    return job


def _await(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"ended without {text!r}: {seen}")


def _nobody_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_stops_cleanly_and_the_printed_command_completes_the_run(
    tacit, slow: Path, folder: Path, workers: str
) -> None:
    command = [*TACIT, "run", "tiny.py", "--set", "seed=3", "--out", "my run", "--workers", workers]
    environment = {**os.environ, "SLOW": "0.03"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        _await(process, "round 2/8")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everybody in the group
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert _nobody_left(process.pid)
    resume = next(line.strip() for line in said.splitlines() if "--resume" in line)
    assert shlex.split(resume)[:2] == ["tacit", "run"]
    resumed = tacit(*shlex.split(resume)[1:], "--json")
    assert resumed.code == 0
    assert resumed.json["outcome"] == "completed"
    straight = tacit("run", "tiny.py", "--set", "seed=3", "--json")
    assert resumed.json["model_sha256"] == straight.json["model_sha256"]


def test_resume_without_a_folder_takes_the_newest_unfinished_run(tacit, slow: Path, folder: Path) -> None:
    environment = {**os.environ, "SLOW": "0.03"}
    command = [*TACIT, "run", "tiny.py", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "round 1/8" in line:
                break
        process.terminate()
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert '"outcome":"interrupted"' in out.splitlines()[-1]
    resumed = tacit("run", "tiny.py", "--resume", "--json")
    assert resumed.code == 0
    assert resumed.json["run"] in out
    assert resumed.json["outcome"] == "completed"


def test_a_reader_that_goes_away_does_not_end_the_run(slow: Path, folder: Path) -> None:
    command = f"{shlex.join(TACIT)} run tiny.py --out one | head -1"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in ended.stderr
    assert "BrokenPipe" not in ended.stderr
    assert '"completed"' in (folder / "one" / "run.json").read_text()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["new", "first"], ["--version"]])
def test_nothing_heavy_is_imported_where_nothing_is_computed(folder: Path, arguments: list[str]) -> None:
    program = (
        "import sys; from tacit.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'matplotlib', 'sklearn', 'numpy', 'scipy'} & set(sys.modules);"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
