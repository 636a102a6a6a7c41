"""Bounded numbers for settings; the bound is part of the type, checked from Python and from a file."""

from typing import Annotated

from msgspec import Meta

Count = Annotated[int, Meta(ge=1, le=2**53)]
"""A whole number of at least one."""
Natural = Annotated[int, Meta(ge=0, le=2**53)]
"""A whole number of at least zero."""
Positive = Annotated[float, Meta(gt=0, le=1e18)]
"""A finite number above zero."""
NonNegative = Annotated[float, Meta(ge=0, le=1e18)]
"""A finite number of at least zero."""
Probability = Annotated[float, Meta(ge=0, le=1)]
"""A number from zero to one, both included."""
Share = Annotated[float, Meta(gt=0, le=1)]
"""A number above zero and at most one."""
OpenShare = Annotated[float, Meta(ge=0, lt=1)]
"""A number of at least zero and below one."""
