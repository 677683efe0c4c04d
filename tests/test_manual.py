"""Man pages and completions: made of the command line, without a complaint of any checker, complete."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from scripts import manual

from sojourn.cli.main import COMMANDS, sojourn

PAGES = manual.pages()


def test_every_command_and_every_command_below_it_has_a_page() -> None:
    assert {f"sojourn-{name}.1" for name in COMMANDS} <= PAGES.keys()
    assert {"sojourn.1", "sojourn-anchor-token.1", "sojourn-policy-explain.1", "sojourn-lab-demo.1"} <= PAGES.keys()


def test_every_option_of_every_command_is_on_its_page() -> None:
    for words, command in manual.commands(sojourn, ("sojourn",)):
        text = PAGES[f"{'-'.join(words)}.1"].replace("\\-", "-")
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(name in text for name in parameter.opts), (words, parameter.opts)


@pytest.mark.parametrize("text", [".starts as a request", "back\\slash", "'quoted", "-dash", "a `code`", "e^x ~y"])
def test_text_comes_out_of_roff_as_it_went_in(text: str) -> None:
    page = f'.TH X 1 "2026-01-01" "x" "y"\n.SH NAME\nx \\- y\n.SH DESCRIPTION\n{manual.escaped(text)}\n'
    assert text in rendered(page)


def test_no_checker_complains_of_any_page(tmp_path: Path) -> None:
    for name, text in PAGES.items():
        (tmp_path / name).write_text(text)
    files = sorted(map(str, tmp_path.iterdir()))
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-Tlint", "-W", "warning", *files], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_groff_sets_every_page_without_a_warning(tmp_path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    for name, text in PAGES.items():
        (tmp_path / name).write_text(text)
    argv = ["groff", "-mandoc", "-Tutf8", "-Kutf8", "-ww", "-z", *sorted(map(str, tmp_path.iterdir()))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["sojourn.1", "sojourn-anchor.1"])
def test_man_shows_a_page_with_all_its_sections(name: str) -> None:
    shown = rendered(PAGES[name])
    for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"):
        assert re.search(rf"^{heading}$", shown, re.MULTILINE), heading


def rendered(text: str) -> str:
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("man-db or groff is not installed")
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANPAGER": "cat", "MAN_KEEP_FORMATTING": ""}
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-"], input=text, capture_output=True, text=True, check=False,
        env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_reads_its_completion(shell: str, tmp_path: Path) -> None:
    text = manual.completions()[f"sojourn.{shell}"]
    assert manual.VARIABLE in text
    (tmp_path / "script").write_text(text)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "at", "wanted"),
    [("sojourn hando", 1, "handover"), ("sojourn anchor to", 2, "token"), ("sojourn monitor --o", 2, "--once")],
)
def test_what_is_completed_comes_from_the_program(words: str, at: int, wanted: str) -> None:
    environment = {**os.environ, manual.VARIABLE: "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
    argv = [sys.executable, "-c", "import sys; sys.argv[0] = 'sojourn'; from sojourn.cli.main import main; main()"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    assert f"plain,{wanted}" in done.stdout.splitlines()
