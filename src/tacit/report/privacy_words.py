"""A guarantee as a reader wants it: what is promised, to whom, by what means, and what is not."""

import math
from collections.abc import Iterator, Sequence

from tacit.core.errors import PlanError
from tacit.core.privacy import Trust
from tacit.privacy import Guarantee
from tacit.privacy.guarantee import rounded_up
from tacit.privacy.ledger import Charge, Head, spent
from tacit.report import words
from tacit.report.disclosure import Disclosure, claims, is_seeded
from tacit.report.run_data import RunData
from tacit.store import RunInfo

Row = tuple[str, str]
"""A name and what is said of it, on one line or several."""

NO_GUARANTEE = "no guarantee"
SEEDED = (
    "The noise was drawn from the job's seed, so whoever knows the seed can take it away: nobody is "
    "protected. The figures below are those of the same job with noise from the operating system."
)
_TRUSTED: dict[Trust, str] = {
    "central": "the server is trusted: it sees every client's update, and adds the noise",
    "local": "nobody is trusted: every client adds the noise to what it sends",
    "distributed": "the server is trusted with the sum alone: the clients together add the noise",
}
_AGAIN = 1e-3  # epsilons are rounded up by less than this


def guarantee_rows(guarantee: Guarantee) -> Iterator[Row]:
    """Yield what is promised, without its epsilon."""
    yield "protects", f"each {guarantee.unit}: {guarantee.relation} ({guarantee.adjacency})"
    yield "trust", trusted(guarantee)
    yield "sampling", guarantee.sampling
    if guarantee.zcdp is not None:
        yield "zCDP", f"rho {_up(guarantee.zcdp)}"
    if guarantee.mu_gdp is not None:
        yield "Gaussian DP", f"mu {_up(guarantee.mu_gdp)}"
    yield "covered", "\n".join(guarantee.covered)
    yield "not covered", "\n".join(guarantee.not_covered)


def trusted(guarantee: Guarantee) -> str:
    """Say who is trusted with what."""
    if guarantee.unit == "record":
        return "each site is trusted with its own records, and adds the noise"
    if guarantee.trust == "central" and guarantee.least_sum and guarantee.unit == "user":
        return (
            f"the server is trusted with sums of at least {guarantee.least_sum} clients, and adds the noise"
        )
    return _TRUSTED[guarantee.trust]


def at(epsilon: float, delta: float) -> str:
    """Say an epsilon with its delta; an epsilon alone says nothing.

    >>> at(1.9991, 1e-5), at(math.inf, 1e-5)
    ('epsilon 2.000 at delta 1e-05', 'no guarantee')
    """
    return f"epsilon {rounded_up(epsilon)} at delta {delta:g}" if math.isfinite(epsilon) else NO_GUARANTEE


def _up(value: float) -> str:
    """Write a number with four digits, never less than it is."""
    exponent = math.floor(math.log10(value)) - 3 if value > 0 else 0
    return f"{math.ceil(round(value / 10.0**exponent, 6)) * 10.0**exponent:.4g}"


# --- of a run -----------------------------------------------------------------------------------


def banner(info: RunInfo) -> Row | None:
    """Return heading and text of what a run promises; None where it promises nothing."""
    if not claims(info):
        return None
    claim = words.clean(info.privacy).removeprefix("seeded, not private: ")
    relation = (
        "" if info.guarantee is None else f" The two worlds that look alike: {info.guarantee.relation}."
    )
    said = f"{words.title(claim)}.{relation}"
    return ("Seeded, not private", f"{SEEDED} {said}") if is_seeded(info) else ("Privacy", said)


def promise(data: RunData) -> tuple[Row, ...]:
    """Return what a run has promised and spent, name and text; empty where it promises nothing."""
    info, guarantee = data.info, data.info.guarantee
    if guarantee is None:
        return ()
    source = {"system": "the operating system", "seeded": "the job's seed, which protects nobody"}
    noise = f"{guarantee.mechanism.replace('_', ' ')}, noise multiplier {guarantee.noise_multiplier:.4g}"
    rows = [
        ("spent", f"{at(guarantee.epsilon, guarantee.delta)}, after {words.amount(guarantee.steps, 'step')}"),
        ("noise", f"{noise}; from {source[guarantee.randomness]}"),
        *_clipping(data),
        *guarantee_rows(guarantee),
        *_charged(info, guarantee),
        *_left_out(data.shows),
    ]
    return tuple((name if name == "zCDP" else words.title(name), _clean(text)) for name, text in rows)


def _clean(text: str) -> str:
    return "\n".join(words.clean(line, 1000) for line in text.splitlines())


def _clipping(data: RunData) -> Iterator[Row]:
    bounds = [spend.clipping_bound for spend in data.spends if spend.clipping_bound is not None]
    if bounds:
        moved = f"from {words.number(bounds[0])} to {words.number(bounds[-1])}"
        yield "clipping bound", words.number(bounds[0]) if len(set(bounds)) == 1 else moved


def _left_out(shows: Disclosure) -> Iterator[Row]:
    left_out = []
    if not shows.participation:
        left_out.append("who took part, and how many did, as the account relies on nobody knowing it")
    if not shows.client_data:
        left_out.append(
            "what was measured on clients' own data, their sizes and their labels, as no noise protects it"
        )
    if not shows.names:
        left_out.append("clients' names")
    if left_out:
        yield "left out of this report", "\n".join(left_out)


# --- of the ledger ------------------------------------------------------------------------------


def _charged(info: RunInfo, guarantee: Guarantee) -> Iterator[Row]:
    """Yield what the ledger has charged: to the job, and to its population with all jobs together."""
    head = info.ledger
    if guarantee.unit == "record":
        where = "each site in a ledger of its own (`tacit ledger show RUN`)"
        yield "charged", f"{where}; the figures above are those of the site that has spent most"
    if head is None or not head.charged:
        return
    own = [charge for charge in head.charged if charge.job == info.name]
    charged = _epsilon(own, guarantee.delta)
    again = (
        ". That is more than the steps above: a round was repeated with new noise, or an entry was lost and "
        "counts as spent. What was charged is what holds"
        if charged > guarantee.epsilon + _AGAIN
        else ""
    )
    yield "charged to the job", _told(own, charged, guarantee.delta) + again
    everybody = _told(head.charged, _epsilon(head.charged, guarantee.delta), guarantee.delta)
    yield "charged to the population", f"{head.population}, by all jobs together: {everybody}{_limit(head)}"
    yield "ledger", f"entry {head.mark.sequence}, {head.mark.sha256}"


def _told(charges: Sequence[Charge], epsilon: float, delta: float) -> str:
    times = words.amount(sum(charge.count for charge in charges), "charge")
    return f"{times}, {at(epsilon, delta)} ({spent(charges).adjacency})"


def _limit(head: Head) -> str:
    budget = head.budget
    return "; no budget is set" if budget is None else f"; the budget is {at(budget.epsilon, budget.delta)}"


def _epsilon(charges: Sequence[Charge], delta: float) -> float:
    """Return the epsilon of charges; infinity where nothing is known of them together."""
    from tacit.privacy.accounting import epsilon  # late: it imports SciPy

    try:
        return spent(charges).epsilon(epsilon, delta)
    except PlanError:
        return math.inf
