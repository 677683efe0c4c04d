"""The command as a whole: help, exit codes, one line an error."""

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sojourn import __version__
from sojourn.cli.main import COMMANDS
from tests.harness.control_socket import answers, serving, sojourn


def test_help_names_every_command_and_imports_none() -> None:
    ran = sojourn("--help")
    assert ran.code == 0
    assert all(f"\n  {name} " in ran.out for name in COMMANDS)
    script = (
        "import sys; sys.argv = ['sojourn', '--help']\n"
        "from sojourn.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.startswith(('sojourn.cli.', 'rich', 'cryptography'))))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "['sojourn.cli.failure', 'sojourn.cli.main']"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_the_list_is_there_and_has_help(name: str) -> None:
    module, text = COMMANDS[name]
    command = getattr(importlib.import_module(module), name)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert text.endswith(".")
    assert sojourn(name, "--help").code == 0


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["status", "--nonsense"], ["handover"], ["init"], ["--nonsense"], ["join"], ["anchor", "token"]],
)
def test_a_usage_error_is_one_line_that_names_the_help_and_exits_with_2(arguments: list[str]) -> None:
    ran = sojourn(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("sojourn: ")
    assert ran.err.count("\n") == 1
    assert "--help" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["networks"], ["flows"], ["apps"], ["log"], ["up"], ["down"], ["handover", "--all", "--to", "x"]],
)
def test_no_daemon_is_exit_code_3_and_says_how_to_start_it(arguments: list[str], tmp_path: Path) -> None:
    ran = sojourn(*arguments, "--socket", str(tmp_path / "none.sock"))
    assert (ran.code, ran.out) == (3, "")
    assert "no daemon answers" in ran.err
    assert "sojourn host" in ran.err


def test_a_terminal_obeys_nothing_that_an_error_quotes(tmp_path: Path) -> None:
    ran = sojourn("status", "--socket", f"{tmp_path}/\x1b[2J\x9b31mnone")
    assert "?[2J?31mnone" in ran.err
    assert ran.err.removesuffix("\n").isprintable()


@pytest.mark.parametrize("command", ["doctor", "bugreport"])
def test_a_file_that_cannot_be_looked_at_is_one_line(command: str) -> None:
    ran = sojourn(command, "--config-dir", f"/{'x' * 300}")
    assert ran.code == 1
    assert "file name too long" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["version"], ["metrics"], ["bugreport", "--show", "versions.json"]])
def test_a_full_disk_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    path = str(tmp_path / "one.sock")
    verbs = answers({"metrics": {"text": "sojourn_flows 7\n"}})
    with serving(path, {"role": "host"}, verbs), Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "sojourn", "--socket", path, *arguments], stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert ran.returncode == 1
    assert ran.stderr == "sojourn: the output cannot be written: no space left on device.\n"


def test_the_socket_may_stand_before_the_command_and_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert str(tmp_path / "one") in sojourn("--socket", str(tmp_path / "one"), "status").err
    monkeypatch.setenv("SOJOURN_SOCKET", str(tmp_path / "two"))
    assert str(tmp_path / "two") in sojourn("status").err
    assert str(tmp_path / "three") in sojourn("status", "--socket", str(tmp_path / "three")).err


def test_a_missing_part_is_one_line_and_harms_no_other_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "lab", ("sojourn.cli.not_there", "x."))
    ran = sojourn("lab")
    assert ran.code == 1
    assert "`sojourn lab` cannot run" in ran.err
    assert sojourn("--help").code == 0


def test_both_ways_to_ask_for_the_version_agree() -> None:
    assert sojourn("--version").out == f"sojourn, version {__version__}\n"
    assert __version__ in sojourn("version").out


def test_a_reader_that_hangs_up_is_no_error() -> None:
    command = f"{sys.executable} -m sojourn --help | head -c 1; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("0\n")
    assert ran.stderr == ""
