"""Every exported part obeys the laws of its kind."""

import pytest

from tacit.core.part import Part, registry
from tacit.testing import laws_of, samples

_CASES = [(part, name) for part in samples() for name in laws_of(part)]


@pytest.mark.parametrize(("part", "law"), _CASES, ids=[f"{part!r}-{name}" for part, name in _CASES])
def test_the_part_obeys_the_law(part: Part, law: str) -> None:
    laws_of(part)[law](part)


def test_every_exported_part_has_its_row_in_the_law_tests() -> None:
    ours = {kind for kind in registry().values() if kind.__module__.startswith("tacit.")}
    assert ours == {type(part) for part in samples()}
