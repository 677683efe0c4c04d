"""The anchor's machine together with its PolicyPush: who registers over TLS is told what is offered.

The two have nothing else to do with each other: answers that come on a connection are for the push, all other events
for the anchor.
"""

from sojourn.errors import RemoteProtocolError
from sojourn.sip import message
from sojourn.sip.server import Send
from sojourn.upmt.anchor import Anchor
from sojourn.upmt.anchor_events import AnchorCommand, AnchorEvent, Associated, SipArrived, SubscriberRemoved, Trust
from sojourn.upmt.policy_push import PolicyPush, PushSender


class PushingAnchor:
    """A machine (machine.py)."""

    def __init__(self, anchor: Anchor, pushes: PushSender) -> None:
        self.anchor = anchor
        self.pushes = pushes

    def handle(self, event: AnchorEvent, now: float) -> list[AnchorCommand]:
        """Take in one fact."""
        if isinstance(event, SipArrived) and event.transport == "TLS" and event.data.startswith(b"SIP/"):
            return self._answered(event, now)
        commands = self.anchor.handle(event, now)
        if isinstance(event, SubscriberRemoved):
            self.pushes.forget(event.user)
        if not isinstance(event, SipArrived) or event.transport != "TLS":
            return commands
        trusted = any(isinstance(command, Trust) for command in commands)
        for command in tuple(commands):
            if isinstance(command, Associated):
                if trusted and command.what != "left":
                    commands += self.pushes.registered(command.user, event.origin, event.source, command.push, now)
                else:
                    self.pushes.forget(command.user)
        return commands

    def offer(self, push: PolicyPush, now: float) -> list[Send]:
        """Take in what is offered from now on; return what tells it to the hosts that are there."""
        return self.pushes.offer(push, now)

    def deadline(self) -> float | None:
        """Return the earlier of the two deadlines."""
        return min((at for at in (self.anchor.deadline(), self.pushes.deadline()) if at is not None), default=None)

    def tick(self, now: float) -> list[AnchorCommand]:
        """Do what is due in either."""
        self.pushes.tick(now)
        return self.anchor.tick(now)

    def _answered(self, event: SipArrived, now: float) -> list[AnchorCommand]:
        try:
            answer = message.parse(event.data)
        except RemoteProtocolError as error:
            self.anchor.refused[error.reason] += 1
            return []
        if not isinstance(answer, message.Response):
            return []
        return list(self.pushes.answered(answer, event.origin, now))
