"""A join token as a QR code: SVG, so that it is sharp at any size and needs no image library."""

import io

import segno


def svg(text: str) -> str:
    """Return an SVG document (no script, no style) that a camera reads as `text`."""
    out = io.BytesIO()
    code = segno.make_qr(text, error="m")
    code.save(out, kind="svg", border=4, dark="#000", light="#fff", xmldecl=False, svgclass=None, lineclass=None)
    return out.getvalue().decode()
