"""What an audit has found, in words and tables."""

import math
from collections.abc import Iterator

from tacit.privacy.audit import RARE, Bound
from tacit.report import words
from tacit.report.audit_findings import Findings
from tacit.report.tables import Table, Tile

UNLIMITED = "no limit"
_METHODS = {
    "one_run": "Guesses about canaries",
    "one_run_gaussian": "Guesses, Gaussian noise",
    "many_runs": "One canary, many runs",
    "many_runs_gaussian": "Many runs, Gaussian noise",
    "noise": "Noise that canaries see",
    "repeated_noise": "The same noise twice",
    "records": "Guesses about records",
}
OUTCOMES = {"held": "Not refuted", "refuted": "Refuted", "none": "Nothing claimed"}


def epsilon(value: float) -> str:
    """Return an epsilon as a reader wants it.

    >>> epsilon(2.0471), epsilon(math.inf)
    ('2.047', 'no limit')
    """
    return words.number(value) if math.isfinite(value) else UNLIMITED


def method(bound: Bound) -> str:
    """Return what a bound is called."""
    return _METHODS[bound.method]


def verdict(findings: Findings) -> str:
    """Return one line that says what came out."""
    claim, highest = findings.claim, findings.highest
    if not claim.is_private:
        return "The job makes no promise of privacy: this is what an attacker gains."
    if findings.refuting:
        worst = max(findings.refuting, key=lambda bound: bound.epsilon)
        limit = claim.record_epsilon if worst.method == "records" else claim.epsilon
        found = f"epsilon is at least {epsilon(worst.epsilon)}"
        return f"The claim is wrong: {found}, and {epsilon(limit)} was claimed."
    if highest is None:
        return f"Nothing was found against the claimed epsilon of {epsilon(claim.epsilon)}."
    return (
        f"Nothing was found against the claimed epsilon of {epsilon(claim.epsilon)}; "
        f"it is at least {epsilon(highest.epsilon)}."
    )


def tiles(findings: Findings) -> list[Tile]:
    """Return the key figures."""
    return [*_claimed(findings), *_seen(findings), *_attacks(findings)]


def _claimed(findings: Findings) -> Iterator[Tile]:
    claim = findings.claim
    if claim.is_private:
        unit = f"per {claim.unit}, delta {claim.delta:g}"
        yield Tile("Epsilon claimed", epsilon(claim.epsilon), f"{unit}, {_rounds(findings)}")
    else:
        yield Tile("Epsilon claimed", "none", "not private")


def _seen(findings: Findings) -> Iterator[Tile]:
    highest = findings.highest
    if highest is not None:
        sure = f"{100 * findings.confidence:g} % sure"
        yield Tile("Epsilon at least", epsilon(highest.epsilon), f"{method(highest).lower()}, {sure}")
    if findings.scores is not None and findings.scores.is_noiseless:
        yield Tile("Noise seen", "none", "every canary is seen as it is")


def _attacks(findings: Findings) -> Iterator[Tile]:
    if findings.membership is not None:
        found = words.number(findings.membership.auc, 3)
        yield Tile("Records recognised", found, "area under the curve; 0.5 is a guess")
    if findings.pictures:
        before = _mean([picture.likeness_before.correlation for picture in findings.pictures])
        after = _mean([picture.likeness_after.correlation for picture in findings.pictures])
        yield Tile(
            "Example in an update", f"{before:.2f} → {after:.2f}", "likeness before and after; 1 is a copy"
        )


def bounds(findings: Findings) -> Table | None:
    """Return all lower bounds; None if there are none."""
    if not findings.bounds:
        return None
    rows = tuple(
        (
            method(bound),
            "Gaussian noise" if bound.is_gaussian else "nothing",
            bound.detail,
            epsilon(bound.epsilon),
        )
        for bound in findings.bounds
    )
    note = (
        f"The bounds from canaries hold together with probability {findings.confidence:g} or more, and so "
        "does the one from records. What assumes nothing holds for every mechanism, and is weak for that "
        "reason; what assumes Gaussian noise takes sampling and composition as the job states them, and asks "
        "how much noise there is."
    )
    head = ("Found by", "Assumes", "From", "Epsilon at least")
    return Table("Lower bounds on epsilon", head, rows, frozenset({3}), note)


def membership(findings: Findings) -> Table | None:
    """Return how well records are recognised; None if that was not tried."""
    roc = findings.membership
    if roc is None:
        return None
    rare = zip(RARE, roc.found, strict=True)
    rows = (
        ("Area under the curve", words.number(roc.auc)),
        ("Largest difference of true and false positives", words.number(roc.advantage)),
        *((f"Found at {100 * rate:g} % false alarms", f"{100 * found:.3g} %") for rate, found in rare),
        ("Records trained on", words.count(roc.members)),
        ("Records left out", words.count(roc.others)),
    )
    return Table("Which records was the model trained on?", ("", ""), rows, frozenset({1}))


def inversion(findings: Findings) -> Table | None:
    """Return how close inverted updates come; None if none was inverted."""
    if not findings.pictures:
        return None
    rows = tuple(
        (
            str(number + 1),
            *(
                cell
                for one in (picture.likeness_before, picture.likeness_after)
                for cell in (words.number(one.correlation, 2), _decibels(one.psnr))
            ),
        )
        for number, picture in enumerate(findings.pictures)
    )
    head = ("Example", "Likeness before", "PSNR before", "Likeness after", "PSNR after")
    how = {"linear": "read off the first linear layer", "gradient": "found by optimisation"}
    note = (
        f"Inputs were {how[findings.pictures[0].method]}. Likeness is the correlation with the original; "
        "above 30 dB a picture looks the same."
    )
    return Table("Inputs recovered from single updates", head, rows, frozenset(range(5)), note)


def facts(findings: Findings) -> list[tuple[str, str]]:
    """Return how the audit was done."""
    others = "train as in the job" if findings.trained else "send zeros: a promise holds whatever they send"
    played = [
        ("Rounds audited", f"{_rounds(findings)}, {words.amount(findings.runs, 'time')}"),
        ("Canaries in each", words.count(findings.canaries)),
        ("Clients that are no canaries", others),
    ]
    return [
        ("The job says", words.clean(findings.privacy)),
        *(played if findings.runs else []),
        ("Time", words.duration(findings.seconds)),
        *(("Not tried", words.clean(reason)) for reason in findings.left_out),
    ]


def _rounds(findings: Findings) -> str:
    return words.amount(findings.rounds, "round")


def _decibels(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else "exact"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
