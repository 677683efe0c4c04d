"""The one tree of exceptions. Who is to blame decides the class.

A decoder raises `RemoteProtocolError` and nothing else, whatever bytes it is given.
Machines never raise on a peer's input: they return commands.
"""


class SojournError(Exception):
    """Anything that Sojourn itself says went wrong."""


class RemoteProtocolError(SojournError):
    """The other side, or whoever pretends to be it, sent something that no rule allows."""

    status = 400
    """What a SIP answer to it carries (RFC 3261 §21.4)."""

    reason = "malformed"
    """One word, under which a counter of refused input is kept."""

    def __init__(self, why: str, *, reason: str | None = None) -> None:
        super().__init__(why)
        if reason is not None:
            self.reason = reason


class LocalProtocolError(SojournError):
    """We asked a machine for something that its state does not allow: a bug of ours."""


class NotSupported(SojournError):
    """What this kernel, container or build lacks; says which feature, and what it needs."""

    def __init__(self, feature: str, needs: str) -> None:
        super().__init__(f"{feature} is not available here: it needs {needs}")
        self.feature = feature
        self.needs = needs


class ConfigError(SojournError):
    """A configuration that cannot be used: where it stands, why it is wrong, how to mend it."""

    def __init__(self, where: str, why: str, fix: str) -> None:
        super().__init__(f"{where}: {why}. {fix}")
        self.where = where
        self.why = why
        self.fix = fix
