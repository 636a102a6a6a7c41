"""Every error tacit raises on purpose, and the exit code it ends a command with.

    TacitError                      exit 1
    |-- ConfigError      T1xx       exit 2   a setting is wrong; nothing was started
    |   `-- PlanError    T15x                settings that do not go together
    |-- DataError        T2xx       exit 3   data is missing, damaged or does not fit
    |-- RunError         T3xx       exit 4   the run itself failed
    |-- StoreError       T4xx       exit 5   a folder or file cannot be read or written
    `-- ProtocolError    T5xx       exit 6
        |-- LocalProtocolError               we asked for something illegal
        `-- RemoteProtocolError              the peer did; never takes the server down

An error says what was wrong, where, and what to do about it, in that order. Numbers are never
reused; ``docs/errors.md`` explains each.
"""

from typing import ClassVar


class TacitError(Exception):
    """Base of all errors raised on purpose.

    Args:
        code: The error's number, for example ``"T101"``; stable between releases.
        what: What was wrong, one sentence without a full stop at the end.
        where: The place: a path into the settings, a file, a client.
        fix: What to do about it.

    >>> print(ConfigError("T103", "Expected `int`, got `str`", where="$.rounds", fix="Write a number."))
    T103: Expected `int`, got `str`
      at:  $.rounds
      fix: Write a number.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(code, what, where, fix)
        self.code, self.what, self.where, self.fix = code, what, where, fix

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.what}"]
        if self.where:
            lines.append(f"  at:  {self.where}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.code, self.what, self.where, self.fix)

    def as_dict(self) -> dict[str, str | int]:
        """Return the error as the JSON object that ``--json`` prints."""
        return {
            "code": self.code,
            "kind": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "fix": self.fix,
            "exit_code": self.exit_code,
        }


def _rebuild(kind: type[TacitError], code: str, what: str, where: str, fix: str) -> TacitError:
    return kind(code, what, where=where, fix=fix)


class ConfigError(TacitError, ValueError):
    """A setting is unknown, of the wrong type, or impossible."""

    exit_code = 2


class PlanError(ConfigError):
    """Settings that are each right do not go together."""


class DataError(TacitError):
    """Data is missing, damaged, or does not fit the task."""

    exit_code = 3


class RunError(TacitError):
    """A run could not reach its end."""

    exit_code = 4


class StoreError(TacitError):
    """A folder or file cannot be read, written or locked."""

    exit_code = 5


class ProtocolError(TacitError):
    """A message or an event that the protocol does not allow here."""

    exit_code = 6


class LocalProtocolError(ProtocolError):
    """Our own side asked a machine for something illegal: a bug or a misuse."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something illegal; it is refused and the round goes on."""
