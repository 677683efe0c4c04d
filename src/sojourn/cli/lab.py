"""`sojourn lab`: a small internet in network namespaces, for the demo, for experiments and for the tests."""

import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from sojourn.cli import output
from sojourn.cli.options import json_option
from sojourn.errors import NotSupported
from sojourn.lab import demo as drawing
from sojourn.lab import roam, tables, timeline
from sojourn.lab.copied import copied
from sojourn.lab.links import AccessNetwork
from sojourn.lab.report import Result
from sojourn.lab.runner import Run
from sojourn.lab.scenarios import LASTING, Scenario
from sojourn.lab.scenarios import SCENARIOS as PLAIN
from sojourn.lab.topology import CELLULAR, ETHERNET, WIFI, Lab, Topology, own_prefix, remove_remains

DEFAULT_PREFIX = "sojourn"
SCENARIOS = {**PLAIN, "copied": copied}


def prefix_option(function: Any) -> Any:  # noqa: ANN401 - a decorator
    """Add `--prefix`."""
    text = "Names of the namespaces begin with this, so that several labs can stand side by side."
    return click.option("--prefix", default=DEFAULT_PREFIX, show_default=True, metavar="WORD", help=text)(function)


@click.group()
def lab() -> None:
    """Build a small internet in network namespaces, and run experiments in it (needs root)."""


@lab.command("up")
@prefix_option
@click.option("--networks", type=click.IntRange(1, 3), default=2, show_default=True, help="Access networks.")
@click.option("--ipv6", is_flag=True, help="IPv6 everywhere, too.")
@click.option("--relayed", is_flag=True, help="Make delay and jitter possible on the access links.")
@json_option
def up_command(prefix: str, networks: int, ipv6: bool, relayed: bool, as_json: bool) -> None:
    """Build the lab and leave it standing; repeated, it changes nothing."""

    def made(network: AccessNetwork) -> AccessNetwork:
        return msgspec.structs.replace(network, ipv6=ipv6, relayed=relayed)

    access = tuple(made(network) for network in (WIFI, CELLULAR, ETHERNET)[:networks])
    built = Lab(Topology(prefix=prefix, access=access, ipv6=ipv6))
    built.up()
    names = [built.namespace(role) for role in built.roles]
    if as_json:
        output.emit_json({"version": 1, "namespaces": names, "folder": str(built.folder)})
        return
    output.line(f"The lab stands: {', '.join(names)}")
    output.line(f"Enter it:  ip netns exec {built.namespace('mh')} ping {built.topology.correspondent.address}")
    output.line(f"Remove it: sojourn lab down --prefix {prefix}")


@lab.command("down")
@prefix_option
def down_command(prefix: str) -> None:
    """Remove the lab with everything in it, also after a crash; and what crashed runs have left."""
    Lab(Topology(prefix=prefix)).down()
    remove_remains(prefix)


