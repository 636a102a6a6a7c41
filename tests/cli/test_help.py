import pytest

COMMANDS = [
    "new",
    "plan",
    "run",
    "sweep",
    "audit",
    "evaluate",
    "export",
    "report",
    "compare",
    "doctor",
    "ledger",
]


def test_the_main_help_lists_commands_and_exit_codes(tacit) -> None:
    for ended in (tacit(), tacit("--help"), tacit("-h")):
        assert ended.code == 0
        assert all(command in ended.out for command in COMMANDS)
        assert "Exit codes" in ended.out
        assert "130" in ended.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples_and_json(tacit, command: str) -> None:
    ended = tacit(command, "--help")
    assert ended.code == 0
    assert "Examples" in ended.out
    assert f"tacit {command} " in ended.out
    assert "--json" in ended.out


def test_the_version_is_shown(tacit) -> None:
    assert tacit("--version").out.startswith("tacit 0.")
