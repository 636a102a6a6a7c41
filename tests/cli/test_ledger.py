import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tacit.core.events import GaussianEvent, NonPrivateEvent, PrivacyEvent
from tacit.privacy.accounting import epsilon
from tacit.privacy.ledger import Reserved
from tacit.store.ledger import Ledger

NOISY = GaussianEvent(noise_multiplier=20.0)


@pytest.fixture
def file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ledger that the user's variable names: a run of three rounds, and one of two."""
    path = folder / "ledger.db"
    monkeypatch.setenv("TACIT_LEDGER", str(path))
    with Ledger(path) as ledger:
        for run, rounds in (("first", 3), ("second", 2)):
            for step in range(rounds):
                reserve(ledger, "ward-7", run, step)
        reserve(ledger, "ward-8", "third", 0)
    return path


def reserve(ledger: Ledger, population: str, run: str, step: int, event: PrivacyEvent = NOISY) -> None:
    spend = Reserved(
        job="digits",
        run=run,
        step=step,
        inputs_sha256="0" * 64,
        plan_sha256="1" * 64,
        unit="user",
        adjacency="zero_out",
        event=event,
    )
    ledger.release(ledger.reserve(population, spend, accountant=epsilon))


def test_everything_spent_is_shown_by_population_and_run(tacit, file: Path) -> None:
    shown = tacit("ledger", "show", "--json")
    assert shown.code == 0
    first, second = shown.json["populations"]
    assert (first["population"], second["population"]) == ("ward-7", "ward-8")
    assert first["epsilon"] == epsilon({NOISY: 5}, 1e-6, "zero_out")
    assert [(run["run"], run["events"]) for run in first["runs"]] == [("first", 3), ("second", 2)]
    assert first["runs"][0]["epsilon"] == epsilon({NOISY: 3}, 1e-6, "zero_out")
    assert (first["unit"], first["adjacency"], first["budget"]) == ("user", "zero_out", None)
    assert first["entries"] == 10
    words = tacit("ledger", "show").out
    assert f"epsilon {first['epsilon']:.4g} at delta 1e-06" in words
    assert "each user, relation zero_out" in words


def test_one_population_at_another_delta(tacit, file: Path) -> None:
    (only,) = tacit("ledger", "show", "ward-8", "--delta", "1e-3", "--json").json["populations"]
    assert (only["population"], only["delta"]) == ("ward-8", 1e-3)
    assert only["epsilon"] == epsilon({NOISY: 1}, 1e-3, "zero_out")
    assert tacit("ledger", "show", "--delta", "1").code == 2


def test_a_run_folder_is_shown_from_its_own_ledger(tacit, file: Path, folder: Path) -> None:
    run = folder / "runs" / "one"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    with Ledger(run / "ledger.db") as ledger:
        reserve(ledger, "simulated", "one", 0)
    assert [one["population"] for one in tacit("ledger", "show", str(run), "--json").json["populations"]] == [
        "simulated"
    ]
    assert tacit("ledger", "verify", str(run)).code == 0


def test_a_release_without_guarantee_is_called_that(tacit, file: Path) -> None:
    with Ledger(file) as ledger:
        reserve(ledger, "ward-8", "bare", 0, NonPrivateEvent())
    assert "no guarantee at delta" in tacit("ledger", "show", "ward-8").out
    assert tacit("ledger", "show", "ward-8", "--json").json["populations"][0]["epsilon"] is None


def test_a_budget_is_set_shown_and_kept(tacit, file: Path) -> None:
    first = tacit("ledger", "budget", "ward-7", "--epsilon", "8", "--delta", "1e-5", "--json")
    assert first.code == 0
    assert first.json["before"] is None
    assert first.json["budget"] == {"epsilon": 8.0, "delta": 1e-5}
    assert first.json["delta"] == 1e-5
    second = tacit("ledger", "budget", "ward-7", "--epsilon", "0.1", "--delta", "1e-5", "--json")
    assert second.json["before"] == {"epsilon": 8.0, "delta": 1e-5}
    assert "every further round will be refused" in second.err
    assert "budget      epsilon 0.1 at delta 1e-05" in tacit("ledger", "show", "ward-7").out
    with Ledger(file, read_only=True) as ledger:
        assert ledger.verify("ward-7") == ()


def test_a_budget_may_come_before_everything_else(tacit, folder: Path) -> None:
    path = folder / "new" / "ledger.db"
    ended = tacit("ledger", "budget", "ward", "--epsilon", "1", "--delta", "1e-6", "--ledger", str(path))
    assert ended.code == 0
    assert path.is_file()


