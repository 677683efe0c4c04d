"""Writes the figures in bench-out/ into docs/performance.md, and their pictures into docs/img.

    python -m bench._page

Between `<!-- figures: NAME -->` and `<!-- end -->` stands what the runs of bench/NAME.py gave; all else of the page is
written by hand. A block whose program has left nothing in bench-out/ stays as it is: each says when it was measured.
The same JSON gives the same bytes.
"""

import datetime
import json
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

from bench._figure import Figure, Json
from bench._figures import PEERS, TABLES
from bench._pictures import panels_of
from bench._plot import Curves, Panel, draw

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "performance.md"
PICTURES: Final = ROOT / "docs" / "img"
BLOCK: Final = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD: Final = (
    "| figure | to reach | in each run | | ours, and beside it in the same runs |\n| --- | --- | --- | --- | --- |"
)


def number(value: float | None) -> str:
    """Return three digits that count; a flow that never went on is broken."""
    if value is None:
        return "–"
    if value == float("inf"):
        return "broken"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def judged(figure: Figure, found: Json) -> float | None:
    """Return what the target speaks of: ours, or what it is of its peer's, or beyond it."""
    ours, name = figure.ours(found), figure.by or figure.beyond
    if ours is None or name is None:
        return ours
    theirs = figure.beside[name](found)
    if theirs is None or (figure.by and not theirs):
        return None
    return ours / theirs if figure.by else ours - theirs


def met(figure: Figure, value: float) -> bool:
    """Say whether a value reaches the target; there must be one."""
    return value >= figure.least if figure.least is not None else value <= (figure.most or 0.0)


def verdict(figure: Figure, founds: Sequence[Json]) -> str:
    """Return "met", "missed", "met in 2 of 3"; or why there is nothing to judge; or nothing where none is asked."""
    values = [value for found in founds if (value := judged(figure, found)) is not None]
    if not values:
        alone = any(figure.ours(found) is not None for found in founds)
        return "peer missing" if alone and (figure.by or figure.beyond) in PEERS else "not measured"
    if figure.least is None and figure.most is None:
        return ""
    good = sum(met(figure, value) for value in values)
    return {len(values): "met", 0: "**missed**"}.get(good, f"met in {good} of {len(values)}")


def target(figure: Figure) -> str:
    """Return the target in words."""
    unit = f" {figure.unit}" if figure.unit and not figure.by else ""
    if figure.least is not None:
        return f"≥ {number(figure.least)}{unit}"
    if figure.most is None:
        return ""
    return f"≤ {number(figure.most)}{unit}" if figure.most else "0"


def beside(figure: Figure, founds: Sequence[Json]) -> str:
    """Return our values, where the row has a ratio, and those of all that was measured beside them."""
    told = []
    ours = [figure.ours(found) for found in founds]
    if (figure.by or figure.beyond) and any(value is not None for value in ours):
        told.append(" ".join(filter(None, (_each(ours), figure.unit))))
    for name, get in figure.beside.items():
        values = [get(found) for found in founds]
        if any(value is not None for value in values):
            told.append(f"{PEERS.get(name, name)} {_each(values)}")
        elif name in PEERS:
            told.append(f"{PEERS[name]}: peer missing")
    return "; ".join(told)


def _each(values: Any) -> str:  # noqa: ANN401 - of floats and None
    return ", ".join(number(value) for value in values)


def table(figures: Sequence[Figure], founds: Sequence[Json]) -> str:
    """Return the rows, in Markdown."""
    rows = [HEAD]
    for figure in figures:
        said = verdict(figure, founds)
        values = (
            "" if said in ("peer missing", "not measured") else f"**{_each(judged(figure, one) for one in founds)}**"
        )
        unit = f" {figure.unit}" if values and figure.unit and not figure.by else ""
        cells = (figure.what, target(figure), f"{values}{unit}", said, beside(figure, founds))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def dated(records: Sequence[Json], names: Set[str]) -> str:
    """Return when it was measured, how often, on what, and the versions of the peers in `names`."""
    days = sorted({datetime.datetime.fromisoformat(record["began"]).date() for record in records})
    when = " and ".join(f"{day.day} {day:%B %Y}" for day in days)
    loads = _range([record["machine"]["load"] for record in records])
    stolen = _range([record["stolen_percent"] for record in records])
    count = f"{len(records)} runs" if len(records) > 1 else "one run"
    machine = records[-1]["machine"]
    flags = f" ({', '.join(machine['flags'])})" if machine["flags"] else ""
    versions = (f", {PEERS.get(name, name)} {said}" for name, said in machine["peers"].items() if name in names)
    return (
        f"{count}, {when}, load before them {loads}, {stolen} % of busy time taken by the hypervisor. "
        f"{machine['processors']} x {machine['processor'].replace('(R)', '')}{flags}, {machine['system']}, "
        f"Linux {machine['kernel']}, Python {machine['python']}, OpenSSL {machine['openssl']}{''.join(versions)}."
    )


def _range(values: Sequence[float]) -> str:
    return number(values[0]) if min(values) == max(values) else f"{number(min(values))} to {number(max(values))}"


def block(name: str, records: Sequence[Json], picture: str | None) -> str:
    """Return what stands between the markers of one program."""
    founds = [record["result"] for record in records]
    figures = TABLES.get(name, [])
    parts = [f"`bench/{name}.py`: " + dated(records, {peer for figure in figures for peer in figure.beside})]
    if figures:
        parts.append(table(figures, founds))
    if picture:
        parts.append(f"![{picture}](img/bench-{name}.svg)")
    return "\n\n".join(parts) + "\n"


def told(panels: Sequence[Panel]) -> str | None:
    """Return what the picture shows, for those who do not see it; None without one."""
    if not panels:
        return None
    legend = "" if isinstance(panels[0], Curves) else ". Bars: medians; dots: runs; dashed: the target"
    return "; ".join(panel.title for panel in panels) + legend


def written(page: str, blocks: Mapping[str, str]) -> str:
    """Return the page with these blocks; the others stay."""
    return BLOCK.sub(lambda found: found[1] + blocks[found[2]] + found[3] if found[2] in blocks else found[0], page)


def kept(folder: Path) -> dict[str, list[Json]]:
    """Return the records of all programs, in the order of their runs."""
    found: dict[str, list[Json]] = {}
    places = [place for place in folder.glob("*-*.json") if place.stem.rpartition("-")[2].isdecimal()]
    for place in sorted(places, key=lambda place: int(place.stem.rpartition("-")[2])):
        found.setdefault(place.stem.rpartition("-")[0], []).append(json.loads(place.read_text()))
    return found


def write(folder: Path = Path("bench-out"), page: Path = PAGE, pictures: Path = PICTURES) -> None:
    """Bring page and pictures up to date with the folder."""
    text, blocks = page.read_text(), {}
    wanted = {found[2] for found in BLOCK.finditer(text)}
    for name, records in sorted(kept(folder).items()):
        if name not in wanted:
            continue
        panels = panels_of(name, [record["result"] for record in records])
        if panels:
            draw(panels, pictures / f"bench-{name}.svg")
        blocks[name] = block(name, records, told(panels))
    page.write_text(written(text, blocks))


if __name__ == "__main__":
    write()
