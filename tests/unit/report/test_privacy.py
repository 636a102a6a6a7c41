"""What a report says about a promise of privacy, and what it leaves out because of it."""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from tacit.core.events import GaussianEvent
from tacit.core.part import encode
from tacit.privacy import Guarantee
from tacit.privacy.accounting import gaussian_epsilon
from tacit.privacy.ledger import Budget, Charge, Head, Mark
from tacit.report import compare, render_html, summary_table
from tacit.report.disclosure import Disclosure
from tacit.report.run_data import RunData
from tacit.report.tables import participation
from tacit.round import RoundRecord
from tacit.store import RunFolder
from tests.unit.report import made_runs
from tests.unit.report.made_runs import PRIVATE, UNAMPLIFIED
from tests.unit.report.pages import Page
from tests.unit.report.test_html import HEADINGS, figures
from tests.unit.report.test_terminal import printed

WITH_PRIVACY = [HEADINGS[0], "Privacy", *HEADINGS[1:]]
SEEDED = msgspec.structs.replace(PRIVATE, randomness="seeded")


def page_of(folder: RunFolder) -> Page:
    page = Page(render_html(folder))
    assert page.unclosed == []
    assert page.headings == WITH_PRIVACY
    assert len(page.ids) == len(set(page.ids))
    return page


def names_in(html: str) -> list[str]:
    return re.findall(r"phone-\d+", html)


def test_a_report_states_the_promise_with_its_delta_and_its_relation(tmp_path: Path) -> None:
    page = page_of(made_runs.private(tmp_path / "run"))
    for said in (
        "30 rounds, accuracy 0.934 on the test set, epsilon 2.000 at delta 0.0001",
        "The two worlds that look alike: with or without any one user's data.",
        "Spent epsilon 2.000 at delta 0.0001, after 30 steps",
        "Protects each user: with or without any one user's data (add_remove)",
        "the server is trusted: it sees every client's update, and adds the noise",
        "gaussian, noise multiplier 1.07; from the operating system",
        "Covered the model after every step the clipping bound's path",
        "Not covered choosing settings by results on the same data",
        "Cohorts and noise were drawn in secret",
    ):
        assert said in page.text
    assert "not private" not in page.text.lower()


def test_an_epsilon_is_never_told_smaller_than_it_is(tmp_path: Path) -> None:
    guarantee = msgspec.structs.replace(UNAMPLIFIED, epsilon=1.23401, zcdp=0.123449, mu_gdp=0.50001)
    text = page_of(made_runs.private(tmp_path / "run", guarantee)).text
    assert "epsilon 1.235 at delta" in text
    assert "rho 0.1235" in text
    assert "mu 0.5001" in text
    assert "1.234 at" not in text


def test_what_is_spent_and_the_moving_bound_are_drawn_by_round(tmp_path: Path) -> None:
    told = figures(page_of(made_runs.private(tmp_path / "run")))
    assert any(one.startswith("Line chart of epsilon by round: 0.378 after round 1, 2.000") for one in told)
    assert any(one.startswith("Line chart of the clipping bound by round: from 0.97 to") for one in told)
    fixed = figures(page_of(made_runs.private(tmp_path / "fixed", UNAMPLIFIED)))
    assert not any("clipping bound" in one for one in fixed)


# --- who took part ------------------------------------------------------------------------------


def test_under_a_secret_sample_no_word_of_who_took_part_or_how_many_is_in_the_report(tmp_path: Path) -> None:
    """Two runs with equal models and other participants have equal reports."""

    def run(name: str, records: Sequence[RoundRecord]) -> str:
        info = msgspec.structs.replace(
            made_runs.promising(made_runs.INFO, PRIVATE),
            population=made_runs.label_skew(made_runs.ids(100)),
        )
        spends = made_runs.make_spends(len(records))
        return render_html(made_runs.write(tmp_path / name, info=info, rounds=records, spends=spends))

    def rounds(invited: int, answered: int, seed: int) -> list[RoundRecord]:
        played = [made_runs.make_round(n + seed, made_runs.ids(100), invited, answered) for n in range(1, 11)]
        return [
            msgspec.structs.replace(record, round=n, outcome="committed")
            for n, record in enumerate(played, 1)
        ]

    assert run("one", rounds(17, 13, seed=0)) == run("other", rounds(40, 22, seed=100))


