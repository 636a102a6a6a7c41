"""Laws that every part of a kind obeys, for tacit's own parts and for those of other packages.

Needs the extra ``testing`` (Hypothesis). In a test suite::

    from tacit.testing import check, samples

    @pytest.mark.parametrize("part", [MyStage(strength=2.0)], ids=repr)
    def test_my_stage_obeys_the_laws(part):
        check(part)
"""

from tacit.testing.laws import check, laws_of
from tacit.testing.samples import samples

__all__ = ["check", "laws_of", "samples"]
