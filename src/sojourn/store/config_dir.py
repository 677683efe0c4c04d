"""A configuration directory: which file holds what, and reading and writing them safely.

host.toml and anchor.toml are for people (0644). Secrets are 0600, and a private file is
written beside its place and renamed, so that a crash leaves the old one or the new one.
"""

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from sojourn.control.config import AnchorConfig, Credentials, HostConfig, parse_anchor, parse_credentials, parse_host
from sojourn.errors import ConfigError

DEFAULT: Final = "/etc/sojourn"


class ConfigDir:
    """One directory, of a host, an anchor or both."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.host_toml = self.path / "host.toml"
        self.credentials = self.path / "credentials"
        self.host_epochs = self.path / "host.epochs"
        self.host_answers = self.path / "host.answers"
        """What the user said for ever."""
        self.home_key = self.path / "home.key"
        """Who the host is to its peers."""
        self.host_log = self.path / "host.log"
        """The roaming log, JSON lines."""
        self.anchor_toml = self.path / "anchor.toml"
        self.anchor_key = self.path / "anchor.key"
        self.anchor_certificate = self.path / "anchor.crt"
        self.rendezvous_toml = self.path / "rendezvous.toml"
        self.socks_key = self.path / "socks.key"
        self.socks_holder = self.path / "socks.holder"
        """The socket of the process that holds the proxy's connections while it is restarted."""
        self.database = self.path / "anchor.db"
        self.anchor_epochs = self.path / "anchor.epochs"
        self.anchor_log = self.path / "anchor.log"

    def host(self) -> HostConfig:
        """Read host.toml. Raises ConfigError."""
        fix = "Make it with `sojourn join TOKEN`; the anchor's `sojourn anchor token --name NAME` prints the token."
        return parse_host(read(self.host_toml, fix), str(self.host_toml))

    def anchor(self) -> AnchorConfig:
        """Read anchor.toml. Raises ConfigError."""
        fix = f"Make it with `sojourn init --config-dir {self.path} --address ADDRESS`."
        return parse_anchor(read(self.anchor_toml, fix), str(self.anchor_toml))

    def read_credentials(self) -> Credentials:
        """Read the host's secrets. Raises ConfigError, also if others may read them."""
        text = read(self.credentials, "Make it with `sojourn join TOKEN`.", private=True)
        return parse_credentials(text, str(self.credentials))

    def write_credentials(self, credentials: Credentials) -> None:
        """Replace the host's secrets."""
        write(self.credentials, credentials_toml(credentials), private=True)


def credentials_toml(credentials: Credentials) -> str:
    """Return the text of a credentials file."""
    return (
        "# Secret: this host's proof of who it is. Written by Sojourn; never copy it to another computer.\n"
        f'secret = "{credentials.secret}"\n'
        f"one_time = {str(credentials.one_time).lower()}\n"
        f'socks_key = "{credentials.socks_key}"\n'
        f'socks_secret = "{credentials.socks_secret}"\n'
        f'socks_static = "{credentials.socks_static}"\n'
    )


def read(path: Path, fix: str, *, private: bool = False) -> bytes:
    """Return a file's bytes, or raise ConfigError with `fix` if there is none."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if private and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(str(path), "can be read by other users", f"Run: chmod 600 {path}.")
            return file.read()
    except FileNotFoundError as error:
        raise ConfigError(str(path), "does not exist", fix) from error
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}", "Run it as root.") from error


def rewrite(path: Path, data: str) -> None:
    """Replace a file that people own, too: it keeps its owner and mode, and a link to it stays one."""
    place = Path(os.path.realpath(path))
    try:
        status = os.stat(place)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written: {error.strerror}", "Put it back first.") from error
    _replace(place, data.encode(), stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))


def write(path: Path, data: str | bytes, *, private: bool = False) -> None:
    """Replace a file in one step, on disk before this returns. Raises ConfigError."""
    _replace(path, data.encode() if isinstance(data, str) else data, 0o600 if private else 0o644)


def _replace(path: Path, data: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    temporary = None
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600 from the start
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        fix = "Run it as root, or choose a --config-dir of your own."
        raise ConfigError(str(path), f"cannot be written: {error.strerror}", fix) from error
