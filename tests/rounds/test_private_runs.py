"""A private run and its folder: what it charges, what it keeps secret, and what it does in trouble."""

import base64
import os
import secrets
import shutil
import signal
import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from safetensors import safe_open

import tacit
from tacit.core.errors import ConfigError, StoreError, TacitError
from tacit.core.rule import Partial
from tacit.privacy.accounting import epsilon
from tacit.privacy.ledger import Abandoned, Gap
from tacit.privacy.ledger import Released as Settled
from tacit.privacy.noise import PastVectors, SystemKeys
from tacit.round import PrivacyRecord, RoundRecord
from tacit.round.release import PrivacyState, Release, Released
from tacit.sim.observer import Silent
from tacit.store import RunFolder, load_snapshot
from tacit.store.ledger import LEDGER, Ledger
from tests.attacks.privacy_checks import charged
from tests.rounds import private_lives, worlds
from tests.rounds.launcher import Launcher
from tests.rounds.private_runs import private

POPULATION = "private"


class StopAfter(Silent):
    """Asks a run to stop after a round, as Ctrl-C does, or does something else then."""

    def __init__(self, number: int, then: Callable[[], None] | None = None) -> None:
        self.number, self.then = number, then or (lambda: os.kill(os.getpid(), signal.SIGINT))
        self.spends: list[PrivacyRecord] = []

    def round_closed(self, record: RoundRecord) -> None:
        if record.round == self.number:
            self.then()

    def spent(self, record: PrivacyRecord) -> None:
        self.spends.append(record)


def run(
    job: tacit.Job,
    folder: Path,
    *,
    resume: bool = False,
    observer: Any = None,
    people: Any = worlds.population,
) -> tacit.Result:
    return tacit.run(job, people, folder=folder, resume=resume, executor="torch", observer=observer)


def stopped(job: tacit.Job, folder: Path, after: int = 2) -> tacit.Result:
    result = run(job, folder, observer=StopAfter(after))
    assert result.outcome == "interrupted"
    return result


def facts(folder: Path) -> list[Any]:
    with Ledger(folder / LEDGER, read_only=True) as ledger:
        return [entry.fact for entry in ledger.entries(POPULATION)]


def spent(folder: Path) -> int:
    """Return how many charges count, gaps included."""
    with Ledger(folder / LEDGER, read_only=True) as ledger:
        return sum(charge.count for charge in ledger.book(POPULATION).charges)


# --- what is charged ---------------------------------------------------------------------------


def test_every_released_step_is_charged_once_and_noted(folder: Path) -> None:
    observer = StopAfter(99)
    result = run(private_lives.secret(), folder, observer=observer)
    charges = charged(folder)
    assert [charge.step for charge in charges] == [1, 2, 3, 4]
    assert len({charge.inputs_sha256 for charge in charges}) == 4
    assert sum(isinstance(fact, Settled) for fact in facts(folder)) == 4
    spends = RunFolder.existing(folder).spends()
    assert [spend.step for spend in spends] == [1, 2, 3, 4]
    assert [spend.event for spend in spends] == [charge.event for charge in charges]
    assert observer.spends == spends
    assert result.info.guarantee is not None
    assert result.info.guarantee.steps == 4
    assert result.info.epsilon == spends[-1].epsilon
    assert [record.train_loss for record in result.rounds] == [None] * 4


def test_a_whole_run_of_correlated_noise_is_charged_at_its_first_step(folder: Path) -> None:
    run(private_lives.correlated(), folder)
    (charge,) = charged(folder)
    assert charge.step == 1
    assert [spend.event is None for spend in RunFolder.existing(folder).spends()] == [False] + [True] * 3


def test_an_abandoned_round_is_not_charged_under_central_trust(folder: Path) -> None:
    result = run(private_lives.abandoning(), folder)
    outcomes = [record.outcome for record in result.rounds]
    assert [outcome[0] for outcome in outcomes] == list("caaccacc")
    assert len(charged(folder)) == 5
    assert sum(isinstance(fact, Abandoned) for fact in facts(folder)) == 3


def test_under_local_trust_an_abandoned_round_is_charged_and_the_run_ends_with_its_budget(
    folder: Path,
) -> None:
    result = run(private_lives.local(), folder)
    assert [record.outcome[0] for record in result.rounds] == list("caacc")
    assert result.outcome == "exhausted"
    assert result.info.rounds == 3
    assert len(charged(folder)) == len(result.rounds) == 5
    assert not any(isinstance(fact, Abandoned) for fact in facts(folder))
    assert result.info.guarantee is not None
    assert result.info.guarantee.steps == 5


