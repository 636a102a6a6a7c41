"""What a sweep's report and table say: the curve, its spread, and what no guarantee covers."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

from tacit.core.metrics import ClientSummary
from tacit.report import sweep_words
from tacit.report.sweep import render_sweep_html, sweep_verdict, write_sweep_report
from tacit.report.sweep_curves import curves
from tacit.report.sweep_summary import ended, summarised
from tacit.report.sweep_table import sweep_table
from tacit.store import FinalMetrics
from tacit.store.sweep_folder import SweepFolder, SweepGrid, SweepPoint, SweepRecord, SweepRun
from tests.unit.report.pages import Page

PLAIN = "not private: no differential privacy, no secure aggregation"
PRIVATE = "user-level differential privacy, epsilon as spent"
EPSILONS = (0.5, 1, 2, 4, 8, None)
GRID = SweepGrid(
    name="digits",
    over={"privacy.epsilon": ("0.5", "none")},
    seeds=(0,),
    settings={},
    source="jobs/digits.py",
    overrides=("rounds=30",),
)


def run(value: float | None, seed: int = 0, **known: Any) -> SweepRun:
    central = {} if value is None else {"accuracy": value, "loss": 1 - value}
    clients = {
        name: ClientSummary(mean=found, worst_10=found / 2, spread=0.1, clients=9)
        for name, found in central.items()
    }
    metrics = FinalMetrics(central=central, clients=clients)
    outcome: Any = known.pop("outcome", "completed")
    return SweepRun(seed=seed, folder=f"point/seed={seed}", outcome=outcome, metrics=metrics, **known)


def point(settings: Mapping[str, Any], *runs: SweepRun, privacy: str = PLAIN) -> SweepPoint:
    name = ",".join(f"{key.rpartition('.')[2]}={sweep_words.value(value)}" for key, value in settings.items())
    return SweepPoint(name=name, settings=settings, privacy=privacy, runs=runs)


def record(points: Sequence[SweepPoint], metric: str = "accuracy", **known: Any) -> SweepRecord:
    keys = dict.fromkeys(key for one in points for key in one.settings)
    over = {
        key: tuple(dict.fromkeys(one.settings[key] for one in points if key in one.settings)) for key in keys
    }
    made = SweepRecord(
        name="digits", outcome="completed", metric=metric, higher_is_better=metric != "loss", over=over,
        seeds=tuple(range(max(len(one.runs) for one in points))), points=tuple(points), **known,
    )  # fmt: skip
    return summarised(made)


def trade_off(*others: tuple[str, Any]) -> list[SweepPoint]:
    """Make the points of a sweep over epsilon; the more is spent, the better."""
    return [
        point(
            {"privacy.epsilon": epsilon, **dict(others)},
            *(run(0.9 - 0.2 / (epsilon or 100) + 0.01 * seed, seed, epsilon=epsilon) for seed in (0, 1, 2)),
            privacy=PLAIN if epsilon is None else PRIVATE,
        )
        for epsilon in EPSILONS
    ]


def page_of(made: SweepRecord) -> Page:
    return Page(render_sweep_html(GRID, made))


def told(made: SweepRecord) -> str:
    file = io.StringIO()
    Console(file=file, width=200).print(sweep_table(made))
    return " ".join(file.getvalue().split())


def alternative(made: SweepRecord) -> str:
    return next(attributes["aria-label"] for tag, attributes in page_of(made).tags if tag == "svg")


# --- the figures ----------------------------------------------------------------------------------


def test_mean_and_spread_are_over_complete_runs_alone() -> None:
    runs = (run(0.5), run(0.7, 1), run(0.1, 2, outcome="failed"), run(0.2, 3, outcome="interrupted"))
    found = record([point({"rounds": 5}, *runs)]).points[0]
    assert [one.value for one in found.runs] == [0.5, 0.7, None, None]
    assert (found.mean, found.low, found.high) == (0.6, 0.5, 0.7)
    assert found.std == pytest.approx(0.02**0.5)
    assert found.epsilon is None


def test_a_single_run_has_no_spread() -> None:
    found = record([point({"rounds": 5}, run(0.5))]).points[0]
    assert (found.mean, found.std) == (0.5, None)


def test_the_largest_epsilon_of_a_point_is_told() -> None:
    runs = (run(0.5, epsilon=1.5), run(0.5, 1, epsilon=1.9), run(None, 2, outcome="failed", epsilon=0.3))
    assert record([point({"rounds": 5}, *runs)]).points[0].epsilon == 1.9


def test_without_a_test_set_the_mean_over_clients_counts() -> None:
    made = msgspec.structs.replace(run(0.5).metrics, central={})
    found = record([point({"rounds": 5}, msgspec.structs.replace(run(0.5), metrics=made))])
    assert (found.measured, found.points[0].mean) == ("clients", 0.5)


def test_the_best_point_is_that_with_the_best_mean_of_as_many_runs() -> None:
    good, better = point({"rounds": 1}, run(0.5), run(0.5, 1)), point({"rounds": 2}, run(0.6), run(0.6, 1))
    lucky = point({"rounds": 3}, run(0.9), run(None, 1, outcome="failed"))
    assert record([good, better, lucky]).best == "rounds=2"
    assert record([good, better, lucky], "loss").best == "rounds=2"
    assert record([point({"rounds": 1}, run(None, outcome="failed"))]).best is None


def test_the_best_point_has_a_guarantee_where_any_has_one() -> None:
    made = record(trade_off())
    assert made.points[-1].mean == max(one.mean or 0 for one in made.points)
    assert made.best == "epsilon=8"
    assert "best accuracy: 0.885 over 3 seeds with epsilon=8" in sweep_verdict(made)


def test_a_sweep_ends_as_its_runs_did() -> None:
    waiting, failed = run(None, outcome="waiting"), run(None, 1, outcome="failed")
    assert ended(record([point({"rounds": 5}, run(0.5))])) == "completed"
    assert ended(record([point({"rounds": 5}, run(0.5), failed)])) == "failed"
    assert ended(record([point({"rounds": 5}, waiting, failed)])) == "interrupted"


# --- what no guarantee covers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "privacy"),
    [({"rounds": 5}, PRIVATE), ({"privacy.delta": 1e-5}, PLAIN), ({"privacy.epsilon": None}, PLAIN)],
)
def test_a_private_sweep_says_that_tuning_is_not_covered(settings: dict[str, Any], privacy: str) -> None:
    made = record([point(settings, run(0.5), privacy=privacy)])
    assert made.private
    for text in (page_of(made).text, told(made), made.note):
        assert "Tuning is not covered" in text
        assert re.search(
            r"choosing settings by trying them on private data is itself not covered", text, re.IGNORECASE
        )
    assert "Not private No run" not in page_of(made).text


def test_a_private_sweep_says_so_even_if_every_run_failed() -> None:
    made = record([point({"privacy.epsilon": 1.0}, run(None, outcome="failed"), privacy="")])
    assert "Tuning is not covered" in page_of(made).text
    assert "Tuning is not covered" in told(made)


def test_a_sweep_without_privacy_says_that_it_is_not_private() -> None:
    made = record([point({"rounds": 5}, run(0.5)), point({"rounds": 6}, run(0.6))])
    assert not made.private
    assert "Tuning is not covered" not in page_of(made).text + told(made)
    assert "Not private No run of this sweep promises differential privacy" in page_of(made).text


# --- the picture ----------------------------------------------------------------------------------


def test_the_curve_of_epsilon_is_logarithmic_and_what_is_not_private_is_a_line() -> None:
    made = record(trade_off())
    said = alternative(made)
    assert said.startswith(
        "Line chart of accuracy by privacy.epsilon on a logarithmic axis: 0.51 at 0.5, 0.71 at 1"
    )
    assert said.endswith("0.908 not private.")
    page = page_of(made)
    assert "not private 0.908" in page.text
    assert "lowest to highest seed" in page.text
    found = curves(made)[0]
    assert found.at == (0.5, 1.0, 2.0, 4.0, 8.0)
    assert found.reference is not None
    assert found.reference.settings == {"privacy.epsilon": None}


def places(made: SweepRecord) -> list[float]:
    """Return where the labels of the axis stand in the picture."""
    html = render_sweep_html(GRID, made)
    figure = html[html.index("<svg") : html.index("</svg>")]
    return [float(x) for x in re.findall(r'text-anchor: middle[^>]* x="([\d.]+)"[^>]*>[\d.]+</text>', figure)]


def test_doublings_stand_equally_far_apart_on_a_logarithmic_axis_and_not_on_a_linear_one() -> None:
    steps = np.diff(places(record(trade_off())))
    assert len(steps) == 4
    assert steps == pytest.approx(steps[0], rel=1e-3)
    linear = np.diff(places(record([point({"rounds": rounds}, run(0.5)) for rounds in (10, 20, 40)])))
    assert linear[1] == pytest.approx(2 * linear[0], rel=1e-3)


def test_few_values_close_together_are_drawn_on_a_linear_axis() -> None:
    made = record([point({"rounds": rounds}, run(rounds / 100)) for rounds in (10, 20, 50)])
    assert alternative(made).startswith("Line chart of accuracy by rounds: 0.1 at 10, 0.2 at 20")


def test_a_setting_that_is_removed_is_named_where_it_is_not_about_privacy() -> None:
    made = record([point({"clipping_bound": bound}, run(0.5)) for bound in (0.5, 1.0, None)])
    assert alternative(made).endswith("0.5 without clipping_bound.")


def test_a_removed_privacy_setting_that_leaves_a_guarantee_is_not_called_not_private() -> None:
    points = [point({"privacy.floor": floor}, run(0.5), privacy=PRIVATE) for floor in (0.5, None)]
    assert alternative(record(points)).endswith("0.5 without floor.")


def test_two_settings_give_a_curve_for_each_value_of_the_second() -> None:
    points = [*trade_off(("algorithm.local.lr", 0.1)), *trade_off(("algorithm.local.lr", 0.5))]
    made = record(points)
    assert [curve.label for curve in curves(made)] == ["lr=0.1", "lr=0.5"]
    assert "lr=0.1, not private 0.908" in page_of(made).text


def test_a_point_that_all_curves_share_is_drawn_once() -> None:
    points = [
        point({"privacy.epsilon": epsilon, "privacy.delta": delta}, run(0.5), privacy=PRIVATE)
        for epsilon in (1.0, 2.0)
        for delta in (1e-4, 1e-5)
    ]
    made = record([*points, point({"privacy.epsilon": None}, run(0.9))])
    assert [curve.label for curve in curves(made)] == ["delta=0.0001", "delta=1e-05"]
    assert page_of(made).text.count("not private 0.") == 2  # once in each picture


def test_words_are_drawn_in_the_order_of_the_grid() -> None:
    points = [
        point({"weighting.by": by}, run(value)) for by, value in (("examples", 0.6), (None, 0.5), ("x", 0.7))
    ]
    assert "0.6 at examples, 0.5 at none, 0.7 at x" in alternative(record(points))


def test_more_curves_than_colours_are_left_out_and_counted() -> None:
    points = [
        point({"rounds": n, "clipping_bound": float(b)}, run(0.5)) for n in (1, 2) for b in range(1, 10)
    ]
    assert "3 more curves would not be told apart" in page_of(record(points)).text


def test_nothing_measured_is_said_and_not_drawn() -> None:
    page = page_of(
        record([point({"rounds": 5}, run(None, outcome="failed", code="T304", reason="diverged"))])
    )
    assert "There is nothing to draw" in page.text
    assert "T304: diverged" in page.text
    assert "0 of 1 run complete" in page.text


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def html() -> str:
    return render_sweep_html(GRID, record(trade_off()))


def test_the_page_is_well_formed_and_needs_nothing_else(html: str) -> None:
    page = Page(html)
    assert page.unclosed == []
    assert page.headings == ["Curve", "Points", "Failures", "Grid", "Run it again"]
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "link", "img", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value.startswith("#")
    assert render_sweep_html(GRID, record(trade_off())) == html


def test_the_picture_follows_the_page_into_dark_mode(html: str) -> None:
    figure = html[html.index("<svg") : html.index("</svg>")]
    assert "var(--blue)" in figure
    assert "var(--vermilion)" in figure
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]+)", figure)) <= {"#000000"}


def test_the_page_has_the_command_and_what_was_spent(html: str) -> None:
    text = Page(html).text
    assert "tacit sweep jobs/digits.py --set rounds=30 --over privacy.epsilon=0.5,none --seeds 0," in text
    assert "epsilon spent" in text
    assert "best" in text


def test_what_others_wrote_is_no_markup() -> None:
    wild = record([point({"task.loss": "<script>[bold]"}, run(None, outcome="failed", reason="<b>"))])
    assert not {"script", "b"} & {tag for tag, _ in page_of(wild).tags}
    assert "<script>[bold]" in told(wild)


def test_write_sweep_report_puts_it_into_the_folder(tmp_path: Path) -> None:
    folder = SweepFolder.create(tmp_path / "sweep")
    made = record(trade_off())
    folder.write_grid(GRID)
    folder.write_record(made)
    folder.close()
    assert (folder.grid(), folder.record()) == (GRID, made)
    assert Page(write_sweep_report(folder).read_text()).headings[0] == "Curve"
