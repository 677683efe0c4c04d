"""Takes secrets and, on demand, addresses out of text that is to be shown to others (`sojourn bugreport`).

Two nets, one behind the other: whatever looks like a secret by its form (join tokens, PEM blocks, keys named
`secret` or `password`), and every value that stands in a private file of the configuration directory, in each form in
which it may have been written down (as it is, hexadecimal, base64).
"""

import base64
import contextlib
import ipaddress
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from sojourn.control.socks_account import password_of
from sojourn.errors import ConfigError
from sojourn.store.config_dir import ConfigDir
from sojourn.store.sqlite import SqliteStore
from sojourn.upmt.records import Subscriber

GONE: Final = "(secret taken out)"
SHORTEST: Final = 8
"""Characters of the shortest credential (control/config.py)."""
LONG_WORD: Final = 20
"""Characters from which a word of a private file is taken for a secret; keys and hashes are longer."""
MOST_BYTES: Final = 1 << 20

_TOKEN = re.compile(r"sojourn[0-9]+:[A-Za-z0-9_=+/-]+")
_PEM = re.compile(r"-----BEGIN [A-Z ]*(?:PRIVATE KEY|SECRET)[A-Z ]*-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL)
_NAMED = re.compile(
    r"""(?ix) ( ["']? [a-z0-9_.-]* (?:secret|passw|credential|private|psk|token) [a-z0-9_.-]* ["']? \s* [:=] \s* )
        (?! \s* (?:true|false|null|none) \b) ( "[^"\n]*" | '[^'\n]*' | [^\s,;}\]]+ )"""
)
_IN_URL = re.compile(r"(?<=://)[^\s\"',]*@")
_IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w]|\.[0-9])")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*(?![\w:])")
_MAC = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![\w:])")


class Scrubber:
    """Cleans text. `known`: secrets as they are; `mask`: addresses and `names` become numbered words, too."""

    def __init__(self, known: Iterable[bytes], *, mask: bool = False, names: Iterable[str] = ()) -> None:
        forms = {form for value in known if len(value) >= SHORTEST for form in written(value)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if forms else None
        self._mask = mask
        named = sorted((name for name in names if name), key=len, reverse=True)
        self._names = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, named))})(?![\w-])") if named else None
        self._words: dict[tuple[str, str], str] = {}

    def clean(self, text: str) -> str:
        """Return the text without what must not be in it."""
        text = _IN_URL.sub(f"{GONE}@", _PEM.sub(GONE, _TOKEN.sub(GONE, text)))
        if self._known is not None:
            text = self._known.sub(GONE, text)
        text = _NAMED.sub(lambda found: f'{found[1]}"{GONE}"', text)
        if not self._mask:
            return text
        if self._names is not None:
            text = self._names.sub(lambda found: self._word("name", found[0]), text)
        text = _MAC.sub(lambda found: self._word("mac", found[0].lower()), text)
        text = _IPV6.sub(self._address, text)
        return _IPV4.sub(self._address, text)

    def _address(self, found: re.Match[str]) -> str:
        """Return a word for an address: the same one for the same address; those that say nothing of anybody stay."""
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            return found[0]
        return self._word(f"ipv{address.version}", str(address))

    def _word(self, kind: str, value: str) -> str:
        number = sum(one == kind for one, _ in self._words) + 1
        return self._words.setdefault((kind, value), f"<{kind}-{number}>")


def written(value: bytes) -> Iterator[str]:
    """Yield the forms in which a secret may stand in a text."""
    with contextlib.suppress(UnicodeDecodeError):
        text = value.decode()
        if text.isprintable() and len(text) >= SHORTEST:  # shorter words stand everywhere
            yield text
            yield from (form for form in (msgspec.json.encode(text).decode()[1:-1],) if form != text)
    yield value.hex()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(value).decode().rstrip("=")


def secrets_of(directory: ConfigDir) -> set[bytes]:
    """Return every secret of a configuration directory. Raises ConfigError where one may not be read."""
    found: set[bytes] = set()
    try:
        files = [path for path in sorted(directory.path.rglob("*")) if _is_private(path)]
        for path in files:
            if not path.name.startswith(directory.database.name):
                found |= set(words(path))
    except OSError as error:
        raise ConfigError(str(directory.path), f"cannot be read: {error.strerror}", "Run it as root.") from error
    with contextlib.suppress(ConfigError):
        credentials = directory.read_credentials()
        found.add(credentials.secret.encode())
        found |= {bytes.fromhex(word) for word in (credentials.socks_secret, credentials.socks_static)}
    if directory.database.exists():
        store = SqliteStore(str(directory.database))
        try:
            records = store.load()
        finally:
            store.close()
        found |= {secret for one in records.subscribers.values() for secret in _of_subscriber(one)}
        found |= set(records.meta.values())
    return {value for value in found if len(value) >= SHORTEST}


def words(path: Path) -> Iterator[bytes]:
    """Yield what may be a secret of a private file: its long words, what they encode, and a short file as a whole."""
    data = path.read_bytes()[:MOST_BYTES]
    if 16 <= len(data) <= 64:
        yield data
    for word in re.findall(rb"[A-Za-z0-9+/_=-]{%d,}" % LONG_WORD, data):
        yield word
        with contextlib.suppress(ValueError):
            yield bytes.fromhex(word.decode())


def _is_private(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) and not mode & (stat.S_IRWXG | stat.S_IRWXO) and not path.name.endswith(".lock")


def _of_subscriber(one: Subscriber) -> Iterator[bytes]:
    for verifiers in (one.ha1, one.ha1_once):
        for word in (verifiers or "").split():
            yield word.rpartition(":")[2].encode()
            with contextlib.suppress(ValueError):
                yield bytes.fromhex(word.rpartition(":")[2])
    yield from (secret.key for secret in one.secrets)
    yield from (one.socks_secret, one.socks_static)
    if one.socks_secret:
        yield password_of(one.socks_secret).encode()
