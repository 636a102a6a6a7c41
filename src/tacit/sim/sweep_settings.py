"""A job with some of its settings changed or removed, by the keys and values of ``--set``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tacit.core.errors import ConfigError
from tacit.core.part import Settings, encode
from tacit.data import Split
from tacit.job import SCHEMA_VERSION, Job, PopulationLike
from tacit.job.override import override


@dataclass(frozen=True)
class Variant:
    """A job and its population, as they are or with changes.

    Attributes:
        job: The job.
        population: Who its clients are.
    """

    job: Job
    population: PopulationLike

    def changed(self, key: str, text: str) -> "Variant":
        """Return it with one setting changed.

        Args:
            key: As ``--set`` takes it.
            text: The value as ``--set`` takes it.

        Raises:
            ConfigError: No such setting, a value of the wrong type or size, or a block that is not there.
        """
        block, _, below = key.partition(".")
        if block != "population":
            _refuse_absent_block(self.job, key)
            return replace(self, job=override(self.job, key, text))
        if not isinstance(self.population, Split):
            what = "changing `population...` needs a population written as a split"
            raise ConfigError("T119", what, where=f"{key}={text}", fix="Give a source's .split(...).")
        return replace(self, population=override(self.population, below, text, root="$.population"))

    def without(self, key: str) -> tuple["Variant", str]:
        """Return it with a setting removed, and what is none now: the setting, or a block around it.

        The setting itself becomes None if it may be, else the nearest block around it that may be left out.
        Whether it may is for the checks of the settings to say: none is no ``privacy.epsilon`` while nothing
        else says how much noise is added, so the block ``privacy`` goes.

        Raises:
            ConfigError: No such setting, or neither it nor a block around it may be left out.
        """
        steps = key.split(".")
        for length in range(len(steps), 0, -1):
            path = ".".join(steps[:length])
            if path == "population":
                break
            try:
                return self.changed(path, "none"), path
            except ConfigError as error:
                if error.code in ("T101", "T119", "T139"):
                    raise
        raise ConfigError(
            "T139",
            f"`{key}` cannot be none: neither it nor a block around it may be left out",
            where=key,
            fix="Leave `none` out, or write '\"none\"' if the word is meant.",
        )

    def resolved(self) -> dict[str, Any]:
        """Return all settings as plain data, as the ``job.toml`` of a run has them."""
        tree: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **encode(self.job)}
        if isinstance(self.population, Split):
            tree["population"] = encode(self.population)
        return tree


def text_of(value: Any) -> str:
    """Return a value as ``--set`` takes it; ``none`` for None.

    >>> text_of(0.5), text_of("mse"), text_of(None), text_of({"type": "all"})
    ('0.5', '"mse"', 'none', '{type = "all"}')
    """
    return "none" if value is None else _toml(encode(value))


def _toml(plain: Any) -> str:
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, Mapping):
        return "{" + ", ".join(f"{_name(name)} = {_toml(below)}" for name, below in plain.items()) + "}"
    if isinstance(plain, list | tuple):
        return "[" + ", ".join(map(_toml, plain)) + "]"
    if plain is None:
        raise ConfigError(
            "T135", "a list in a value holds none", where="over", fix="Leave it out of the list."
        )
    return _quoted(plain) if isinstance(plain, str) else repr(plain)  # Python writes numbers as TOML does


def _name(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else _quoted(name)


def _quoted(text: str) -> str:
    # A JSON string is a TOML string, but for one sign that JSON may leave as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _refuse_absent_block(settings: Settings, key: str) -> None:
    """Refuse a key that leads through a block which the job leaves out: there is nothing to start from."""
    value: Any = settings
    steps = key.split(".")
    for length, step in enumerate(steps[:-1], start=1):
        if not isinstance(value, Settings) or not hasattr(value, step):
            return  # whatever is wrong with it, `override` says so
        value = getattr(value, step)
        if value is None:
            block = ".".join(steps[:length])
            fix = f"Write the block in the job file, or give all of it: --set '{block}={{...}}'."
            raise ConfigError("T139", f"the job has no block `{block}`", where=key, fix=fix)