@lab.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the scenarios."""
    scenarios = [make() for make in SCENARIOS.values()]
    found = [(it.name, it.purpose, it.seconds) for it in scenarios] + [("roam", roam.PURPOSE, roam.SECONDS)]
    if as_json:
        output.emit_json([{"name": name, "purpose": purpose, "seconds": seconds} for name, purpose, seconds in found])
    else:
        rows = [[name, f"{seconds:g}", purpose] for name, purpose, seconds in found]
        output.table(("SCENARIO", ">SECONDS", "PURPOSE"), rows)


@lab.command("run")
@click.argument("name", metavar="SCENARIO", type=click.Choice([*SCENARIOS, "roam"]))
@prefix_option
@click.option("--bare", is_flag=True, help="Without Sojourn: what the same events do to ordinary flows.")
@click.option("--seconds", type=click.FloatRange(1, 3600), help="Essential time of a scenario that has one.")
@json_option
def run_command(name: str, prefix: str, bare: bool, seconds: float | None, as_json: bool) -> int:
    """Run a scenario; exit with 1 if a flow broke or a figure was missed."""
    if seconds is not None and name not in LASTING:
        raise click.UsageError(f"--seconds is for {', '.join(LASTING)}; {name} has times of its own.")
    if name == "roam":
        if bare:
            raise click.UsageError("roam is about two hosts with Sojourn: without it neither can be reached.")
        return _roam(prefix, as_json)
    scenario = SCENARIOS[name]() if seconds is None else LASTING[name](seconds)
    result = _execute(scenario, prefix, bare)
    if as_json:
        output.emit_json(result)
    else:
        _print(result, expectations=True)
    return 0 if result.met else 1


@lab.command("demo")
@prefix_option
@click.option("--bare", is_flag=True, help="Without Sojourn, to see the difference.")
@click.option("--picture", default="sojourn-demo", show_default=True, metavar="PATH", help="Writes PATH.svg, PATH.png.")
@json_option
def demo_command(prefix: str, bare: bool, picture: str, as_json: bool) -> int:
    """Move SSH, a download and a voice call through everything that happens, then by rules; then two laptops at once.

    Exits with 1 if a flow broke.
    """
    result = _execute(SCENARIOS["demo"](), prefix, bare)
    files = _write_picture(result, Path(picture))
    if not as_json:
        _print(result, expectations=False)
        output.line(f"Picture: {', '.join(str(path) for path in files)}")
        output.line()
    second = _execute(SCENARIOS["applications"](), prefix, bare)
    if not as_json:
        _print(second, expectations=False)
    third = None if bare else roam.run(own_prefix(prefix), _step)
    if as_json:
        output.emit_json({**msgspec.to_builtins(result), "applications": second, "roam": third})
    elif third is not None:
        output.line()
        _print_roam(third)
    return 1 if result.broken or second.broken or (third is not None and third.broken) else 0


def _roam(prefix: str, as_json: bool) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    result = roam.run(own_prefix(prefix), _step)
    if as_json:
        output.emit_json(result)
    else:
        _print_roam(result)
    return 0 if result.met else 1


def _step(text: str) -> None:
    print(f"roam: {text}", file=sys.stderr)


def _print_roam(result: roam.RoamResult) -> None:
    rows = [
        [f"{each.at:.1f} s", each.text, f"{each.gap_ms:.0f} ms", "" if each.met else "too long"]
        for each in result.events
    ]
    output.table((">AT", "TWO LAPTOPS, ONE SSH SESSION", ">LONGEST GAP", "REMARK"), rows)
    output.line()
    nodes = {host: f" by node {node.partition(' ')[0]}" for host, node in result.nodes.items()}
    ended = ", ".join(f"{host} on {network}{nodes.get(host, '')}" for host, network in result.networks.items())
    output.line(f"{result.lines} lines came back; {result.broken or 'the session held'}; {ended}.")


def _execute(scenario: Scenario, prefix: str, bare: bool) -> Result:
    # Each run has a lab of its own: `lab up`'s and those of other runs stay as they are.
    remove_remains(prefix)
    signal.signal(signal.SIGTERM, _interrupt)
    observer = timeline.observer(f"{scenario.name}{' without Sojourn' if bare else ''}", scenario.seconds)
    with observer if isinstance(observer, timeline.LiveObserver) else contextlib.nullcontext():
        return Run(scenario, own_prefix(prefix), observer, sojourn=not bare).run()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt  # so that the lab is removed on the way out


def _print(result: Result, *, expectations: bool) -> None:
    output.line()
    output.table(*tables.events(result))
    output.line()
    output.table(*tables.streams(result))
    if result.places:
        output.line()
        output.table(*tables.places(result))
        output.line()
        output.table(*tables.used(result))
    if expectations:
        output.line()
        output.table(*tables.checks(result))
    output.line()
    output.line(tables.verdict(result))


def _write_picture(result: Result, path: Path) -> list[Path]:
    sheet = drawing.draw(result)
    vector, bitmap = path.with_suffix(".svg"), path.with_suffix(".png")
    vector.write_text(sheet.svg())
    try:
        bitmap.write_bytes(sheet.png())
    except NotSupported as error:
        print(f"sojourn: {error}", file=sys.stderr)
        return [vector]
    return [vector, bitmap]