def test_the_report_says_what_it_leaves_out_and_why(tmp_path: Path) -> None:
    text = page_of(made_runs.private(tmp_path / "run")).text
    assert "Left out: the account relies on nobody but the operator knowing who took part" in text
    assert "Left out: what is measured on clients' own data has no noise" in text
    assert "Left out of this report who took part, and how many did" in text
    assert "What became of the invited clients" not in text
    assert "All clients, one round" not in text


def test_where_nothing_relies_on_a_secret_sample_counts_are_shown_but_no_names(tmp_path: Path) -> None:
    html = render_html(made_runs.private(tmp_path / "run", UNAMPLIFIED))
    page = Page(html)
    assert names_in(html) == []
    assert "What became of the invited clients" in page.text
    assert "Invited" in page.text
    assert "The whole run" in page.text


def test_comparison_and_summary_tell_no_totals_that_count_a_secret_cohort(tmp_path: Path) -> None:
    folder = made_runs.private(tmp_path / "run")
    known = compare([folder, made_runs.private(tmp_path / "other", UNAMPLIFIED)])
    assert (known.runs[0].bytes_up, known.runs[0].bytes_down) == (None, None)
    assert known.runs[1].bytes_up
    assert known.runs[0].epsilon == pytest.approx(1.99931)
    assert "epsilon 2.000 at delta 0.0001 for each user (add_remove" in printed(known, width=200)
    text = printed(summary_table(folder.info(), rounds=folder.rounds()), width=120)
    assert "with or without any one user's data" in text
    assert "MB" not in text
    assert "kB up and" in text


# --- what was computed from clients' data without noise -----------------------------------------


def test_nothing_computed_on_clients_data_without_noise_is_in_a_private_report(tmp_path: Path) -> None:
    """Other measurements on clients, other sizes and other labels give the very same report."""

    def run(name: str, guarantee: Guarantee, seed: int) -> str:
        names = made_runs.ids(100)
        held = made_runs.label_skew(names, labels=4 + seed)
        held = msgspec.structs.replace(held, sizes=tuple(size + seed for size in held.sizes), examples=seed)
        measured = [made_runs.make_evaluation(n, names[seed:], made_runs.CLASSIFICATION) for n in range(5)]
        info = made_runs.promising(msgspec.structs.replace(made_runs.INFO, population=held), guarantee)
        return render_html(made_runs.write(tmp_path / name, info=info, evaluations=measured))

    for kind, guarantee in {"amplified": PRIVATE, "not": UNAMPLIFIED}.items():
        first, second = (run(f"{kind}-{seed}", guarantee, seed) for seed in (1, 2))
        assert first == second
        assert "accuracy 0.509 on the test set" in first
        assert names_in(first) == []
    assert run("seeded-1", SEEDED, 1) != run("seeded-2", SEEDED, 2)


def test_a_private_run_without_a_test_set_shows_no_metric(tmp_path: Path) -> None:
    names = made_runs.ids(10)
    measured = [made_runs.make_evaluation(n, names, made_runs.CLASSIFICATION, central=False) for n in (0, 1)]
    info = made_runs.promising(made_runs.INFO, UNAMPLIFIED)
    folder = made_runs.write(
        tmp_path / "run",
        info=info,
        rounds=made_runs.make_rounds(1, names),
        evaluations=measured,
        spends=made_runs.make_spends(1),
    )
    text = page_of(folder).text
    assert "nothing was measured in public" in text
    assert "The model was not measured on a central test set." in text
    assert "ccuracy" not in text.partition("Settings")[0]


def test_where_records_are_protected_sites_are_named_and_what_they_hold_is_not(tmp_path: Path) -> None:
    guarantee = msgspec.structs.replace(PRIVATE, unit="record")
    html = render_html(made_runs.private(tmp_path / "run", guarantee))
    text = Page(html).text
    assert "What became of the invited clients" in text
    assert "Clients that failed Round Client Reason" in text
    assert "Charged each site in a ledger of its own" in text
    assert "Left out: what clients hold is theirs" in text
    assert "Accuracy on each client" not in text
    assert "each site is trusted with its own records, and adds the noise" in text


# --- seeded, unfinished -------------------------------------------------------------------------


