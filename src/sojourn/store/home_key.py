"""A host's home keys (D/home.key, 0600): who it is to its peers. Made once; another key is another home address."""

import secrets
from typing import Final

from sojourn.errors import ConfigError
from sojourn.i3.home import KEY_BYTES, HomeIdentity
from sojourn.store.config_dir import ConfigDir, read, write

_REMAKE: Final = "Restore it from a backup; or delete it, and give every peer the new line of `sojourn peers show`."


def load(directory: ConfigDir) -> tuple[bytes, bytes]:
    """Return the private halves, Ed25519 and X25519. Raises ConfigError, also if others may read them."""
    path = directory.home_key
    text = read(path, "`sojourn peers show` makes it.", private=True)
    try:
        data = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        data = b""
    if len(data) != 2 * KEY_BYTES:
        raise ConfigError(str(path), "does not hold two keys", _REMAKE)
    return data[:KEY_BYTES], data[KEY_BYTES:]


def load_or_make(directory: ConfigDir) -> tuple[bytes, bytes]:
    """Return the keys; the first time they are drawn. Raises ConfigError."""
    if not directory.home_key.exists():
        write(directory.home_key, secrets.token_bytes(2 * KEY_BYTES).hex() + "\n", private=True)
    return load(directory)


def identity(directory: ConfigDir) -> HomeIdentity:
    """Return who this host is; the first time that is decided here. Raises ConfigError."""
    return HomeIdentity(*load_or_make(directory))
