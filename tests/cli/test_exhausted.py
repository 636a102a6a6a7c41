from pathlib import Path

import pytest

from tacit.cli.run import EXHAUSTED
from tacit.privacy.ledger import BudgetExceeded
from tacit.store.ledger import LEDGER, Ledger

PRIVATE = (
    "--set",
    'privacy={unit="user", epsilon=2.0, delta=1e-2, clipping={type="fixed_clipping", bound=1.0}}',
    "--set",
    'cohort={type="poisson", rate=0.5}',
)


@pytest.fixture(autouse=True)
def own_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_MASTER_KEY", str(folder / "master.key"))


def limited(place: Path, epsilon: float) -> str:
    """Return a run folder whose ledger has a budget already."""
    place.mkdir()
    with Ledger(place / LEDGER) as ledger:
        ledger.set_budget("tiny", epsilon, 1e-2)
    return str(place)


def test_a_run_whose_budget_is_spent_ends_with_what_was_reached(tacit, job: Path, folder: Path) -> None:
    place = limited(folder / "run", epsilon=1.6)
    ended = tacit("run", str(job), *PRIVATE, "--out", place, "--json")
    assert ended.code == EXHAUSTED == BudgetExceeded.exit_code == 7
    assert ended.json["outcome"] == "exhausted"
    assert 0 < ended.json["rounds"] < 3
    assert 0 < ended.json["epsilon"] <= 1.6
    assert ended.json["guarantee"]["steps"] == ended.json["rounds"]
    assert ended.json["model_sha256"]
    for said in ("the privacy budget is spent after", "the budget of population tiny is 1.6", "--resume"):
        assert said in ended.err


def test_it_goes_on_when_the_budget_is_larger(tacit, job: Path, folder: Path) -> None:
    place = limited(folder / "run", epsilon=1.6)
    assert tacit("run", str(job), *PRIVATE, "--out", place).code == EXHAUSTED
    assert tacit("run", str(job), *PRIVATE, "--out", place, "--resume").code == EXHAUSTED
    with Ledger(folder / "run" / LEDGER) as ledger:
        ledger.set_budget("tiny", 3.0, 1e-2)
    ended = tacit("run", str(job), *PRIVATE, "--out", place, "--resume", "--json")
    assert (ended.code, ended.json["outcome"], ended.json["rounds"]) == (0, "completed", 3)
    assert "the privacy budget is spent" not in ended.err


def test_a_quiet_run_says_it_too(tacit, job: Path, folder: Path) -> None:
    ended = tacit("run", str(job), *PRIVATE, "--out", limited(folder / "run", epsilon=1.6), "--quiet")
    assert ended.code == EXHAUSTED
    assert ended.out.splitlines() == [str(folder / "run")]
    assert "the privacy budget is spent" in ended.err
