"""What goes in and out of the association's machine (upmt/association.py), and who registers where."""

from msgspec import Struct

from sojourn.model import Endpoint
from sojourn.sip.digest import Algorithm
from sojourn.sip.message import Request, Response
from sojourn.upmt.lease import Lease, Offer


class AssociationSettings(Struct, frozen=True):
    """Who registers where."""

    user: str
    domain: str
    """The anchor's name or address, as Request-URI and as domain of the address of record."""
    tid: str
    """Which terminal this is: a token (RFC 3261) that stays the same for good."""
    secret: str
    """The own credential or, before there is one, the join token's."""
    vipa: str | None = None
    """The Vipa of an earlier run, asked for again."""
    expires: int = 600
    algorithms: tuple[Algorithm, ...] = (Algorithm.SHA256,)
    offer: Offer | None = Offer()
    """None: no body, as the paper has it."""
    require_proof: bool = True
    """Accept only an answer whose Authentication-Info proves that the anchor knows the secret."""

    def __repr__(self) -> str:
        return f"AssociationSettings({self.user}@{self.domain}, TID={self.tid})"


class ChannelOpened(Struct, frozen=True):
    """A way to the anchor's SIP port is there."""

    channel: int
    local: Endpoint
    reliable: bool
    transport: str | None = None
    """TLS, TCP or UDP; by default TLS when reliable."""


class ChannelClosed(Struct, frozen=True):
    """It is gone."""

    channel: int
    why: str


class SipReceived(Struct, frozen=True):
    """Bytes of a stream as they came, or one datagram."""

    channel: int
    data: bytes


class RefreshWanted(Struct, frozen=True):
    """Register now: a new secret is needed, the host slept, or the user changed something."""


class Leave(Struct, frozen=True):
    """End the association."""


AssociationEvent = ChannelOpened | ChannelClosed | SipReceived | RefreshWanted | Leave


class SendSip(Struct, frozen=True):
    """Send bytes on a channel."""

    channel: int
    data: bytes


class CloseChannel(Struct, frozen=True):
    """What comes on this stream is not SIP: give it up."""

    channel: int
    why: str


class Associated(Struct, frozen=True):
    """The anchor lent, or lent again."""

    lease: Lease


class CredentialIssued(Struct, frozen=True):
    """The host's own secret, told once: store it before anything else."""

    secret: str

    def __repr__(self) -> str:
        return "CredentialIssued(...)"


class Refused(Struct, frozen=True):
    """The anchor said no. `permanent`: nothing is tried again before `RefreshWanted`."""

    status: int
    why: str
    remedy: str | None
    permanent: bool


class Unreachable(Struct, frozen=True):
    """No usable answer. The next attempt is at `retry_at`; None = as soon as a channel opens."""

    why: str
    retry_at: float | None


class Left(Struct, frozen=True):
    """The association is over."""

    told: bool = True
    """The anchor knows, or never knew of one."""


class PassedOn(Struct, frozen=True):
    """A message that is not the association's: a signal, or the answer to one."""

    channel: int
    message: Request | Response


AssociationCommand = (
    SendSip | CloseChannel | Associated | CredentialIssued | Refused | Unreachable | Left | PassedOn
)  # fmt: skip
