"""What a policy is, once it has been read: whom it speaks of, where that may go, under which conditions.

A data path needs of it the order of the rules and whom each speaks of (`Rule`): the first that
covers a flow gives the flow its label, and rows move by label. Control needs the rest (`Policy`).
"""

from enum import StrEnum

from msgspec import Struct

from sojourn.policy.match import Match

DEFAULT = ""
"""The label of flows that no rule covers."""


class Subject(Struct, frozen=True):
    """Whom a rule speaks of. All that is given must be met; of several values of one kind, any.

    Texts are glob patterns (`fnmatch`, case matters).
    """

    applications: tuple[str, ...] = ()
    """A name for certain (`Origin.name`), else the flatpak's or snap's id, the script's or program's base name, the
    command name or the unit's (policy/names.py)."""
    executables: tuple[str, ...] = ()
    """Whole paths: the script's where there is one, else the program's."""
    commands: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    """systemd units: services, scopes and slices, whole or without their suffix; a unit covers what is in it."""
    cgroups: tuple[str, ...] = ()
    """Paths; a path covers what is below it."""
    containers: tuple[str, ...] = ()
    """Ids or names, "docker" for every one of a kind, or "docker:ID"."""
    users: tuple[int, ...] = ()
    """User ids."""
    match: tuple[Match, ...] = ()
    """Protocols and ports."""
    names: tuple[str, ...] = ()
    """DNS names of the destination, best effort: as the answers that passed by said."""
    destinations: tuple[str, ...] = ()
    """Networks of the destination (CIDR). With `names` they are one kind: either may be met."""


class Rule(Struct, frozen=True):
    """What a data path must know of a policy."""

    label: str
    subject: Subject


class Via(StrEnum):
    """How flows leave (DESIGN §4)."""

    ANCHOR = "anchor"
    PEER = "peer"
    DIRECT = "direct"


class Trigger(StrEnum):
    """What a private identifier of ours is for (ROAM: one a peer, or one a flow)."""

    PEER = "peer"
    FLOW = "flow"


class Otherwise(StrEnum):
    """What becomes of flows while no network fits."""

    HOLD = "hold"
    ANY = "any"
    DIRECT = "direct"
    BLOCK = "block"
    ASK = "ask"


class Order(StrEnum):
    """How the networks that fit are put in order."""

    LISTED = "listed"
    PERFORMANCE = "performance"
    """The smallest RTT and loss first."""
    VOIP = "voip"
    """The original's scoring formula (reference, 1.5)."""
    STICKY = "sticky"
    """Any: the one in use as long as it fits."""


class Require(Struct, frozen=True):
    """What a network must be now. None = whatever. Times in seconds, losses and signal as fractions, rates in bit/s."""

    rtt: float | None = None
    loss: float | None = None
    jitter: float | None = None
    rate: float | None = None
    signal: float | None = None
    metered: bool | None = None
    cost: tuple[str, ...] = ()
    security: tuple[str, ...] = ()
    """Any of "trusted", "encrypted", "open"."""
    under_cap: bool = False
    """Not over its data cap of this month."""
    time: tuple[str, ...] = ()
    """Any of spans of local time as "mon-fri 08:00-18:00"."""


class Policy(Struct, frozen=True):
    """One rule, whole."""

    label: str
    """Its name, unique; DEFAULT for the last one, which speaks of everything."""
    subject: Subject = Subject()
    networks: tuple[str, ...] = ("*",)
    """Names, labels or kinds in order of preference; "*" = every other one."""
    require: Require = Require()
    order: Order = Order.LISTED
    via: Via = Via.ANCHOR
    trigger: Trigger = Trigger.PEER
    """`via = peer`: whether each flow gets a private identifier of its own."""
    otherwise: Otherwise = Otherwise.ANY
    copies: int = 1
    """Over how many networks each packet goes."""
    stay: bool = False
    """Flows that run stay where they are while that network fits: only new ones go to a better one."""
    minimum_stay: float = 0.0
    """Seconds for which flows stay where they came to, unless that stops to work or to fit."""
    blocked: bool = False
    """Never: refused at once."""
    ask_timeout: float = 30.0
    """`otherwise = ask`: seconds until the default answer holds."""
    ask_default: Otherwise = Otherwise.HOLD
    came_from: str = "user"
    """"user", or "anchor" for one that was pushed (PolicyPush)."""
    preset: str = ""
    """The preset that it was made of, for people."""
    line: int | None = None
    """Where in the file it begins, for people."""


class Facts(Struct, frozen=True):
    """What is known of one network when a policy is run; None = not known.

    What is not known meets no condition, but for a bound on RTT, loss or jitter: that is met until measured.
    """

    name: str
    kind: str = "other"
    label: str | None = None
    interface: str | None = None
    works: bool = True
    metered: bool = False
    cost: str = "free"
    signal: float | None = None
    security: tuple[str, ...] = ()
    over_cap: bool = False
    rtt: float | None = None
    loss: float | None = None
    """The worse direction's."""
    jitter: float | None = None
    rate: float | None = None
    """Bit/s that it carries for certain: measured under load, or the link's own."""
    trend: float | None = None
    """Change of loss a second; positive = getting worse."""