def test_under_local_trust_a_round_that_is_played_again_is_charged_again(folder: Path) -> None:
    job = private_lives.local()

    def die() -> None:
        raise KeyboardInterrupt

    assert run(job, folder, observer=StopAfter(1, die)).outcome == "interrupted"
    assert [charge.step for charge in charged(folder)] == [1]
    run(job, folder, resume=True)
    assert [charge.step for charge in charged(folder)] == [1, 1, 2, 3, 4]


@pytest.mark.parametrize("job", [private_lives.secret, private_lives.correlated, private_lives.stored])
def test_what_a_steps_noise_follows_from_is_on_the_disk_before_the_step_is_released(
    folder: Path, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, kept = Release.release, []

    def looked(self: Release, partial: Partial, state: PrivacyState) -> Released:
        saved = load_snapshot(RunFolder.existing(folder).checkpoint, POPULATION).privacy
        kept.append(saved is not None and (saved.key, saved.step) == (state.key, state.step))
        return release(self, partial, state)

    monkeypatch.setattr(Release, "release", looked)
    run(job(), folder)
    assert kept == [True] * 4


def test_a_run_that_was_stopped_goes_on_without_another_charge(folder: Path, tmp_path: Path) -> None:
    stopped(private_lives.secret(), folder)
    run(private_lives.secret(), folder, resume=True)
    assert [charge.step for charge in charged(folder)] == [1, 2, 3, 4]


def test_a_run_that_was_stopped_ends_with_the_same_model(folder: Path, tmp_path: Path) -> None:
    stopped(private_lives.seeded(), folder)
    run(private_lives.seeded(), folder, resume=True)
    run(private_lives.seeded(), tmp_path / "whole")
    assert worlds.told(folder) == worlds.told(tmp_path / "whole")


def test_a_run_with_workers_ends_with_the_same_model(folder: Path, tmp_path: Path) -> None:
    noise = private(mechanism=tacit.BandedInverse(bands=3), min_separation=2)
    job = private_lives.job(privacy=noise, cohort=tacit.FixedSize(5), quorum=0.2)
    tacit.run(job, worlds.population, folder=folder, executor="torch", workers=2)
    run(job, tmp_path / "alone")
    assert worlds.told(folder) == worlds.told(tmp_path / "alone")


def test_nobody_comes_again_too_soon_where_a_run_was_stopped_in_between(folder: Path) -> None:
    job = private_lives.correlated()
    people = private_lives.people
    run(job, folder, observer=StopAfter(1), people=people)
    run(job, folder, resume=True, observer=StopAfter(2), people=people)
    invited = [set(record.invited) for record in run(job, folder, resume=True, people=people).rounds]
    assert len(invited) == 4
    assert all(not a & b for a, b in pairwise(invited))


def test_two_private_runs_of_one_job_are_not_the_same(folder: Path, tmp_path: Path) -> None:
    first, second = (run(private_lives.secret(), place) for place in (folder, tmp_path / "other"))
    assert first.info.model_sha256 != second.info.model_sha256
    assert [r.invited for r in first.rounds] != [r.invited for r in second.rounds]


@pytest.mark.parametrize(("job", "charges"), [(private_lives.secret, 4), (private_lives.correlated, 1)])
def test_a_run_that_fails_again_and_again_spends_no_more_than_was_planned(
    folder: Path, job: Any, charges: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tacit.round.run._is_finite", lambda vector: False)
    outcomes = []
    for attempt in range(6):
        try:
            outcomes.append(run(job(), folder, resume=attempt > 0, people=private_lives.people).outcome)
        except TacitError as error:
            outcomes.append(error.code)
    assert outcomes == ["T304"] * 4 + ["exhausted"] * 2
    assert spent(folder) == charges


# --- budgets -----------------------------------------------------------------------------------


def lowered(folder: Path, epsilon: float) -> Callable[[], None]:
    def lower() -> None:
        with Ledger(folder / LEDGER) as ledger:
            ledger.set_budget(POPULATION, epsilon, 1e-3)

    return lower


def test_a_budget_that_is_set_lower_ends_the_run_with_what_was_reached(folder: Path, tmp_path: Path) -> None:
    whole = run(private_lives.seeded(), tmp_path / "whole")
    reached = RunFolder.existing(tmp_path / "whole").spends()[1].epsilon
    assert reached is not None
    result = run(private_lives.seeded(), folder, observer=StopAfter(1, lowered(folder, reached * (1 + 1e-5))))
    assert result.outcome == "exhausted"
    assert result.info.rounds == len(charged(folder)) == 2
    assert (folder / "model.safetensors").exists()
    assert (folder / "report.html").exists()
    assert result.info.epsilon == pytest.approx(reached, rel=1e-2)
    assert run(private_lives.seeded(), folder, resume=True).outcome == "exhausted"
    lowered(folder, 100.0)()
    assert run(private_lives.seeded(), folder, resume=True).info.model_sha256 == whole.info.model_sha256


def test_a_budget_that_not_one_round_fits_leaves_the_first_model(folder: Path) -> None:
    folder.mkdir()
    lowered(folder, 1e-3)()
    result = run(private_lives.seeded(), folder)
    assert (result.outcome, result.info.rounds, result.info.epsilon) == ("exhausted", 0, 0.0)
    assert charged(folder) == []
    assert result.info.model_sha256 is not None


def test_another_process_that_charges_the_same_budget_is_counted(folder: Path, tmp_path: Path) -> None:
    run(private_lives.seeded(), tmp_path / "whole")
    reached = RunFolder.existing(tmp_path / "whole").spends()[2].epsilon
    assert reached is not None

    def charge() -> None:
        with Ledger(folder / LEDGER) as ledger:
            ledger.set_budget(POPULATION, reached * (1 + 1e-5), 1e-3)
            spend = replace(charged(folder)[0], run="another", inputs_sha256="0" * 64)
            ledger.reserve(POPULATION, spend, accountant=epsilon)

    result = run(private_lives.seeded(), folder, observer=StopAfter(1, charge))
    assert result.outcome == "exhausted"
    assert result.info.rounds == 2  # three fit the budget, and one of them is another's
    assert len(charged(folder)) == 3


def test_epsilon_so_small_that_it_is_zero_is_still_a_limit(folder: Path) -> None:
    quiet = private(noise_multiplier=3e4, delta=5e-3)
    result = run(private_lives.job(privacy=quiet, rounds=1), folder)
    assert result.outcome == "completed"
    assert len(charged(folder)) == 1


# --- a ledger that was lost --------------------------------------------------------------------


@pytest.mark.parametrize("job", [private_lives.secret, private_lives.correlated])
def test_a_deleted_ledger_is_found_and_its_charges_count(folder: Path, job: Any) -> None:
    stopped(job(), folder, after=3)
    before = spent(folder)
    for file in folder.glob(f"{LEDGER}*"):
        file.unlink()
    result = run(job(), folder, resume=True)
    assert result.outcome == "completed"
    assert isinstance(facts(folder)[0], Gap)
    assert spent(folder) == (4 if before > 1 else 1)


def test_a_ledger_that_was_put_back_is_found_and_the_gap_counts(folder: Path, tmp_path: Path) -> None:
    job = private_lives.secret()
    stopped(job, folder, after=1)
    shutil.copy(folder / LEDGER, tmp_path / "old.db")
    run(job, folder, resume=True, observer=StopAfter(3))
    for file in folder.glob(f"{LEDGER}*"):
        file.unlink()
    shutil.copy(tmp_path / "old.db", folder / LEDGER)
    assert run(job, folder, resume=True).outcome == "completed"
    assert any(isinstance(fact, Gap) for fact in facts(folder))
    assert spent(folder) >= 4


def test_a_lost_ledger_with_a_budget_keeps_it(folder: Path) -> None:
    job = private_lives.secret()
    run(job, folder, observer=StopAfter(1, lowered(folder, 0.5)))
    for file in folder.glob(f"{LEDGER}*"):
        file.unlink()
    assert run(job, folder, resume=True).outcome == "exhausted"


def test_an_edited_ledger_is_refused(folder: Path) -> None:
    stopped(private_lives.secret(), folder)
    with sqlite3.connect(folder / LEDGER) as connection:
        connection.execute("DROP TRIGGER no_change")
        connection.execute("UPDATE entries SET text = replace(text, '\"step\":2', '\"step\":1')")
    connection.close()
    with pytest.raises(StoreError) as caught:
        run(private_lives.secret(), folder, resume=True)
    assert caught.value.code == "T421"
    assert RunFolder.existing(folder).info().rounds == 2


def test_a_ledger_that_vanishes_while_it_is_in_use_ends_the_run(folder: Path) -> None:
    with pytest.raises(StoreError) as caught:
        run(private_lives.secret(), folder, observer=StopAfter(2, (folder / LEDGER).unlink))
    assert caught.value.code == "T420"


def test_two_at_once_cannot_go_on_with_one_run(folder: Path) -> None:
    found = []

    def again() -> None:
        with pytest.raises(StoreError) as caught:
            run(private_lives.secret(), folder, resume=True)
        found.append(caught.value.code)

    assert run(private_lives.secret(), folder, observer=StopAfter(2, again)).outcome == "completed"
    assert found == ["T405"]
    assert len(charged(folder)) == 4


# --- secrets -----------------------------------------------------------------------------------


class Spy:
    """Remembers every key and seed that was handed out."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.keys: list[bytes] = []
        self.seeds: list[int] = []
        key, bits = SystemKeys.key, secrets.randbits
        patch.setattr(SystemKeys, "key", lambda *address: self._kept(key(*address)))
        patch.setattr(secrets, "randbits", lambda count: self._noted(bits(count)))

    def _kept(self, key: bytes) -> bytes:
        self.keys.append(key)
        return key

    def _noted(self, seed: int) -> int:
        self.seeds.append(seed)
        return seed

    def forms(self) -> set[bytes]:
        """Return all that must not be found in a file."""
        numbers = [seed.to_bytes(16, order) for seed in self.seeds for order in ("little", "big")]  # type: ignore[arg-type]
        texts = [str(seed).encode() for seed in self.seeds]
        raw = [*self.keys, *numbers]
        coded = [form for one in raw for form in (one.hex().encode(), base64.b64encode(one)[:-4])]
        return {*raw, *texts, *coded}


def assert_nowhere(folder: Path, forms: set[bytes]) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        assert not [form for form in forms if form in content], path.name


@pytest.mark.parametrize("job", [private_lives.secret, private_lives.correlated, private_lives.stored])
def test_no_key_and_no_seed_lies_in_the_folder(
    folder: Path, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    stopped(job(), folder, after=3)
    assert len(spy.keys) >= 4
    assert spy.seeds
    state = load_snapshot(RunFolder.existing(folder).checkpoint, POPULATION).privacy
    assert state is not None
    assert state.key in spy.keys
    assert state.cohort_seed in spy.seeds
    forms = spy.forms()
    if isinstance(state.past, PastVectors):
        forms |= {part.tobytes() for vector in state.past.vectors for part in np.split(vector[:8], 2)}
    assert_nowhere(folder, forms)
    run(job(), folder, resume=True)
    assert_nowhere(folder, forms | spy.forms())


@pytest.fixture
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys" / "master.key"
    monkeypatch.setenv("TACIT_MASTER_KEY", str(path))
    return path


def test_another_master_key_does_not_open_the_run_and_the_right_one_does(
    folder: Path, own_key: Path, tmp_path: Path
) -> None:
    stopped(private_lives.secret(), folder)
    own_key.rename(tmp_path / "away")
    own_key.write_bytes(os.urandom(32))
    with pytest.raises(ConfigError) as caught:
        run(private_lives.secret(), folder, resume=True)
    assert caught.value.code == "T185"
    assert "master key" in caught.value.fix
    (tmp_path / "away").replace(own_key)
    assert run(private_lives.secret(), folder, resume=True).outcome == "completed"


def test_without_its_master_key_a_run_does_not_go_on_and_none_is_made(folder: Path, own_key: Path) -> None:
    stopped(private_lives.secret(), folder)
    own_key.unlink()
    for make in (lambda: None, own_key.mkdir, lambda: own_key.rmdir() or own_key.write_bytes(b"short")):
        make()
        with pytest.raises(StoreError) as caught:
            run(private_lives.secret(), folder, resume=True)
        assert (caught.value.code, caught.value.where) == ("T430", str(own_key))


def test_a_checkpoint_whose_secrets_were_changed_is_refused(folder: Path) -> None:
    stopped(private_lives.secret(), folder)
    path = RunFolder.existing(folder).checkpoint
    with safe_open(path, framework="numpy") as file:
        sealed = file.get_tensor("privacy/state").tobytes()
    start = path.read_bytes().index(sealed)
    assert all(_is_refused(path, start + place) for place in range(0, len(sealed), 7))


def _is_refused(path: Path, place: int) -> bool:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    try:
        load_snapshot(path, POPULATION)
    except (StoreError, ConfigError):
        return True
    else:
        return False
    finally:
        content[place] ^= 1
        path.write_bytes(bytes(content))


# --- a disk that fills up ----------------------------------------------------------------------

_CODE = """
import tacit
from tests.rounds import private_lives, worlds
place = request["folder"]
found = tacit.run(private_lives.seeded(), worlds.population, folder=place, resume=request["resume"],
                  executor="torch").outcome
"""


@pytest.mark.parametrize("most_bytes", [6000, 21_000, 33_000])
def test_a_disk_that_is_full_ends_the_run_and_nothing_is_lost(
    launcher: Launcher, folder: Path, tmp_path: Path, most_bytes: int
) -> None:
    ended = launcher.run("", folder, code=_CODE, most_bytes=most_bytes)
    assert ended["status"] == 5, ended
    assert ended["error"]["code"] in ("T401", "T425", "T420")
    ended = launcher.run("", folder, code=_CODE, resume=folder.joinpath("run.json").exists())
    assert ended.get("found") == "completed", ended
    run(private_lives.seeded(), tmp_path / "whole")
    assert worlds.told(folder) == worlds.told(tmp_path / "whole")
    assert len(charged(folder)) == 4
