"""Drawings of a few primitives, written as SVG by ourselves and as PNG by Pillow (the `demo` extra).

One list of primitives for both, so that the two files show the same. Pillow is chosen because its wheels bring
FreeType and a font of their own: nothing of the system is needed. Sizes are pixels; y grows downwards.
"""

import io
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

from sojourn.errors import NotSupported

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Point = tuple[float, float]
Points = tuple[Point, ...]
PNG_SCALE = 2
"""The PNG has this many pixels for each of the drawing's, so that text is sharp."""
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"


class Rectangle(Struct, frozen=True, tag=True):
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    fill: str


class Line(Struct, frozen=True, tag=True):
    """A line through points; `dash` = drawn and left out, 0 = solid."""

    points: Points
    colour: str
    width: float = 1.0
    dash: float = 0.0


class Polygon(Struct, frozen=True, tag=True):
    """A filled polygon."""

    points: Points
    fill: str


class Text(Struct, frozen=True, tag=True):
    """A line of text; `anchor` is what of it stands at (x, y): its start, middle or end, on its baseline."""

    x: float
    y: float
    text: str
    size: float = 12.0
    colour: str = "#1f2933"
    anchor: str = "start"


Primitive = Rectangle | Line | Polygon | Text


class Drawing:
    """A sheet and what is on it, in the order of drawing."""

    def __init__(self, width: int, height: int, background: str = "#ffffff") -> None:
        self.width = width
        self.height = height
        self.shapes: list[Primitive] = [Rectangle(0, 0, width, height, background)]

    def add(self, *shapes: Primitive) -> None:
        """Draw on top of what is there."""
        self.shapes.extend(shapes)

    def svg(self) -> str:
        """Return the drawing as an SVG document."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" font-family="{FONT}">'
        )
        return "\n".join([head, *(_svg(shape) for shape in self.shapes), "</svg>"]) + "\n"

    def png(self) -> bytes:
        """Return the drawing as a PNG file; NotSupported where Pillow is not installed."""
        try:
            from PIL import Image, ImageDraw
        except ImportError as error:
            raise NotSupported("writing PNG", "Pillow: pip install 'sojourn[demo]'") from error
        image = Image.new("RGB", (self.width * PNG_SCALE, self.height * PNG_SCALE))
        canvas = ImageDraw.Draw(image)
        for shape in self.shapes:
            _rasterise(canvas, shape)
        output = io.BytesIO()
        image.save(output, "PNG", optimize=True)
        return output.getvalue()


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _points(points: Points) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _svg(shape: Primitive) -> str:
    match shape:
        case Rectangle(x, y, width, height, fill):
            place = f'x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" height="{_number(height)}"'
            return f'<rect {place} fill="{fill}"/>'
        case Line(points, colour, width, dash):
            dashes = f' stroke-dasharray="{_number(dash)}"' if dash else ""
            stroke = f'stroke="{colour}" stroke-width="{_number(width)}"{dashes}'
            return f'<polyline points="{_points(points)}" fill="none" {stroke}/>'
        case Polygon(points, fill):
            return f'<polygon points="{_points(points)}" fill="{fill}"/>'
        case Text(x, y, text, size, colour, anchor):
            place = f'x="{_number(x)}" y="{_number(y)}" font-size="{_number(size)}" text-anchor="{anchor}"'
            return f'<text {place} fill="{colour}">{escape(text)}</text>'


def _rasterise(canvas: "ImageDraw", shape: Primitive) -> None:
    scale = PNG_SCALE
    match shape:
        case Rectangle(x, y, width, height, fill):
            # Pillow's second corner is inside.
            right, bottom = (x + width) * scale - 1, (y + height) * scale - 1
            if right >= x * scale and bottom >= y * scale:
                canvas.rectangle((x * scale, y * scale, right, bottom), fill)
        case Line(points, colour, width, dash):
            for (x1, y1), (x2, y2) in _dashes(points, dash):
                canvas.line((x1 * scale, y1 * scale, x2 * scale, y2 * scale), colour, max(1, round(width * scale)))
        case Polygon(points, fill):
            canvas.polygon([(x * scale, y * scale) for x, y in points], fill)
        case Text(x, y, text, size, colour, anchor):
            from PIL import ImageFont

            letter = {"start": "l", "middle": "m", "end": "r"}[anchor]
            font = ImageFont.load_default(size * scale)
            canvas.text((x * scale, y * scale), text, colour, font, f"{letter}s")


def _dashes(points: Points, dash: float) -> list[tuple[Point, Point]]:
    """Return the pieces of a line that are drawn; all of it for `dash` 0."""
    pieces = []
    for (x1, y1), (x2, y2) in pairwise(points):
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        count = max(1, int(length / dash)) if dash else 1
        for number in range(0, count, 2 if dash else 1):
            a, b = number / count, (number + 1) / count
            pieces.append(((x1 + (x2 - x1) * a, y1 + (y2 - y1) * a), (x1 + (x2 - x1) * b, y1 + (y2 - y1) * b)))
    return pieces
