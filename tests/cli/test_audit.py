"""``tacit audit`` tells what it finds, and fails where that refutes the claim."""

import json
import math
from pathlib import Path

import pytest

from tacit.cli.audit import conclude
from tacit.cli.failures import guarded
from tacit.cli.output import Output
from tacit.privacy import PrivacyPlan
from tacit.privacy.audit import Bound
from tacit.sim.audit_job import AuditResult
from tests.unit.report.test_audit import findings


def test_a_job_without_privacy_shows_what_an_attacker_gains(tacit, job: Path) -> None:
    ended = tacit("audit", str(job), "--records", "40", "--pictures", "2", "--folder", "one", "--json")
    assert ended.code == 0
    assert ended.json["verdict"] == "none"
    assert ended.json["claimed"]["epsilon"] is None
    assert {bound["method"] for bound in ended.json["bounds"]} == {"one_run", "many_runs", "noise", "records"}
    assert ended.json["inversion"][0]["before"]["correlation"] > 0.999
    assert ended.json["membership"]["members"] > 0
    assert "this is what an attacker gains" in ended.err
    assert Path(ended.json["report"]).is_file()
    assert json.loads(Path("one/audit.json").read_text())["job"] == "tiny"


def test_words_go_to_people_where_no_json_is_asked_for(tacit, job: Path) -> None:
    ended = tacit("audit", str(job), "--records", "0", "--pictures", "0", "--runs", "2", "--rounds", "1")
    assert ended.code == 0
    assert "10 canaries, 1 round, 2 times" in ended.out
    assert "no limit" in ended.out
    assert len(list(Path("audits").glob("tiny-*/audit.html"))) == 1


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--canaries", "11"), "T197"),
        (("--rounds", "4"), "T199"),
        (("--confidence", "1.5"), "T196"),
        (("--set", "cohort.count=11"), "T152"),
    ],
)
def test_an_audit_that_cannot_be_done_is_refused(
    tacit, job: Path, options: tuple[str, str], code: str
) -> None:
    ended = tacit("audit", str(job), *options, "--records", "0", "--pictures", "0", "--json")
    assert ended.code == 2
    assert ended.json["error"]["code"] == code


@pytest.fixture
def private(job: Path) -> Path:
    """The same job with a promise."""
    asked = "privacy=tacit.Privacy(unit='user', noise_multiplier=1.0, delta=1e-2)"
    job.write_text(job.read_text().replace("rounds=3,", f"rounds=3, {asked},"))
    return job


def test_a_private_job_that_keeps_its_promise_ends_well(tacit, private: Path) -> None:
    options = ("--records", "0", "--pictures", "2", "--confidence", "0.999999")
    ended = tacit("audit", str(private), *options, "--json")
    assert ended.code == 0
    assert ended.json["verdict"] == "held"
    assert ended.json["claimed"]["epsilon"] > 0
    assert ended.json["inversion"][0]["after"]["correlation"] < 0.9


def test_a_private_job_with_a_third_of_its_noise_fails(
    tacit, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PrivacyPlan.noise_std
    monkeypatch.setattr(PrivacyPlan, "noise_std", lambda plan, bound: whole(plan, bound) / 3)
    ended = tacit("audit", str(private), "--records", "0", "--pictures", "0", "--json")
    assert ended.code == 4
    assert ended.json["error"]["code"] == "T356"
    assert ended.json["verdict"] == "refuted"
    assert "The claim is wrong" in ended.err


def test_a_refuted_claim_fails_with_everything_that_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = findings(bounds=(Bound("noise", 4.2, 0.99, "noise multiplier 0.5, at most 0.55"),))
    code = guarded(lambda: conclude(AuditResult(tmp_path, found), Output(as_json=True)), as_json=True)
    out, err = capsys.readouterr()
    told = json.loads(out.splitlines()[-1])
    assert code == told["error"]["exit_code"] == 4
    assert told["error"]["code"] == "T356"
    assert told["verdict"] == "refuted"
    assert told["bounds"][0]["refutes"] is True
    assert "epsilon is at least 4.2, and 2 was claimed" in err


def test_a_claim_that_holds_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert conclude(AuditResult(tmp_path, findings()), Output(as_json=True)) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "held"


def test_no_noise_where_some_was_promised_fails(tmp_path: Path) -> None:
    found = findings(bounds=(Bound("noise", math.inf, 1.0, "none"),))
    assert guarded(lambda: conclude(AuditResult(tmp_path, found), Output()), as_json=False) == 4
