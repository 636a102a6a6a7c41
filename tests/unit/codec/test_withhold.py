"""What is not protected stays where it is."""

import numpy as np
import pytest

from tacit.codec import Withhold
from tacit.core.errors import PlanError
from tacit.core.spec import UpdateSpec
from tacit.core.stage import StageContext

SPEC = UpdateSpec.of(parameters=3, metrics=2)


def context(*, is_bounded: bool) -> StageContext:
    return StageContext(SPEC, 0, 1, ("a", "b"), np.ones(2), is_bounded=is_bounded)


@pytest.mark.parametrize("is_bounded", [True, False])
def test_the_last_segment_is_not_sent(is_bounded: bool) -> None:
    sent = np.arange(10, dtype=np.float32).reshape(2, 5)
    found, _ = Withhold().encode(sent.copy(), {}, context(is_bounded=is_bounded))
    assert np.array_equal(found, sent[:, :3])
    assert Withhold().plan(SPEC) == UpdateSpec.of(parameters=3)


def test_a_metric_that_is_no_number_makes_the_whole_update_nothing() -> None:
    sent = np.ones((2, 5), np.float32)
    sent[0, 4] = np.nan
    found, _ = Withhold().encode(sent, {}, context(is_bounded=False))
    assert found.tolist() == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("spec", [UpdateSpec.of(metrics=1, parameters=3), UpdateSpec.of(parameters=3)])
def test_only_the_last_segment_can_be_withheld(spec: UpdateSpec) -> None:
    with pytest.raises(PlanError) as caught:
        Withhold().plan(spec)
    assert caught.value.code == "T153"
