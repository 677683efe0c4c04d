"""Draws the pictures of docs/performance.md: bars and curves, SVG, the same bytes for the same figures.

matplotlib draws (the extra `bench`); text stays text, on white, so that it reads on a light page and on a dark one.
"""

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

OURS, OTHERS, MISSED = "#1f6fb2", "#9aa5b1", "#c2502e"
COLOURS: Final = (OURS, MISSED, "#5b8c3e", "#7b5ea7")
STYLE: Final = {
    "svg.fonttype": "none", "svg.hashsalt": "sojourn", "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "sans-serif"], "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#8a8f98",
    "axes.axisbelow": True, "grid.color": "#e3e5e8", "figure.facecolor": "white",
}  # fmt: skip
TITLE: Final = 46
"""Letters in one line of a title."""
BEHIND: Final = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
METADATA: Final = {"Date": None, "Creator": None}
WIDTH: Final = 9.6
BAR, ROOM, CURVES = 0.24, 0.85, 3.0
"""Inches: the width of a picture; the height of a bar, of what a panel needs beside its bars, and of one of curves."""


class Bars(Struct, frozen=True):
    """One bar for each way, as long as its median; a dot for each run; `target` is a line."""

    title: str
    values: Mapping[str, Sequence[float]]
    target: float | None = None
    target_text: str = ""


class Curves(Struct, frozen=True):
    """Values by a number that grows by tens."""

    title: str
    across: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]


Panel = Bars | Curves


def draw(panels: Sequence[Panel], place: Path) -> None:
    """Write one picture, two panels side by side where there are more than one."""
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit("matplotlib, which draws the pictures, is not installed: `make bench` does it") from error
    matplotlib.use("svg")
    from matplotlib import pyplot

    columns = min(len(panels), 2)
    rows = [panels[first : first + columns] for first in range(0, len(panels), columns)]
    heights = [max(map(_height, row)) for row in rows]
    place.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            len(rows), columns, squeeze=False, layout="constrained", figsize=(WIDTH, sum(heights)),
            height_ratios=heights,
        )  # fmt: skip
        for axis, panel in zip(axes.flat, panels, strict=False):
            if isinstance(panel, Bars):
                _bars(axis, panel)
            else:
                _curves(axis, panel)
        for axis in axes.flat[len(panels) :]:
            axis.remove()
        figure.savefig(place, format="svg", metadata=METADATA)
        pyplot.close(figure)


def _height(panel: Panel) -> float:
    return ROOM + BAR * len(panel.values) if isinstance(panel, Bars) else CURVES


def _bars(axis: Any, panel: Bars) -> None:  # noqa: ANN401 - matplotlib's
    names = list(panel.values)[::-1]
    middle = [statistics.median(panel.values[name]) for name in names]
    axis.barh(names, middle, height=0.62, color=[OURS if name.startswith("sojourn") else OTHERS for name in names])
    for row, name in enumerate(names):
        values = panel.values[name]
        if len(values) > 1:
            axis.plot(values, [row] * len(values), "o", color="#30343a", markersize=2.5)
        axis.annotate(f"{middle[row]:.3g}" if middle[row] < 1000 else f"{middle[row]:,.0f}", (max(values), row),
                      (5, 0), textcoords="offset points", va="center", color="#30343a", bbox=BEHIND)  # fmt: skip
    if panel.target is not None:
        axis.axvline(panel.target, color=MISSED, linestyle="--", linewidth=1.2)
        axis.annotate(panel.target_text, (panel.target, 1.0), (0, 2), xycoords=("data", "axes fraction"),
                      textcoords="offset points", ha="center", va="bottom", color=MISSED)  # fmt: skip
    most = max([*(max(values) for values in panel.values.values()), panel.target or 0.0])
    axis.set_xlim(0, most * 1.2 if most else 1.0)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.locator_params(axis="x", nbins=5)
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.set_title(textwrap.fill(panel.title, TITLE), pad=16 if panel.target is not None else 6)


def _curves(axis: Any, panel: Curves) -> None:  # noqa: ANN401 - matplotlib's
    for colour, (name, values) in zip(COLOURS, panel.lines.items(), strict=False):
        axis.plot(panel.x, values, marker="o", markersize=4, color=colour, label=name)
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel(panel.across)
    axis.grid(axis="y")
    axis.legend(frameon=False)
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.set_title(panel.title)
