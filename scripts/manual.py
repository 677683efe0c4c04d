"""Writes the man pages and the shell completions, made of the command line itself: they cannot say anything else.

    python -m scripts.manual --man DIRECTORY           sojourn.1, sojourn-COMMAND.1, ...
    python -m scripts.manual --completions DIRECTORY   sojourn.bash, sojourn.zsh, sojourn.fish

What the help of a command does not say (files, examples, what to read next) stands in docs/man/sections.toml.
"""

import argparse
import os
import re
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from sojourn import __version__
from sojourn.cli.main import sojourn

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = tomllib.loads((ROOT / "docs" / "man" / "sections.toml").read_text())
COMPLETIONS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
VARIABLE = "_SOJOURN_COMPLETE"


def date() -> str:
    """Return the day that the pages carry: the source's, so that the same commit makes the same bytes."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return time.strftime("%Y-%m-%d", time.gmtime(float(epoch) if epoch else time.time()))  # noqa: TID251 - a date


def escaped(text: str) -> str:
    """Return text as roff shows it (groff_char(7)): no request, and hyphens that can be copied."""
    text = text.replace("\\", "\\(rs").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti")
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in text.splitlines())


def commands(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and all below it, with the words that lead there."""
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from commands(below, (*words, name))


def paragraphs(text: str) -> Iterator[str]:
    """Yield roff of a help text; a block that begins with a backspace (click) keeps its lines."""
    for block in re.split(r"\n\s*\n", text.strip()):
        verbatim = block.lstrip().startswith("\b")
        lines = [line.strip() for line in block.replace("\b", "").strip().splitlines()]
        yield ".PP"
        yield from ([".nf", *map(escaped, lines), ".fi"] if verbatim else [escaped(" ".join(lines))])


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the option list, as the help has it."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield from (".TP", f"\\fB{escaped(record[0])}\\fR", escaped(record[1]) or "\\ ")


def page(words: tuple[str, ...], command: click.Command) -> str:
    """Return one page."""
    name, context = "-".join(words), click.Context(command, info_name=" ".join(words))
    brief = escaped(command.get_short_help_str(limit=200).rstrip("."))
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH "{escaped(name.upper())}" 1 "{date()}" "sojourn {escaped(__version__)}" "Sojourn"',
        ".SH NAME", f"{escaped(name)} \\- {brief[:1].lower() + brief[1:]}",
        ".SH SYNOPSIS", f"\\fB{escaped(' '.join(words))}\\fR {escaped(usage)}",
        ".SH DESCRIPTION", *list(paragraphs(command.help or ""))[1:],
        ".SH OPTIONS", *options(command, context),
    ]  # fmt: skip
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                lines += [".TP", f"\\fB{escaped(name)}\\-{escaped(below)}\\fR(1)"]
                lines.append(escaped(found.get_short_help_str(limit=200)))
    for heading, text in {**SECTIONS.get(" ".join(words), {}), **SECTIONS["every page"]}.items():
        lines += [f".SH {escaped(heading)}", *_section(str(text))]
    return "\n".join(lines) + "\n"


def _section(text: str) -> Iterator[str]:
    """Yield roff of a section of sections.toml: "term: text" on lines of their own, four spaces for what is typed."""
    for number, block in enumerate(re.split(r"\n\s*\n", text.strip("\n"))):
        lines = block.splitlines()
        if lines[0].startswith("    "):
            yield from ([".PP"] if number else [])
            yield from (".nf", ".RS 4", *(escaped(line.strip()) for line in lines), ".RE", ".fi")
        elif all(re.match(r"\S.*?:  ", line) for line in lines):
            for line in lines:
                term, _, meaning = line.partition(":  ")
                yield from (".TP", f"\\fB{escaped(term)}\\fR", escaped(meaning.strip()))
        else:
            yield from (*([".PP"] if number else []), escaped(" ".join(line.strip() for line in lines)))


def pages() -> dict[str, str]:
    """Return all man pages by file name."""
    unknown = SECTIONS.keys() - {" ".join(words) for words, _ in commands(sojourn, ("sojourn",))} - {"every page"}
    if unknown:
        raise SystemExit(f"docs/man/sections.toml speaks of commands that there are not: {', '.join(sorted(unknown))}")
    return {f"{'-'.join(words)}.1": page(words, command) for words, command in commands(sojourn, ("sojourn",))}


def completions() -> dict[str, str]:
    """Return the completion scripts by file name; what they complete, they ask the program itself."""
    return {
        f"sojourn.{shell}": kind(sojourn, {}, "sojourn", VARIABLE).source() + "\n"
        for shell, kind in COMPLETIONS.items()
    }


def main() -> int:
    """Write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--man", type=Path, metavar="DIRECTORY")
    parser.add_argument("--completions", type=Path, metavar="DIRECTORY")
    asked = parser.parse_args()
    for folder, made in ((asked.man, pages), (asked.completions, completions)):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in made().items():
                (folder / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
