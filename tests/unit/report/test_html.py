import sys
from pathlib import Path
from subprocess import run

import msgspec
import pytest

from tacit.core.metrics import ClientSummary
from tacit.report import render_html, write_report
from tacit.round import EvaluationRecord, RoundRecord
from tacit.store import FinalMetrics, RunFolder
from tests.unit.report import made_runs
from tests.unit.report.pages import Page

HEADINGS = [
    "Key figures",
    "Learning",
    "Clients",
    "Who holds what",
    "Participation",
    "Failures",
    "Bytes",
    "Settings",
    "Versions, seeds and digests",
    "Run it again",
]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made_runs.digits(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture(scope="module")
def html(digits: RunFolder) -> str:
    return render_html(digits)


def figures(page: Page) -> list[str]:
    return [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]


def test_the_page_is_well_formed_and_has_every_section(html: str) -> None:
    page = Page(html)
    assert page.unclosed == []
    assert page.headings == HEADINGS
    assert len(page.ids) == len(set(page.ids))


def test_the_page_needs_no_network_and_runs_no_script(html: str) -> None:
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
                assert value.startswith("#"), (tag, name, value)
    assert "@import" not in html
    assert "url(http" not in html.replace('"', "").replace("'", "")


def test_equal_folders_give_equal_reports(digits: RunFolder, html: str) -> None:
    assert render_html(digits) == html


def test_write_report_puts_it_into_the_folder(tmp_path: Path) -> None:
    folder = made_runs.hospitals(tmp_path / "hospitals")
    path = write_report(folder)
    assert path == folder.path / "report.html"
    assert Page(path.read_text()).headings == HEADINGS


def test_the_first_lines_say_how_it_went(html: str) -> None:
    text = Page(html).text
    assert "digits Completed" in text
    assert "28 rounds, accuracy 0.934 on the test set, worst tenth of clients 0.8" in text
    assert "3 May 2025, 14:02 UTC" in text
    assert (
        "Not private No differential privacy, no secure aggregation. Whoever runs the server can see" in text
    )


def test_every_figure_has_a_text_alternative_and_a_caption(html: str) -> None:
    page = Page(html)
    told = figures(page)
    assert len(told) == 7
    assert all(len(alternative) > 40 for alternative in told)
    assert told[0].startswith(
        "Line chart of accuracy by round: test set from 0.1 in round 0 to 0.9343 in round 30"
    )
    assert sum(tag == "figcaption" for tag, _ in page.tags) == len(told)


def test_it_shows_settings_versions_seeds_digests_and_the_command(html: str) -> None:
    text = Page(html).text
    for shown in (
        "over_selection 1.3",
        "rounds 30",
        "Version of torch 2.7.1",
        "Seed 7",
        "9f" * 32,
        "cd" * 32,
    ):
        assert shown in text
    assert "tacit run examples/digits.py --set rounds=30" in text
    assert "15.1 MB" in text


def test_importing_the_package_draws_nothing_in() -> None:
    heavy = "{'matplotlib', 'jinja2', 'rich', 'torch'}"
    code = f"import sys, tacit.report; print(sorted({heavy} & set(sys.modules)))"
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_other_peoples_plots_keep_their_settings(digits: RunFolder) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 31.0, "axes.grid": True, "axes.facecolor": "black"}):
        before = dict(mpl.rcParams)
        report = render_html(digits)
        assert dict(mpl.rcParams) == before
    assert report == render_html(digits)


# --- what others wrote --------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>",
    "a&b \"c\" 'd'",
    "$\\frac{1}{$",
    "{{ 7 * 7 }}",
    "病院 🏥",
    "e\x1b[31m\nf\x00",
    "-->",
    "fill: #0067a6",
)


