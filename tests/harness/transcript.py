"""What a pair said to each other and to itself, a line each: what a test asserts, and what one reads when it fails."""

from collections.abc import Callable

from sojourn.errors import RemoteProtocolError
from sojourn.packet.ip import udp_parts
from sojourn.policy.match import write
from sojourn.sip import message
from sojourn.upmt import signals
from sojourn.upmt.commands import Everything, Exactly, Labelled, Matching, OnTunnel


class Transcript:
    """Lines with their times."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lines: list[tuple[float, str]] = []
        self._clock = clock
        self._from = 0

    def say(self, text: str) -> None:
        """Add a line."""
        self.lines.append((self._clock(), text))

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        taken = [text for _, text in self.lines[self._from :]]
        self._from = len(self.lines)
        return taken

    def __str__(self) -> str:
        first = self.lines[0][0] if self.lines else 0.0
        return "\n".join(f"{at - first:9.3f}  {text}" for at, text in self.lines)


def sip_line(data: bytes, network_of: Callable[[int], str], here: str = "here") -> str:
    """Say in a few words what a SIP message is."""
    try:
        parsed = message.parse(data)
    except RemoteProtocolError:
        return f"{len(data)} bytes that are no SIP"
    body = _signals(parsed, network_of, here) if parsed.cseq.method == "MESSAGE" else ""
    if isinstance(parsed, message.Request):
        leaving = " to leave" if parsed.method == "REGISTER" and parsed.expires == 0 else ""
        return f"{parsed.method}{leaving}{body}"
    return f"{parsed.status}{body or ' ' + parsed.phrase}"


def inner_line(packet: bytes, network_of: Callable[[int], str], here: str = "here") -> str:
    """Say what a signal inside a tunnel is; `here`: where flows go to for which no tunnel is named."""
    return sip_line(udp_parts(packet)[2], network_of, here)


def _signals(parsed: message.Request | message.Response, network_of: Callable[[int], str], here: str) -> str:
    if not parsed.body:
        return ""
    try:
        parts = signals.decode(parsed.body)
    except RemoteProtocolError:
        return " (not a signal)"
    return " " + ", ".join(_signal(part, network_of, here) for part in parts)


def _signal(signal: signals.AnySignal, network_of: Callable[[int], str], here: str) -> str:
    name = type(signal).__name__
    match signal:
        case signals.HandoverRequest(move):
            return f"{name} {move}: " + "; ".join(_row(row, network_of, here) for row in signal.all_rows())
        case signals.HandoverResponse(move, results):
            said = [", ".join(f"{n} {word}" for word, n in result.counts.items()) or "nothing" for result in results]
            return f"{name} {move}: " + "; ".join(said)
        case signals.Failure(reason):
            return f"{name}: {reason}"
    return name


def _row(row: signals.WireRow, network_of: Callable[[int], str], here: str) -> str:
    match signals.selector(row):
        case Everything():
            what = "everything"
        case Matching(match):
            what = write(match)
        case Exactly(flows):
            what = f"{len(flows)} flow{'s' * (len(flows) != 1)}"
        case OnTunnel(tunnel):
            what = f"all on {network_of(tunnel)}"
        case Labelled(label):
            what = f"all of {label}"
    names = [choice if isinstance(choice, str) else network_of(choice) for choice in row.tunnel_ids]
    copies = "".join(f" and {network_of(copy)}" for copy in row.copies)
    return f"{what} to {', '.join(names) or here}{copies}"
