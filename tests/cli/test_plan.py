from pathlib import Path

import pytest


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


# --- privacy ------------------------------------------------------------------------------------

FIXED = 'clipping={type="fixed_clipping", bound=0.5}'


def private(epsilon: float, *more: str, cohort: str = 'cohort={type="poisson", rate=0.5}') -> tuple[str, ...]:
    settings = ", ".join(['unit="user"', f"epsilon={epsilon}", "delta=1e-2", *more])
    return "--set", f"privacy={{{settings}}}", "--set", cohort


def test_plan_says_what_is_promised_and_epsilon_along_the_run(tacit, job: Path) -> None:
    ended = tacit("plan", str(job), *private(8.0), "--set", "rounds=40")
    assert ended.code == 0
    for said in (
        "at delta 0.01 for each user (add_remove, central)",
        "each user: with or without any one user's data (add_remove)",
        "the server is trusted: it sees every client's update, and adds the noise",
        "every user with probability 0.5 in each step, kept secret; the account relies on it",
        "the clipping bound's path",
        "denominator        5, whoever answers",
        "on each of 650 coordinates",
    ):
        assert said in ended.out
    rounds, epsilons = (line.split() for line in ended.out.splitlines()[-2:])
    assert rounds[:2] == ["after", "round"]
    assert (len(rounds), rounds[2], rounds[-1]) == (10, "1", "40")
    values = [float(value) for value in epsilons[1:]]
    assert values == sorted(values)
    assert 7.9 < values[-1] <= 8.0


def test_plan_says_why_sampling_gains_nothing(tacit, job: Path) -> None:
    ended = tacit("plan", str(job), *private(8.0, FIXED, cohort="cohort.count=4"))
    assert "nothing is gained by it: in a cohort of a fixed size" in ended.out
    assert "taking part is not hidden) (zero_out)" in ended.out
    assert "zCDP" in ended.out
    assert "Gaussian DP" in ended.out


def test_plan_prints_privacy_as_json(tacit, job: Path) -> None:
    plan = tacit("plan", str(job), *private(8.0, FIXED), "--json").json
    assert plan["guarantee"]["adjacency"] == "add_remove"
    assert 7.9 < plan["guarantee"]["epsilon"] <= 8.0
    assert [step for step, _ in plan["epsilon_by_round"]] == [1, 2, 3]
    noise = plan["noise"]
    assert noise["clipping_bound"] == 0.5
    assert noise["denominator"] == 5.0
    assert noise["std"] == pytest.approx(0.5 * noise["noise_multiplier"])
    assert noise["per_step"] == pytest.approx(noise["mean_std"] * 650**0.5 / 0.5)
    assert not noise["drowns"]


def test_plan_of_a_job_without_privacy_has_no_epsilon(tacit, job: Path) -> None:
    plan = tacit("plan", str(job), "--json").json
    assert [plan[name] for name in ("guarantee", "epsilon_by_round", "noise")] == [None] * 3
    assert plan["privacy"].startswith("not private")


def test_plan_warns_of_noise_that_drowns_the_signal_and_of_seeded_noise(tacit, job: Path) -> None:
    for options, drowns, is_seeded in (
        (private(8.0), False, False),
        (private(0.5), True, False),
        (private(8.0, 'randomness="seeded"'), False, True),
    ):
        ended = tacit("plan", str(job), *options)
        assert ended.code == 0
        assert ("the noise will drown the signal" in ended.err) == drowns
        assert ("whoever knows it can take the noise away" in ended.err) == is_seeded
        assert ("seeded, not private" in ended.out) == is_seeded


def test_correlated_noise_is_charged_as_a_whole_at_its_first_step(tacit, job: Path) -> None:
    mechanism = 'mechanism={type="banded_inverse", bands=2}'
    cohort = "cohort.count=4"
    ended = tacit("plan", str(job), *private(8.0, FIXED, mechanism, "min_separation=2", cohort=cohort))
    rounds, epsilons = (line.split() for line in ended.out.splitlines()[-2:])
    assert rounds == ["after", "round", "1", "3"]
    assert epsilons[1] == epsilons[2]
    assert 7.9 < float(epsilons[1]) <= 8.0