def test_names_and_reasons_of_others_are_text_and_nothing_else(tmp_path: Path) -> None:
    population = made_runs.label_skew(HOSTILE)
    population = msgspec.structs.replace(population, labels=("<b>0</b>", "$x", *population.labels[2:]))
    noted = RoundRecord(
        round=1,
        outcome="abandoned",
        reason="<img src=x onerror=alert(2)>",
        invited=HOSTILE,
        answered=(),
        failed={HOSTILE[0]: "<svg onload=alert(3)>", HOSTILE[5]: "javascript:alert(4)"},
    )
    info = msgspec.structs.replace(
        made_runs.INFO,
        name="</title><script>alert(5)</script>",
        reason='"><script>alert(6)</script>',
        machine="<script>",
        source="a b; rm -rf <x>.py",
        privacy="not private: <script>alert(7)</script>",
        overrides=("name=<script>",),
        population=population,
        versions={"<i>": "<script>"},
    )
    settings = {**made_runs.SETTINGS, "<script>": "</td><script>alert(8)</script>"}
    measured = made_runs.make_evaluation(
        1, HOSTILE, {"loss": made_runs.loss, "job.py:<script>": made_runs.accuracy}
    )
    folder = made_runs.write(
        tmp_path / "run", info=info, settings=settings, rounds=[noted], evaluations=[measured]
    )
    html = render_html(folder)
    page = Page(html)
    assert page.unclosed == []
    assert page.headings == HEADINGS
    assert "<script" not in html.lower()
    assert not {"script", "img", "b>0"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "{{ 7 * 7 }}" in page.text
    assert "病院 🏥" in page.text
    assert "$\\frac{1}{$" in page.text
    assert "tacit run 'a b; rm -rf <x>.py' --set 'name=<script>'" in page.text
    assert "\x1b" not in html
    assert "\x00" not in html


# --- unusual runs -------------------------------------------------------------------------------


def rendered(folder: RunFolder) -> Page:
    html = render_html(folder)
    assert len(html.encode()) < 2_000_000
    page = Page(html)
    assert page.unclosed == []
    assert page.headings == HEADINGS
    assert len(page.ids) == len(set(page.ids))
    return page


def test_a_run_without_client_evaluations(tmp_path: Path) -> None:
    measured = [
        EvaluationRecord(round=n, central={"loss": 1 / (n + 1), "accuracy": n / 10}) for n in range(5)
    ]
    page = rendered(made_runs.write(tmp_path / "run", evaluations=measured))
    assert "accuracy 0.4 on the test set" in page.text
    assert "The model was not measured on single clients." in page.text
    assert len(figures(page)) == 2


def test_a_run_without_a_test_set(tmp_path: Path) -> None:
    page = rendered(made_runs.hospitals(tmp_path / "run"))
    assert "20 rounds, mean accuracy over clients 0.7" in page.text
    assert "on the test set" not in page.text
    assert any("Accuracy on 4 clients: best" in alternative for alternative in figures(page))


def test_a_run_of_one_round(tmp_path: Path) -> None:
    page = rendered(made_runs.digits(tmp_path / "run", rounds=1, clients=1))
    assert "1 round, accuracy" in page.text
    assert "the one client" in page.text


def test_a_run_measured_once(tmp_path: Path) -> None:
    measured = [made_runs.make_evaluation(3, made_runs.ids(5), made_runs.CLASSIFICATION)]
    page = rendered(made_runs.write(tmp_path / "run", evaluations=measured))
    assert "in round 3 to" in figures(page)[0]


def test_a_run_that_failed_before_anything_happened(tmp_path: Path) -> None:
    info = msgspec.structs.replace(
        made_runs.INFO,
        outcome="failed",
        reason="no client answered",
        rounds=0,
        attempts=0,
        model_sha256=None,
        seconds_per_round=None,
        versions={},
        source=None,
        overrides=(),
    )
    page = rendered(made_runs.write(tmp_path / "run", info=info, settings=None))
    assert "digits Failed 0 rounds, nothing was measured" in page.text
    assert "Failed: no client answered" in page.text
    assert "The model was not measured. " in page.text
    assert "No round has closed." in page.text
    assert "no model was written" in page.text
    assert "run that program again" in page.text
    assert figures(page) == []


def test_a_run_that_only_abandoned(tmp_path: Path) -> None:
    population = made_runs.ids(30)
    lost = [
        RoundRecord(
            round=n,
            outcome="abandoned",
            reason="0 of 20 clients answered, 10 are needed",
            invited=population,
            answered=(),
            failed=dict.fromkeys(population, "loss is not finite"),
        )
        for n in (1, 2, 3)
    ]
    info = msgspec.structs.replace(
        made_runs.INFO, outcome="failed", reason="3 rounds in a row", rounds=0, attempts=3
    )
    page = rendered(made_runs.write(tmp_path / "run", info=info, rounds=lost))
    assert "0 of 30 3 more abandoned" in page.text
    assert "The first 30 of 90; rounds.jsonl has them all." in page.text
    assert "3 rounds abandoned" in figures(page)[0]


@pytest.mark.parametrize("outcome", ["interrupted", "running"])
def test_a_run_that_has_not_ended_shows_what_was_noted(tmp_path: Path, outcome: str) -> None:
    names = made_runs.ids(20)
    info = msgspec.structs.replace(
        made_runs.INFO,
        outcome=outcome,
        rounds=0,
        attempts=0,
        ended=None,
        model_sha256=None,
        metrics=FinalMetrics(),
    )
    measured = [made_runs.make_evaluation(n, names, made_runs.CLASSIFICATION) for n in range(8)]
    folder = made_runs.write(
        tmp_path / "run", info=info, rounds=made_runs.make_rounds(7, names), evaluations=measured
    )
    page = rendered(folder)
    assert "7 rounds, accuracy 0.678 on the test set" in page.text
    assert "7 of 30" in page.text
    assert ("The run had not ended" in page.text) == (outcome == "running")


def test_a_run_of_a_thousand_rounds(tmp_path: Path) -> None:
    page = rendered(made_runs.digits(tmp_path / "run", rounds=1000))
    assert "One bar is the mean of 10 rounds in a row" in page.text
    assert "The first 30 of 90" in page.text


def test_cohorts_of_ten_thousand_clients(tmp_path: Path) -> None:
    names = made_runs.ids(10_000)
    info = msgspec.structs.replace(
        made_runs.INFO, population=made_runs.label_skew(names[:1000], 60, population=10_000)
    )
    noted = made_runs.make_rounds(3, names, cohort=10_000, wanted=7_000)
    measured = [made_runs.make_evaluation(n, names, made_runs.CLASSIFICATION) for n in (0, 3)]
    page = rendered(made_runs.write(tmp_path / "run", info=info, rounds=noted, evaluations=measured))
    assert "40 of 10,000 clients" in page.text
    assert "how many clients have a value in that range" in page.text


def test_a_regression_is_about_its_own_metric(tmp_path: Path) -> None:
    names = made_runs.ids(30)
    metrics = {"loss": made_runs.loss, "mae": lambda n: 3.0 / (n + 1)}
    info = msgspec.structs.replace(made_runs.INFO, population=made_runs.target_spread(names))
    measured = [made_runs.make_evaluation(n, names, metrics) for n in range(6)]
    page = rendered(made_runs.write(tmp_path / "run", info=info, evaluations=measured))
    assert "30 rounds, MAE 0.5 on the test set, worst tenth of clients" in page.text
    assert "Targets by client" in page.text
    assert "Lower is better" in page.text


def test_a_run_with_nothing_but_a_loss_is_about_the_loss(tmp_path: Path) -> None:
    measured = [made_runs.make_evaluation(n, made_runs.ids(3), {"loss": made_runs.loss}) for n in range(3)]
    page = rendered(made_runs.write(tmp_path / "run", evaluations=measured))
    assert "30 rounds, loss 1.8" in page.text


def test_values_that_are_missing_or_absurd_leave_gaps(tmp_path: Path) -> None:
    summary = ClientSummary(mean=1e300, worst_10=1e308, spread=1e308, clients=2)
    measured = [
        EvaluationRecord(round=0, central={"loss": 2.3}),
        EvaluationRecord(round=1, central={"accuracy": 0.5}, clients={"loss": summary}),
        EvaluationRecord(
            round=2,
            central={"loss": 1e308, "accuracy": 0.1},
            clients={"loss": summary},
            per_client={"loss": {"a": 1e308, "b": -1e308}, "accuracy": {"a": 0.5, "b": 0.5}},
        ),
    ]
    noted = [
        RoundRecord(round=n, outcome="committed", reason="", invited=("a",), answered=("a",), train_loss=loss)
        for n, loss in ((1, 2.0), (2, None))
    ]
    page = rendered(made_runs.write(tmp_path / "run", rounds=noted, evaluations=measured))
    assert "test set from 2.3 in round 0 to 2.3 in round 0" in " ".join(figures(page))


@pytest.mark.parametrize("clients", [2, 24, 25, 121])
def test_clients_whose_values_are_all_equal(tmp_path: Path, clients: int) -> None:
    names = made_runs.ids(clients)
    equal = {name: 0.1 + 0.2 if position % 2 else 0.3 for position, name in enumerate(names)}
    measured = EvaluationRecord(round=1, per_client={"accuracy": equal})
    page = rendered(made_runs.write(tmp_path / "run", evaluations=[measured]))
    assert f"Accuracy on {clients} clients: best 0.3" in figures(page)[0]


def test_a_population_in_which_nobody_holds_anything(tmp_path: Path) -> None:
    empty = msgspec.structs.replace(
        made_runs.target_spread(made_runs.ids(2)), sizes=(0, 0), examples=0, counts=((None,) * 5,) * 2
    )
    page = rendered(
        made_runs.write(tmp_path / "run", info=msgspec.structs.replace(made_runs.INFO, population=empty))
    )
    assert "no values" in " ".join(figures(page))


def test_long_settings_are_cut(tmp_path: Path) -> None:
    settings = {**made_runs.SETTINGS, "much": {str(n): n for n in range(1000)}, "long": "x" * 10_000}
    page = rendered(made_runs.write(tmp_path / "run", settings=settings))
    assert "more lines are in job.toml." in page.text
    assert "x" * 500 not in page.text


def test_labels_with_long_names_have_room(tmp_path: Path) -> None:
    names = made_runs.ids(12)
    holding = made_runs.label_skew(names, 30)
    labels = tuple(f"category number {n}" for n in range(30))
    holding = msgspec.structs.replace(
        holding, labels=labels, sizes=(0,) * 12, examples=0, counts=((0.0,) * 30,) * 12
    )
    info = msgspec.structs.replace(made_runs.INFO, population=holding)
    page = rendered(made_runs.write(tmp_path / "run", info=info))
    assert "a client holds 0 to 0 of 20 labels" in " ".join(figures(page))
    assert "category numb… " in page.text
    assert "other" in page.text
