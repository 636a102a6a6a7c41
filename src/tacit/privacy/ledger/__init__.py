"""The rules of the privacy ledger: what it states, how it is chained, and what is refused."""

from tacit.privacy.ledger.allowance import Allowance, BudgetExceeded, allow
from tacit.privacy.ledger.audit import gap, verify
from tacit.privacy.ledger.book import Book
from tacit.privacy.ledger.chain import Entry, Finding, Line, append, examine, genesis
from tacit.privacy.ledger.facts import (
    Abandoned,
    Budget,
    Charge,
    Fact,
    Gap,
    Head,
    Mark,
    Released,
    Reserved,
)
from tacit.privacy.ledger.spent import Accountant, Total, affordable, is_sampled, spent, within

__all__ = [
    "Abandoned",
    "Accountant",
    "Allowance",
    "Book",
    "Budget",
    "BudgetExceeded",
    "Charge",
    "Entry",
    "Fact",
    "Finding",
    "Gap",
    "Head",
    "Line",
    "Mark",
    "Released",
    "Reserved",
    "Total",
    "affordable",
    "allow",
    "append",
    "examine",
    "gap",
    "genesis",
    "is_sampled",
    "spent",
    "verify",
    "within",
]
