"""`sojourn bugreport`: one archive with all that whoever mends a fault wants to know, and no secret.

What is in it can be looked at first: `--list`, and `--show NAME` for one part as it would go in.
"""

import datetime
import io
import os
import tarfile
from pathlib import Path
from typing import Final

import click

from sojourn.cli import output
from sojourn.cli.bugreport_parts import Part, parts, running
from sojourn.cli.options import config_option, json_option, named_socket, socket_option
from sojourn.errors import ConfigError
from sojourn.store.config_dir import ConfigDir
from sojourn.store.scrub import Scrubber, secrets_of

README: Final = """\
A report of `sojourn bugreport`. Secrets were taken out: tokens, keys, passwords, association secrets.
{masked}
Read it before you give it away: it says which programs talk to whom, and by which networks.
"""
_MASKED: Final = "Addresses and the anchor's name were replaced by numbered words."
_PLAIN: Final = "It holds addresses (--mask-addresses replaces them by numbered words)."


@click.command()
@click.option("--list", "only_list", is_flag=True, help="Say what would be in it, and write nothing.")
@click.option("--show", metavar="NAME", help="Print one part as it would go in, and write nothing.")
@click.option("--mask-addresses", is_flag=True, help="Put numbered words in place of addresses and anchor names.")
@click.option("-o", "--output", "path", metavar="FILE", help="Where to; default: a new file here.")
@config_option
@socket_option
@json_option
def bugreport(
    only_list: bool, show: str | None, mask_addresses: bool, path: str | None, config_dir: str, socket: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Gather versions, features, status, networks, log, policies, configuration, rules and routes in one archive.

    Secrets are taken out. Only you can read the file (0600).
    """
    directory = ConfigDir(config_dir)
    found = list(parts(directory, running(named_socket(socket))))
    scrubber = Scrubber(secrets_of(directory), mask=mask_addresses, names=_names(directory))
    if only_list:
        _list(found, scrubber, as_json)
    elif show is not None:
        chosen = [part for part in found if part.name == show]
        if not chosen:
            raise click.BadParameter(f"There is no part {show!r}; --list names them.", param_hint="--show")
        for line in scrubber.clean(chosen[0].text()).splitlines():
            output.line(line.expandtabs())
    else:
        where = Path(path or f"sojourn-bugreport-{datetime.datetime.now():%Y%m%d-%H%M%S}.tar.gz").absolute()
        texts = {part.name: scrubber.clean(part.text()) for part in found}
        texts["README.txt"] = README.format(masked=_MASKED if mask_addresses else _PLAIN)
        write(where, texts)
        if as_json:
            output.emit_json({"version": 1, "path": str(where), "parts": sorted(texts)})
        else:
            output.line(f"{len(texts)} parts, {output.size(where.stat().st_size)}: {where}")


def write(where: Path, texts: dict[str, str]) -> None:
    """Write the archive, which nobody else may read. Raises ConfigError; an existing file is left alone."""
    folder = where.name.removesuffix(".tar.gz")
    try:
        descriptor = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in sorted(texts.items()):
                data = text.encode(errors="replace")
                member = tarfile.TarInfo(f"{folder}/{name}")
                member.size, member.mode = len(data), 0o600
                archive.addfile(member, io.BytesIO(data))
    except OSError as error:
        raise ConfigError(str(where), f"cannot be written: {error.strerror}", "Name another file by -o.") from error


def _list(found: list[Part], scrubber: Scrubber, as_json: bool) -> None:
    rows = [(part.name, len(scrubber.clean(part.text())), part.what) for part in found]
    if as_json:
        output.emit_json([{"name": name, "bytes": count, "what": what} for name, count, what in rows])
    else:
        output.table(("PART", ">SIZE", "WHAT"), [[name, output.size(count), what] for name, count, what in rows])


def _names(directory: ConfigDir) -> set[str]:
    """Return the anchor's name or address as the configurations have it: masking hides names, too."""
    found = set()
    for read, key in ((directory.host, "anchor"), (directory.anchor, "address")):
        try:
            found.add(str(getattr(read(), key)))
        except ConfigError:
            continue
    return {name for name in found if not name.replace(".", "").isdigit() and ":" not in name}
