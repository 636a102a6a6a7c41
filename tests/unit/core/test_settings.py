"""Settings from plain data and back: what is refused, where, and with which words."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.core.cohort import All, Cohort, FixedSize, Poisson
from tacit.core.errors import ConfigError
from tacit.core.events import ComposedEvent, GaussianEvent, PrivacyEvent, RepeatedEvent
from tacit.core.local import LocalSGD
from tacit.core.part import Part, Settings, decode, encode, nearest, parts, registry
from tacit.core.stage import Stage


@runtime_checkable
class Greeting(Protocol):
    punctuation: ClassVar[str]

    def greet(self) -> str: ...


class Hello(Part, frozen=True, tag="test_hello"):
    punctuation: ClassVar[str] = "!"
    name: str = "you"

    def greet(self) -> str:
        return f"hello {self.name}{self.punctuation}"


class Mute(Part, frozen=True, tag="test_mute"):
    """Has no `greet`: no greeting."""


class Leaf(Settings, frozen=True):
    width: int = 1
    height: float = 1.0


class Branch(Settings, frozen=True):
    leaves: tuple[Leaf, ...] = ()
    cohort: Cohort | None = None
    greetings: tuple[Greeting, ...] = ()
    notes: Mapping[str, Any] = {}
    home: Path | None = None


class Tree(Settings, frozen=True):
    branch: Branch = Branch()


def refusal(data: object, kind: type = Tree) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        decode(kind, data)
    return caught.value


def test_an_unknown_setting_is_named_with_the_nearest_one_that_exists() -> None:
    error = refusal({"branch": {"leafs": []}})
    assert (error.code, error.where) == ("T101", "$.branch")
    assert error.what == "Unknown setting `leafs`; did you mean `leaves`?"
    assert "cohort, greetings, home, leaves, notes" in error.fix


def test_a_path_leads_through_lists_and_blocks_to_the_wrong_value() -> None:
    assert refusal({"branch": {"leaves": [{}, {"width": "wide"}]}}).where == "$.branch.leaves[1].width"
    assert refusal({"branch": {"leaves": [{}, {"widht": 1}]}}).where == "$.branch.leaves[1]"


def test_a_path_leads_into_a_part_behind_a_protocol() -> None:
    error = refusal({"branch": {"cohort": {"type": "fixed_size", "count": 0}}})
    assert (error.code, error.where) == ("T103", "$.branch.cohort.count")
    error = refusal({"branch": {"greetings": [{"type": "test_hello"}, {"type": "test_hello", "nam": "x"}]}})
    assert (error.code, error.where) == ("T101", "$.branch.greetings[1]")
    assert "did you mean `name`?" in error.what


def names(fix: str) -> set[str]:
    """Return the parts that a fix lists; other tests may have registered some of their own."""
    return set(fix.removeprefix("One of: ").removesuffix(".").split(", "))


def test_an_unknown_kind_of_part_is_named_with_the_nearest_and_all_that_fit() -> None:
    error = refusal({"branch": {"cohort": {"type": "fixed_sise", "count": 3}}})
    assert (error.code, error.where) == ("T102", "$.branch.cohort")
    assert "did you mean `fixed_size`?" in error.what
    assert names(error.fix) >= {"all", "fixed_size", "poisson"}


def test_a_part_of_another_kind_is_refused() -> None:
    assert refusal({"branch": {"cohort": {"type": "test_hello"}}}).code == "T102"
    assert refusal({"branch": {"greetings": [{"type": "test_mute"}]}}).code == "T102"


@pytest.mark.parametrize("tag", [None, ["all"], 3, {"all": 1}])
def test_a_tag_that_is_no_word_is_refused_where_it_stands(tag: object) -> None:
    error = refusal({"branch": {"cohort": {"type": tag}}})
    assert (error.code, error.where) in {("T102", "$.branch.cohort"), ("T103", "$.branch.cohort")}
    assert names(error.fix) >= {"all", "fixed_size", "poisson"}


def test_a_strange_tag_beside_an_unknown_setting_does_not_hide_the_complaint() -> None:
    error = refusal({"branch": {"notes": {"type": ["x"]}, "greetings": [{"type": ["x"], "nam": 1}]}})
    assert error.where == "$.branch.greetings[0]"


def test_a_missing_tag_says_what_could_stand_there() -> None:
    error = refusal({"branch": {"cohort": {"count": 3}}})
    assert (error.code, error.what) == ("T103", "Object missing required field `type`")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e19, "0.1", True, None]
)
def test_a_rate_must_be_a_finite_number_above_zero(value: object) -> None:
    with pytest.raises(ConfigError, match=r"LocalSGD\.lr"):
        LocalSGD(lr=value)  # type: ignore[arg-type]
    assert refusal({"type": "local_sgd", "lr": value}, LocalSGD).where == "$.lr"


def test_a_number_too_large_for_a_float_is_refused() -> None:
    assert refusal({"type": "local_sgd", "lr": 10**400}, LocalSGD).where == "$.lr"


@pytest.mark.parametrize("value", [0, -1, 2**53 + 1, 3.5, True, "3", float("nan")])
def test_a_count_must_be_a_whole_number_of_at_least_one(value: object) -> None:
    with pytest.raises(ConfigError, match=r"FixedSize\.count"):
        FixedSize(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, -0.1, 1.0000001, float("nan"), float("inf")])
def test_a_share_lies_above_zero_and_at_most_at_one(value: float) -> None:
    with pytest.raises(ConfigError, match=r"Poisson\.rate"):
        Poisson(rate=value)


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan"), float("inf")])
def test_momentum_lies_below_one(value: float) -> None:
    with pytest.raises(ConfigError, match=r"LocalSGD\.momentum"):
        LocalSGD(lr=0.1, momentum=value)


def test_bounds_themselves_are_allowed_where_they_are_closed() -> None:
    assert Poisson(rate=1).rate == 1.0
    assert FixedSize(2**53).count == 2**53
    assert LocalSGD(lr=1e18, momentum=0.0).lr == 1e18


def test_a_value_built_in_python_equals_the_one_read_from_a_file() -> None:
    built = Branch(leaves=[Leaf(height=2)], cohort=FixedSize(3), home=Path("x"))  # type: ignore[arg-type]
    read = decode(
        Branch, {"leaves": [{"height": 2}], "cohort": {"type": "fixed_size", "count": 3}, "home": "x"}
    )
    assert built == read
    assert isinstance(built.leaves, tuple)
    assert isinstance(built.leaves[0].height, float)


@given(
    widths=st.lists(st.integers(-(2**62), 2**62), max_size=4),
    heights=st.floats(allow_nan=False, allow_infinity=False),
    cohort=st.one_of(
        st.none(),
        st.just(All()),
        st.builds(FixedSize, st.integers(1, 2**53), over_selection=st.floats(1, 100)),
    ),
)
def test_what_decodes_encodes_and_decodes_to_the_same(
    widths: list[int], heights: float, cohort: Cohort | None
) -> None:
    tree = Tree(branch=Branch(leaves=tuple(Leaf(width=w, height=heights) for w in widths), cohort=cohort))
    assert decode(Tree, encode(tree)) == tree


def test_nothing_is_left_out_of_an_encoding_but_what_is_none() -> None:
    assert encode(Branch(cohort=All())) == {
        "leaves": [],
        "cohort": {"type": "all"},
        "greetings": [],
        "notes": {},
    }


def test_numbers_of_numpy_are_written_as_numbers() -> None:
    assert encode(Branch(notes={"width": np.int64(3), "rate": np.float32(0.5)}))["notes"] == {
        "width": 3,
        "rate": 0.5,
    }


def test_nested_unions_of_parts_survive() -> None:
    event = ComposedEvent(
        events=(
            RepeatedEvent(event=GaussianEvent(noise_multiplier=2.0), count=3),
            GaussianEvent(noise_multiplier=1),
        )
    )
    assert decode(PrivacyEvent, encode(event)) == event  # type: ignore[arg-type]


def test_a_part_of_another_package_counts_as_soon_as_its_class_exists() -> None:
    assert registry()["test_hello"] is Hello
    assert set(parts(Greeting)) >= {"test_hello"}
    assert "test_mute" not in parts(Greeting)
    decoded = decode(Tree, {"branch": {"greetings": [{"type": "test_hello", "name": "ann"}]}})
    assert decoded.branch.greetings[0].greet() == "hello ann!"


def test_parts_of_a_kind_are_those_that_satisfy_its_protocol() -> None:
    assert set(parts(Cohort)) >= {"all", "fixed_size", "poisson"}
    assert "fixed_size" not in parts(Stage)


def test_two_parts_with_one_tag_are_refused_with_both_names() -> None:
    script = """