def test_a_run_with_seeded_noise_says_first_of_all_that_it_is_not_private(tmp_path: Path) -> None:
    page = page_of(made_runs.private(tmp_path / "run", SEEDED))
    heading = next(position for position, (tag, _) in enumerate(page.tags) if tag == "aside")
    assert "kept" not in page.tags[heading][1]["class"]
    assert page.text.index("Seeded, not private") < page.text.index("Key figures")
    assert "whoever knows the seed can take it away: nobody is protected" in page.text
    assert "epsilon 2.000 at delta 0.0001" not in page.text.partition("Key figures")[0].partition("Seeded")[0]
    assert "What became of the invited clients" not in page.text  # as it would be with secret noise


def test_as_long_as_nobody_knows_what_a_promise_relies_on_everything_is_left_out(tmp_path: Path) -> None:
    info = made_runs.promising(made_runs.INFO, PRIVATE)
    info = msgspec.structs.replace(info, guarantee=None, epsilon=None, outcome="running", ended=None)
    assert Disclosure.of(info) == Disclosure(names=False, participation=False, client_data=False)
    names = made_runs.ids(100)
    folder = made_runs.write(
        tmp_path / "run",
        info=info,
        rounds=made_runs.make_rounds(5, names),
        evaluations=[made_runs.make_evaluation(1, names, made_runs.CLASSIFICATION)],
        spends=made_runs.make_spends(5),
    )
    html = render_html(folder)
    assert names_in(html) == []
    assert "What became of the invited clients" not in html
    assert "epsilon by round" in html
    assert not Disclosure.of(made_runs.promising(made_runs.INFO, PRIVATE)).is_everything
    assert Disclosure.of(made_runs.INFO).is_everything


def test_a_run_that_stopped_at_its_budget_says_so(tmp_path: Path) -> None:
    info = msgspec.structs.replace(made_runs.INFO, outcome="exhausted", reason="one more round would ...")
    text = page_of(made_runs.private(tmp_path / "run", info=info)).text
    assert "digits Budget exhausted" in text
    assert "Budget exhausted: one more round would ..." in text


# --- the ledger ---------------------------------------------------------------------------------


def charged(noise: float, *counts: tuple[str, int], budget: Budget | None = None) -> Head:
    charges = tuple(
        Charge(
            job=job,
            run=job,
            unit="user",
            adjacency="zero_out",
            event=GaussianEvent(noise_multiplier=noise),
            count=count,
        )
        for job, count in counts
    )
    mark = Mark(sequence=60, sha256="ab" * 32)
    return Head(population="ward-7", mark=mark, charged=charges, budget=budget)


def test_the_spend_of_job_and_population_is_told_from_the_ledger(tmp_path: Path) -> None:
    own, both = gaussian_epsilon(20.0 / 30**0.5, 1e-4), gaussian_epsilon(20.0 / 50**0.5, 1e-4)
    head = charged(20.0, ("digits", 30), ("other", 20), budget=Budget(epsilon=4.0, delta=1e-6))
    guarantee = msgspec.structs.replace(UNAMPLIFIED, epsilon=own)
    info = msgspec.structs.replace(made_runs.INFO, ledger=head)
    text = page_of(made_runs.private(tmp_path / "run", guarantee, info=info)).text
    assert f"Charged to the job 30 charges, epsilon {own + 5e-4:.3f} at delta 0.0001 (zero_out)" in text
    assert "ward-7, by all jobs together: 50 charges" in text
    assert f"epsilon {both + 5e-4:.3f} at delta 0.0001" in text
    assert "the budget is epsilon 4.000 at delta 1e-06" in text
    assert f"entry 60, {'ab' * 32}" in text
    assert "That is more than the steps above" not in text


def test_a_charge_beyond_the_steps_that_count_is_pointed_out(tmp_path: Path) -> None:
    own = gaussian_epsilon(20.0 / 30**0.5, 1e-4)
    guarantee = msgspec.structs.replace(UNAMPLIFIED, epsilon=own)
    info = msgspec.structs.replace(made_runs.INFO, ledger=charged(20.0, ("digits", 31)))
    text = page_of(made_runs.private(tmp_path / "run", guarantee, info=info)).text
    assert "That is more than the steps above: a round was repeated with new noise" in text


def test_the_operators_own_record_keeps_everything(tmp_path: Path) -> None:
    folder = made_runs.private(tmp_path / "run")
    data = RunData.read(folder)
    assert participation(data.published()) is None
    assert any(record.answered for record in data.rounds)
    assert data.evaluations[-1].per_client
    assert not any(record.answered for record in data.published().rounds)
    assert encode(data.published().info)["population"]["clients"] == 100
