"""How a browser, or any command, is started so that it goes through a proxy and keeps nothing of the usual profile.

A desktop's opener (xdg-open) is no use here: it hands the address to a browser that runs already, as everywhere else.
"""

import os
import posixpath
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from sojourn.errors import NotSupported

GRAPHICAL = ("chromium", "chromium-browser", "google-chrome", "brave-browser", "firefox", "firefox-esr")
TEXTUAL = ("w3m", "lynx", "links", "elinks")
"""They find the proxy in the environment."""
FIREFOX_SETTINGS = """\
user_pref("network.proxy.type", 1);
user_pref("network.proxy.http", "127.0.0.1");
user_pref("network.proxy.http_port", {port});
user_pref("network.proxy.ssl", "127.0.0.1");
user_pref("network.proxy.ssl_port", {port});
user_pref("network.proxy.no_proxies_on", "");
user_pref("network.trr.mode", 5);
user_pref("dom.security.https_only_mode", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
"""


class Invocation(Struct, frozen=True):
    """What is started."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    proxied: bool = True
    """False: nobody knows whether this command heeds the proxy in its environment."""


def invocation(
    command: str | None, url: str, port: int, folder: Path, environment: Mapping[str, str], *, root: bool = False
) -> Invocation:
    """Return how `command` is started for `url`; without one, $BROWSER or the first browser that is there.

    In `command` "{url}" and "{proxy}" are replaced; a command that names neither gets the URL at its end.
    Raises NotSupported where there is no browser.
    """
    proxy = f"http://127.0.0.1:{port}"
    words = shlex.split(command or _chosen(environment)) or [""]
    filled = [word.replace("{url}", url).replace("{proxy}", proxy) for word in words]
    name = posixpath.basename(words[0])
    options, known = _options(name, port, folder, root=root)
    named = filled != words
    argv = filled if named else [filled[0], *options, *filled[1:], url]
    return Invocation(tuple(argv), _environment(environment, proxy), known or named)


def _chosen(environment: Mapping[str, str]) -> str:
    """Return what the user has chosen ($BROWSER, a list with colons), else the first that is there."""
    for wish in environment.get("BROWSER", "").split(":"):
        words = shlex.split(wish.replace("%s", "{url}")) if wish else []
        if words and posixpath.basename(words[0]) not in ("xdg-open", "sensible-browser") and shutil.which(words[0]):
            return shlex.join(words)
    desktop = bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
    candidates: tuple[str, ...] = (*(GRAPHICAL if desktop else ()), *TEXTUAL)
    for name in candidates:
        if shutil.which(name):
            return name
    what = "a browser" if desktop else "a browser for the terminal (there is no display)"
    raise NotSupported("opening a portal", f"{what}: install chromium, firefox or w3m, or name a --command")


def _options(name: str, port: int, folder: Path, *, root: bool) -> tuple[list[str], bool]:
    """Return a browser's options, and whether it is known to go through the proxy."""
    if name.startswith("firefox"):
        (folder / "user.js").write_text(FIREFOX_SETTINGS.format(port=port))
        return ["--no-remote", "--profile", str(folder)], True
    if name in GRAPHICAL or name.startswith(("chrom", "google-chrome")):
        options = [
            f"--proxy-server=http://127.0.0.1:{port}", "--proxy-bypass-list=<-loopback>", f"--user-data-dir={folder}",
            "--no-first-run", "--no-default-browser-check", "--disable-quic", "--new-window",
        ]  # fmt: skip
        return [*options, *(["--no-sandbox"] if root else [])], True
    return [], name in (*TEXTUAL, "curl", "wget")


def _environment(environment: Mapping[str, str], proxy: str) -> dict[str, str]:
    kept = {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}
    return kept | {name: proxy for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY")}


def owner() -> tuple[int, int] | None:
    """Return who called sudo (user, group): a browser is started as that user; None when nobody did."""
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    return (int(user), int(group)) if os.geteuid() == 0 and user.isdigit() and group.isdigit() else None
