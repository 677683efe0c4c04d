import io
import xml.etree.ElementTree as ElementTree

import pytest

from sojourn.lab.picture import PNG_SCALE, Drawing, Line, Polygon, Rectangle, Text

SVG = "{http://www.w3.org/2000/svg}"


def sheet() -> Drawing:
    drawing = Drawing(100, 40)
    drawing.add(
        Rectangle(10, 10, 20, 5, "#ff0000"), Rectangle(50, 10, 0, 5, "#00ff00"),
        Line(((0, 39), (100, 39)), "#0000ff", 1, 4), Polygon(((60, 10), (80, 10), (80, 30)), "#00ff00"),
        Text(5, 35, "a < b & c", 8, anchor="middle"),
    )  # fmt: skip
    return drawing


def test_the_svg_is_well_formed_and_escapes_text() -> None:
    root = ElementTree.fromstring(sheet().svg())
    assert root.tag == f"{SVG}svg"
    assert [child.tag.removeprefix(SVG) for child in root] == ["rect", "rect", "rect", "polyline", "polygon", "text"]
    assert root[-1].text == "a < b & c"
    assert root[-1].get("text-anchor") == "middle"


def test_the_png_shows_the_same_shapes() -> None:
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(sheet().png()))
    assert image.size == (100 * PNG_SCALE, 40 * PNG_SCALE)
    assert image.getpixel((20 * PNG_SCALE, 12 * PNG_SCALE)) == (255, 0, 0)
    assert image.getpixel((31 * PNG_SCALE, 12 * PNG_SCALE)) == (255, 255, 255)
    assert image.getpixel((78 * PNG_SCALE, 20 * PNG_SCALE)) == (0, 255, 0)
    assert image.getpixel((50 * PNG_SCALE, 12 * PNG_SCALE)) == (255, 255, 255)
