"""The users of this machine, by name."""

import pwd


def user_id(name: str) -> int | None:
    """Return the id of a user; None when there is no such user here."""
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # ValueError: a name with a zero byte
        return None