from tacit.core.part import Part, registry
import tacit.core.cohort
class Mine(Part, frozen=True, tag="poisson"): pass
try:
    registry()
except TypeError as error:
    print(error)
"""
    said = _python(script)
    assert "'poisson'" in said
    assert "tacit.core.cohort.Poisson" in said
    assert "Mine" in said


def test_parts_of_an_installed_package_are_found_by_their_entry_point(tmp_path: Path) -> None:
    tmp_path.joinpath("nearby_parts.py").write_text(
        "from tacit.core.cohort import Indices\n"
        "from tacit.core.part import Part\n"
        "import numpy as np\n"
        "class First(Part, frozen=True, tag='first_client'):\n"
        "    def sample(self, population, rng): return np.zeros(1, dtype=np.int64)\n"
        "    def wanted(self, invited): return invited\n"
        "    def largest(self, population): return 1\n"
        "    def expected(self, population): return 1.0\n"
    )
    info = tmp_path / "nearby-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: nearby\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text("[tacit.parts]\nnearby = nearby_parts\n")
    script = """
from tacit.core.cohort import Cohort
from tacit.core.part import Settings, decode
class Holder(Settings, frozen=True):
    cohort: Cohort
print(decode(Holder, {"cohort": {"type": "first_client"}}))
try:
    decode(Holder, {"cohort": {"type": "first_clint"}})
except Exception as error:
    print(error)
"""
    said = _python(script, tmp_path)
    assert "Holder(cohort=First())" in said
    assert "did you mean `first_client`?" in said


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [("epoch", ["epochs", "lr"], "; did you mean `epochs`?"), ("zzz", ["epochs"], ""), ("x", [], "")],
)
def test_only_a_close_word_is_suggested(word: str, known: list[str], said: str) -> None:
    assert nearest(word, known) == said


def _python(script: str, *path: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout
