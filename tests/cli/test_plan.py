from pathlib import Path


def test_plan_shows_what_a_job_costs_and_that_it_is_not_private(tacit, job: Path) -> None:
    ended = tacit("plan", str(job))
    assert ended.code == 0
    for word in ("650", "10 clients", "4 clients a round", "per client and round", "not private"):
        assert word in ended.out


def test_plan_prints_its_figures_as_the_last_line_of_json(tacit, job: Path) -> None:
    ended = tacit("plan", str(job), "--set", "cohort.count=7", "--json")
    assert ended.json["cohort"] == 7
    assert ended.json["parameters"] == 650
    assert ended.json["bytes_up_per_client"] > 4 * 650
    assert len(ended.out.splitlines()) == 1
    assert "650" in ended.err


def test_plan_runs_nothing(tacit, job: Path, folder: Path) -> None:
    tacit("plan", str(job))
    assert not (folder / "runs").exists()


def test_plan_refuses_what_run_would_refuse(tacit, job: Path) -> None:
    refused = [tacit(command, str(job), "--set", "cohort.count=11") for command in ("plan", "run")]
    assert [ended.code for ended in refused] == [2, 2]
    assert refused[0].err == refused[1].err
    assert "T152" in refused[0].err
