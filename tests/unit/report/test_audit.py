"""The report of an audit says what was found, and shows it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tacit.privacy.audit import Bound, Claim, Likeness, no_claim, roc
from tacit.report.audit import audit_table, render_audit_html
from tacit.report.audit_findings import CanaryScores, Findings, Picture
from tacit.report.audit_words import verdict
from tests.unit.report.pages import Page

CLAIM = Claim(2.0, 1e-5, "user", noise_multiplier=1.0, epsilon_at=lambda noise: 2 / noise, record_epsilon=5.0)
HEADINGS = ["Key figures", "Lower bounds", "Records", "One update", "How it was done"]


def picture(original: np.ndarray) -> Picture:
    rng = np.random.default_rng(0)
    return Picture(
        original=original,
        before=original,
        after=original + rng.standard_normal(original.shape).astype(np.float32),
        likeness_before=Likeness(0.0, math.inf, 1.0),
        likeness_after=Likeness(1.0, 3.0, 0.12),
        method="linear",
    )


def findings(**changes: object) -> Findings:
    rng = np.random.default_rng(1)
    included = rng.random(100) < 0.5
    scores = rng.standard_normal(100) + included
    image = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    whole = Findings(
        job="digits",
        privacy="epsilon 2 at delta 1e-05",
        claim=CLAIM,
        confidence=0.99,
        rounds=30,
        runs=20,
        canaries=100,
        trained=False,
        bounds=(
            Bound("one_run", 0.7, 0.995, "60 of 80 guesses right, about 100 coins"),
            Bound("noise", 1.8, 0.995, "noise multiplier 1.02, at most 1.1"),
            Bound("records", 3.0, 0.99, "30 of 40 guesses right, about 100 coins"),
        ),
        scores=CanaryScores(tuple(scores[included].tolist()), tuple(scores[~included].tolist()), False),
        membership=roc(scores, included),
        pictures=(picture(image), picture(image[:, ::-1])),
        left_out=("something: <b>not</b> possible",),
        seconds=12.5,
    )
    return replace(whole, **changes)


REFUTED = (Bound("noise", 4.2, 0.99, "noise multiplier 0.5, at most 0.55"),)


@pytest.mark.parametrize(
    "found",
    [
        findings(),
        findings(bounds=(), scores=None, membership=None, pictures=()),
        findings(
            claim=no_claim(1e-5),
            bounds=(Bound("noise", math.inf, 1.0, "none"),),
            scores=CanaryScores((), (0.0, 0.0), True),
            pictures=(picture(np.arange(13, dtype=np.float32)),),
        ),
        findings(
            bounds=REFUTED,
            membership=None,
            pictures=(picture(np.random.default_rng(0).random((3, 9, 7), np.float32)),),
        ),
        findings(bounds=(), membership=None, pictures=(picture(np.zeros((64,), np.float32)),)),
    ],
)
def test_the_page_is_well_formed_and_needs_nothing_else(found: Findings) -> None:
    html = render_audit_html(found)
    page = Page(html)
    assert page.unclosed == []
    assert page.headings == HEADINGS
    assert len(page.ids) == len(set(page.ids))
    assert "script" not in {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:50])
    assert "<b>not</b>" not in html


def test_equal_findings_give_equal_pages() -> None:
    found = findings(membership=None, pictures=())
    assert render_audit_html(found) == render_audit_html(found)


def test_a_claim_that_holds_is_said_to_be_not_refuted_and_no_more() -> None:
    page = Page(render_audit_html(findings()))
    assert "Not refuted" in page.text
    assert "That is no proof" in page.text
    assert "at least 1.8" in verdict(findings())  # not 3.0: a record's bound is against another limit
    assert findings().verdict == "held"


def test_a_refuted_claim_is_said_loud_and_clear() -> None:
    found = findings(bounds=REFUTED)
    assert found.verdict == "refuted"
    assert verdict(found) == "The claim is wrong: epsilon is at least 4.2, and 2 was claimed."
    text = Page(render_audit_html(found)).text
    assert "The claim is refuted" in text
    assert "refutes the claim" in text


def test_a_bound_on_records_is_held_against_what_follows_for_records() -> None:
    assert findings(bounds=(Bound("records", 4.9, 0.99, ""),)).verdict == "held"
    found = findings(bounds=(Bound("records", 5.1, 0.99, ""),))
    assert found.verdict == "refuted"
    assert verdict(found).endswith("at least 5.1, and 5 was claimed.")


def test_a_job_without_a_claim_is_called_not_private() -> None:
    found = findings(claim=no_claim(1e-5), bounds=(Bound("noise", math.inf, 1.0, "none"),))
    text = Page(render_audit_html(found)).text
    assert found.verdict == "none"
    assert "Not private" in text
    assert "no limit" in text


def test_pictures_are_drawn_from_the_numbers_themselves() -> None:
    one = render_audit_html(findings())
    other = render_audit_html(findings(pictures=(picture(np.zeros((1, 8, 8), np.float32)),)))
    assert one.count("data:image/png") == 6
    assert other.count("data:image/png") == 3


def test_a_terminal_shows_bounds_and_what_was_not_tried() -> None:
    from rich.console import Console

    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(audit_table(findings()))
    text = captured.get()
    assert "not refuted" in text
    assert "60 of 80 guesses right" in text
    assert "something: <b>not</b> possible" in text


def test_plain_findings_have_no_infinity() -> None:
    plain = findings(bounds=(Bound("noise", math.inf, 1.0, "none"),)).as_dict()
    assert plain["bounds"][0]["epsilon"] is None
    assert plain["bounds"][0]["refutes"] is True
    assert plain["inversion"][0]["before"]["psnr"] is None
    assert "points" not in plain["membership"]