@pytest.mark.parametrize(
    "wrong",
    [["--epsilon", "0"], ["--epsilon", "nan"], ["--delta", "1"], ["--delta", "0"], ["--epsilon", "-1"]],
)
def test_a_budget_that_makes_no_sense_is_refused(tacit, file: Path, wrong: list[str]) -> None:
    given = {"--epsilon": "1", "--delta": "1e-6", wrong[0]: wrong[1]}
    ended = tacit("ledger", "budget", "ward-7", *(word for pair in given.items() for word in pair), "--json")
    assert ended.code == 2
    with Ledger(file, read_only=True) as ledger:
        assert ledger.budget("ward-7") is None


def test_a_whole_ledger_verifies_and_says_its_heads(tacit, file: Path) -> None:
    ended = tacit("ledger", "verify", "--json")
    assert ended.code == 0
    assert ended.json["findings"] == []
    head = ended.json["heads"]["ward-7"]
    assert head["sequence"] == 10
    again = tacit("ledger", "verify", "ward-7", "--head", f"10:{head['sha256']}")
    assert again.code == 0
    assert f"whole, head 10:{head['sha256']}" in again.out


def test_a_restored_backup_is_found_by_a_head_from_elsewhere(tacit, file: Path, folder: Path) -> None:
    shutil.copy(file, folder / "backup.db")
    with Ledger(file) as ledger:
        reserve(ledger, "ward-7", "first", 3)
        mark = ledger.head("ward-7").mark
    shutil.copy(folder / "backup.db", file)
    assert tacit("ledger", "verify").code == 0
    ended = tacit("ledger", "verify", "ward-7", "--head", f"{mark.sequence}:{mark.sha256}", "--json")
    assert ended.code == 5
    assert ended.json["error"]["code"] == "T421"
    assert [found["kind"] for found in ended.json["findings"]] == ["truncated"]
    assert ended.json["heads"] == {}


def test_a_changed_entry_is_found_and_the_other_populations_are_looked_at(tacit, file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TRIGGER no_change")
        connection.execute(
            "UPDATE entries SET text = replace(text, '20.0', '90.0') WHERE population = 'ward-7'"
        )
    ended = tacit("ledger", "verify", "--json")
    assert ended.code == 5
    assert [(one["population"], one["kind"]) for one in ended.json["findings"]] == [("ward-7", "edited")]
    assert list(ended.json["heads"]) == ["ward-8"]
    assert tacit("ledger", "show", "ward-7").code == 5
    assert tacit("ledger", "show", "ward-8").code == 0


@pytest.mark.parametrize("head", ["10", "x:1", "10:abc", ":", "-1:" + "0" * 64])
def test_a_head_that_is_none_is_refused(tacit, file: Path, head: str) -> None:
    assert tacit("ledger", "verify", "ward-7", "--head", head).code == 2


def test_a_head_needs_its_population(tacit, file: Path) -> None:
    assert tacit("ledger", "verify", "--head", "1:" + "0" * 64).code == 2


def test_an_unknown_population_is_told_the_nearest(tacit, file: Path) -> None:
    ended = tacit("ledger", "show", "ward_7", "--json")
    assert ended.code == 5
    assert ended.json["error"]["code"] == "T427"
    assert "did you mean `ward-7`" in ended.json["error"]["what"]


def test_no_ledger_is_no_ledger(tacit, folder: Path) -> None:
    for command in ("show", "verify"):
        ended = tacit("ledger", command, "--ledger", str(folder / "none.db"), "--json")
        assert (ended.code, ended.json["error"]["code"]) == (5, "T426")
    assert not (folder / "none.db").exists()


@pytest.mark.parametrize("command", ["show", "verify", "budget"])
def test_every_help_has_examples_and_json(tacit, command: str) -> None:
    ended = tacit("ledger", command, "--help")
    assert ended.code == 0
    assert "Examples" in ended.out
    assert f"tacit ledger {command}" in ended.out
    assert "--json" in ended.out


def test_the_commands_are_listed(tacit) -> None:
    ended = tacit("ledger", "--help")
    assert ended.code == 0
    assert "Examples" in ended.out
    assert all(command in ended.out for command in ("show", "verify", "budget"))


def test_json_is_the_only_thing_on_stdout(tacit, file: Path) -> None:
    for arguments in (("show",), ("verify",), ("budget", "ward-7", "--epsilon", "9", "--delta", "1e-6")):
        assert json.loads(tacit("ledger", *arguments, "--json").out)
