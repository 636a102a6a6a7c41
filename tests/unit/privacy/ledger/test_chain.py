"""A chain tells what was done to it."""

import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.errors import StoreError
from tacit.privacy.ledger import (
    Abandoned,
    Book,
    Budget,
    Finding,
    Line,
    Mark,
    Released,
    append,
    examine,
    genesis,
    verify,
)
from tests.unit.privacy.ledger.chains import DATE, LOUD, POPULATION, Chain, spend

BUDGET = Budget(epsilon=3.0, delta=1e-6)


def chain() -> Chain:
    facts = (BUDGET, spend(0), Released(reservation=2), spend(1, event=LOUD), Abandoned(reservation=4))
    return Chain(*facts)


def kinds(lines: list[Line], *known: Mark, population: str = POPULATION) -> list[tuple[str, int]]:
    return [(one.kind, one.sequence) for one in verify(population, lines, known)]


def rehashed(line: Line, change: dict[str, object]) -> Line:
    """A line as a careful forger would write it: changed, and with the right digest."""
    text = msgspec.json.encode({**json.loads(line.text), **change}, order="sorted").decode()
    return Line(text=text, sha256=hashlib.sha256(text.encode()).hexdigest())


def test_a_chain_that_nobody_touched_is_whole() -> None:
    whole = chain()
    assert verify(POPULATION, whole.lines, [whole.book.mark, *whole.book.head.trail]) == ()
    assert verify(POPULATION, []) == ()


def test_an_entry_is_read_as_it_was_written() -> None:
    whole = chain()
    marks = [genesis(POPULATION), *(Chain(lines=tuple(whole.lines[:n])).book.mark for n in range(1, 6))]
    entries = [examine(line, after, POPULATION) for line, after in zip(whole.lines, marks, strict=False)]
    assert [getattr(entry, "fact", None) for entry in entries] == [
        BUDGET,
        spend(0),
        Released(reservation=2),
        spend(1, event=LOUD),
        Abandoned(reservation=4),
    ]
    assert [getattr(entry, "date", None) for entry in entries] == [DATE] * 5


@given(
    place=st.integers(0, 4), at=st.integers(0, 400), sign=st.characters(codec="ascii"), in_text=st.booleans()
)
def test_every_changed_sign_is_found(place: int, at: int, sign: str, in_text: bool) -> None:
    lines = chain().lines
    line = lines[place]
    before = line.text if in_text else line.sha256
    at %= len(before)
    after = before[:at] + sign + before[at + 1 :]
    lines[place] = Line(text=after, sha256=line.sha256) if in_text else Line(text=line.text, sha256=after)
    findings = verify(POPULATION, lines)
    assert bool(findings) == (after != before)
    assert all(one.sequence in (place + 1, place + 2) for one in findings)


@given(place=st.integers(0, 4), keep=st.integers(0, 200))
def test_a_torn_entry_is_found(place: int, keep: int) -> None:
    lines = chain().lines
    short = lines[place].text[: min(keep, len(lines[place].text) - 1)]
    lines[place] = Line(text=short, sha256=lines[place].sha256)
    assert kinds(lines) == [("torn", place + 1)]


def test_a_forger_who_writes_one_entry_anew_is_found_by_the_next() -> None:
    lines = chain().lines
    lines[0] = rehashed(lines[0], {"fact": {"kind": "budget", "epsilon": 99.0, "delta": 1e-6}})
    assert kinds(lines) == [("edited", 2)]


def test_a_forger_who_writes_the_end_anew_is_found_by_a_mark() -> None:
    whole = chain()
    forged = whole.until(3)
    forged.write(spend(1, inputs=99))
    forged.write(Abandoned(reservation=4))
    assert kinds(forged.lines) == []
    assert kinds(forged.lines, whole.book.mark) == [("forked", 5)]


@pytest.mark.parametrize("place", range(4))
def test_a_removed_entry_is_found(place: int) -> None:
    lines = chain().lines
    del lines[place]
    assert kinds(lines) == [("missing", place + 1)]


@pytest.mark.parametrize("place", range(4))
def test_two_entries_in_the_wrong_order_are_found(place: int) -> None:
    lines = chain().lines
    lines[place], lines[place + 1] = lines[place + 1], lines[place]
    assert kinds(lines) == [("missing", place + 1)]


def test_an_entry_that_comes_twice_is_found() -> None:
    lines = chain().lines
    assert kinds([*lines, lines[-1]]) == [("edited", 6)]


def test_a_chain_of_another_population_is_found() -> None:
    assert kinds(chain().lines, population="ward-8") == [("edited", 1)]
    renamed = [rehashed(line, {"population": "ward-8"}) for line in chain().lines[:1]]
    assert kinds(renamed, population="ward-8") == [("edited", 1)]


def test_a_cut_tail_is_found_by_a_mark_and_by_nothing_else() -> None:
    whole = chain()
    backup = whole.until(3)
    assert kinds(backup.lines) == []
    assert kinds(backup.lines, whole.book.mark, backup.book.mark) == [("truncated", 5)]
    assert kinds([], whole.book.mark) == [("truncated", 5)]


def test_a_backup_that_was_put_back_and_written_to_is_found() -> None:
    whole = chain()
    backup = whole.until(3)
    for step in range(4):
        backup.write(spend(step, inputs=50))
    assert kinds(backup.lines, whole.book.mark) == [("forked", 5)]


@pytest.mark.parametrize("fact", [Released(reservation=4), Released(reservation=9), Abandoned(reservation=1)])
def test_an_entry_about_a_reservation_that_does_not_count_is_found(fact: Released | Abandoned) -> None:
    whole = chain()
    assert kinds([*whole.lines, whole.book.next(fact, DATE)]) == [("edited", 6)]


def test_a_broken_chain_is_refused_where_it_is_read() -> None:
    lines = chain().lines
    del lines[2]
    with pytest.raises(StoreError) as caught:
        Book.of(POPULATION, lines)
    assert caught.value.code == "T421"
    assert POPULATION in caught.value.where
    assert caught.value.fix


@pytest.mark.parametrize("name", ["", "x" * 257])
def test_what_could_not_be_read_again_is_not_written(name: str) -> None:
    with pytest.raises(StoreError) as caught:
        append(genesis(name), name, BUDGET, DATE)
    assert caught.value.code == "T429"


def test_the_same_facts_have_the_same_text_whenever_they_are_written() -> None:
    line = append(genesis("p"), "p", spend(3), DATE)
    assert line.text == msgspec.json.encode(json.loads(line.text), order="sorted").decode()
    # A known answer: a later version must find the digests that this one has written.
    assert line.sha256 == "376226ea63c04c46a1c0ac3ec8279c623d171b38fd34d4000a52df967ce56c5e"


def test_finding_words_name_what_to_put_back() -> None:
    torn = Finding(kind="torn", sequence=1, what="entry 1 cannot be read").as_error("p")
    lost = Finding(kind="truncated", sequence=1, what="the ledger ends").as_error("p")
    assert "-wal" in torn.fix
    assert "newest copy" in lost.fix
