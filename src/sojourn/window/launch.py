"""Opens the user's browser at the window's address, without telling the address to anybody else.

The arguments of a process can be read by every user of the machine, and the address has the token in it. So the
browser is given a small file, which only its user can read, and which leads on to the address; it is removed again.
"""

import contextlib
import html
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

OPENERS: Final = ("xdg-open", "gio", "sensible-browser", "x-www-browser")
PAGE: Final = """<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<title>Sojourn</title><meta http-equiv="refresh" content="0; url={address}">
<p><a href="{address}">Open the window</a></p>
"""


class Launch:
    """One browser that was started. `close` removes the file: call it once the page has come, or at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def close(self) -> None:
        """Remove the file."""
        shutil.rmtree(self._folder, ignore_errors=True)


def opener(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the command that opens a file as this user's desktop does; None without a desktop."""
    if not (environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")):
        return None
    for name in OPENERS:
        if shutil.which(name, path=environment.get("PATH")):
            return ("gio", "open") if name == "gio" else (name,)
    return None


def launch(address: str, command: tuple[str, ...]) -> Launch:
    """Start the browser. Raises OSError."""
    folder = Path(tempfile.mkdtemp(prefix="sojourn-window-", dir=_private_place()))  # 0700
    page = folder / "window.html"
    page.touch(mode=0o600)
    page.write_text(PAGE.format(address=html.escape(address)))
    try:
        process = subprocess.Popen(
            [*command, str(page)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, close_fds=True,
        )  # fmt: skip
    except OSError:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
        raise
    threading.Thread(target=process.wait, daemon=True).start()  # some openers end at once, some with the browser
    return Launch(folder)


def _private_place() -> str | None:
    """Return the user's own folder in memory where there is one: not the superuser's, after rights were dropped."""
    place = os.environ.get("XDG_RUNTIME_DIR", "")
    with contextlib.suppress(OSError):
        if place and os.stat(place).st_uid == os.geteuid() and os.access(place, os.W_OK):
            return place
    return None
