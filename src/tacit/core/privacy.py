"""Words of the privacy of a run, shared by settings, plans, ledgers and devices."""

from typing import Literal

Unit = Literal["user", "record"]
"""Whose participation is hidden: all that one user contributes, or one record inside one site."""
Trust = Literal["central", "local", "distributed"]
"""Who adds the noise: the server to the sum, every client to what it sends, or all clients together."""
Adjacency = Literal["add_remove", "zero_out", "replace_one"]
"""Which two worlds must look alike: with and without a unit, its contribution taken as zero, or another's."""
Randomness = Literal["system", "seeded"]
"""Where noise comes from: the operating system, or a seed, which is reproducible and protects nobody."""