def test_plan_of_a_job_that_protects_records_tells_of_its_sites(tacit, job: Path) -> None:
    privacy = 'privacy={unit="record", epsilon=4.0, delta=1e-4, ' + FIXED + "}"
    ended = tacit("plan", str(job), "--set", privacy, "--json")
    assert ended.code == 0
    assert "each site is trusted with its own records, and adds the noise" in ended.err
    assert "inside the site of" in ended.err
    assert "steps a round, each with noise" in ended.err
    assert [rounds for rounds, _ in ended.json["epsilon_by_round"]] == [1, 2, 3]
    assert ended.json["epsilon_by_round"][-1][1] <= 4.0
    assert ended.json["guarantee"]["unit"] == "record"


# --- secure aggregation -------------------------------------------------------------------------

SECURE = ("--set", "secure_aggregation={min_cohort=3}", "--set", "clipping_bound=1.0")


def test_plan_says_how_sums_are_taken_and_who_sees_what(tacit, job: Path) -> None:
    ended = tacit("plan", str(job), *SECURE)
    assert ended.code == 0
    for said in (
        "not private: no differential privacy; the server sees sums of at least 3 clients only",
        "1 group of at most 4 clients; no sum of fewer than 3 is opened",
        "k = 3 (all others), t = 3 of them open a secret; made for 10% dropouts",
        "9 per client and round",
        "down beside the model",
        "s per client and",
        "sees sums of at least 3 clients and who is in them, no single update: even if it lies",
        "with at most 1 of 4 clients on its side",
        "see who takes part in their group, and nothing of anybody's update",
        "nothing limits what the model reveals",
    ):
        assert said in ended.out


def test_plan_prints_secure_aggregation_as_json(tacit, job: Path) -> None:
    plan = tacit("plan", str(job), *SECURE, "--json").json
    secure = plan["secure_aggregation"]
    assert (secure["neighbours"], secure["threshold"], secure["groups"], secure["group"]) == (3, 3, 1, 4)
    assert plan["bytes_up_per_client"] == secure["bytes_up"] > 4 * 650
    assert secure["messages"] == 9
    assert 0 < secure["client_s"] < 1
    assert secure["warnings"] == []
    assert "secure_aggregation" not in tacit("plan", str(job), "--json").json


def test_plan_of_a_curious_server_and_of_private_secure_sums(tacit, job: Path) -> None:
    semi = "secure_aggregation={min_cohort=3, mode='semi_honest'}"
    ended = tacit("plan", str(job), *private(8.0, FIXED), "--set", semi, "--set", "cohort={type='all'}")
    assert ended.code == 0
    for said in (
        "(zero_out, central); the server sees sums of at least 3",
        "the server is trusted with sums of at least 3 clients, and adds the noise",
        "sums of at least 3 clients, without noise, which the server is trusted with",
        "as long as it follows the protocol (semi_honest)",
        "7 per client and round",
        "at most what epsilon 7.999 at delta 0.01 allows",
    ):
        assert said in ended.out
    assert "updates on their way to the server" not in ended.out


def test_plan_warns_of_what_secure_aggregation_makes_worse(tacit, job: Path) -> None:
    coarse = ("--set", "secure_aggregation={min_cohort=4, lane_bits=11}", "--set", "clipping_bound=1.0")
    ended = tacit("plan", str(job), *coarse, "--set", "weighting.cap=1000")
    assert ended.code == 0
    assert "rounding to the ring is" in ended.err
    ended = tacit(
        "plan",
        str(job),
        *SECURE[:1],
        "secure_aggregation={min_cohort=10}",
        *SECURE[2:],
        "--set",
        "cohort.count=10",
    )
    assert "such rounds are lost" in ended.err


def test_plan_and_run_refuse_a_secure_sum_of_what_nothing_bounds(tacit, job: Path) -> None:
    refused = [tacit(command, str(job), *SECURE[:2]) for command in ("plan", "run")]
    assert [ended.code for ended in refused] == [2, 2]
    assert "T188" in refused[0].err
    assert "Set clipping_bound, say to 10;" in refused[0].err
