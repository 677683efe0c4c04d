"""The class that stands where `socket.socket` does."""

import atexit
import errno
import ipaddress
import os
import select
import socket as _std
import weakref
from collections.abc import Callable
from typing import Any, Final

from sojourn.api.messages import ApiError
from sojourn.errors import SojournError
from sojourn.model import Endpoint
from sojourn.msocks.socks5 import MAX_NAME_BYTES, Address
from sojourn.socket.choice import choice
from sojourn.socket.mobile import flow_to
from sojourn.socket.session import MobileSession
from sojourn.socket.worker import Attempt, Incoming

Callback = Callable[[str, str, float | None], None]
INTERNET: Final = (_std.AF_INET, _std.AF_INET6)
NAME_UNKNOWN: Final = -1
ANYWHERE: Final = ("", "0.0.0.0", "::")
_open: "weakref.WeakSet[socket]" = weakref.WeakSet()


class socket(_std.socket):
    """A standard socket, with what keeps it alive over changes of network."""

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        super().__init__(family, type, proto, fileno)
        self._attempt: Attempt | None = None
        self._incoming: Incoming | None = None
        self._call: tuple[Address, MobileSession] | None = None
        self._callbacks: list[Callback] = []
        _open.add(self)

    # -- what the standard module has

    def connect(self, address: Any, /) -> None:
        """Connect, as the standard module does."""
        to = self._through_us(address)
        if to is None:
            super().connect(address)
            return
        self._begin(to)
        timeout = self.gettimeout()
        if timeout == 0:
            raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))
        poll = select.poll()
        poll.register(self, select.POLLOUT)
        if not poll.poll(None if timeout is None else timeout * 1000):
            raise TimeoutError("timed out")
        self._raise(self.getsockopt(_std.SOL_SOCKET, _std.SO_ERROR))

    def connect_ex(self, address: Any, /) -> int:
        """Connect, and return what went wrong instead of raising it."""
        if self._through_us(address) is None:
            return super().connect_ex(address)
        try:
            self.connect(address)
        except _std.gaierror:
            raise
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def getsockopt(self, level: int, option: int, *size: int) -> Any:
        """Return an option; SO_ERROR is what became of `connect`."""
        value = super().getsockopt(level, option, *size)
        attempt = self._attempt
        if (level, option) == (_std.SOL_SOCKET, _std.SO_ERROR) and attempt is not None and attempt.error:
            value = errno.EHOSTUNREACH if attempt.error == NAME_UNKNOWN and self.gettimeout() == 0 else attempt.error
            self._attempt = None
        return value

    def listen(self, *backlog: int) -> None:
        """Listen; where MSOCKS carries us and the address was not this machine's alone, at the proxy."""
        super().listen(*backlog)
        host, port = super().getsockname()[:2] if self._is_stream() else ("", 0)
        if self._incoming is None and self._is_stream() and not choice.by_tunnels() and host in ANYWHERE[1:]:
            near = "::1" if self.family == _std.AF_INET6 else "127.0.0.1"
            wanted = Address("0.0.0.0", port if self._asked_port else 0)
            self._incoming = choice.worker().listen((near, port), wanted, choice.origin())

    _asked_port = 0

    def bind(self, address: Any, /) -> None:
        """Bind, as the standard module does."""
        super().bind(address)
        if self._is_stream():
            self._asked_port = address[1]

    def accept(self) -> "tuple[socket, Any]":
        """Take a call, and who calls: at the proxy's address or, as ever, at this machine's."""
        fd, address = self._accept()  # type: ignore[attr-defined]
        taken = type(self)(self.family, self.type, self.proto, fileno=fd)
        if _std.getdefaulttimeout() is None and self.gettimeout():
            taken.setblocking(True)
        call = self._incoming.callers.pop(address[1], None) if self._incoming is not None and address else None
        if call is not None:
            taken._call = call
            address = _tuple(call[0])
        return taken, address

    def getpeername(self) -> Any:
        """Return the correspondent's address."""
        here = super().getpeername()
        if self._call is not None:
            return _tuple(self._call[0])
        return here if self._attempt is None else _tuple(self._attempt.to)

    def getsockname(self) -> Any:
        """Return our address as correspondents see it: the proxy's, where that carries us."""
        outer = self.outer
        return super().getsockname() if outer is None else outer

    def dup(self) -> "socket":
        """Return another descriptor of the same connection."""
        other = super().dup()
        assert isinstance(other, socket)
        other._attempt, other._incoming, other._call = self._attempt, self._incoming, self._call
        return other

    def _real_close(self) -> None:
        incoming, attempt = self._incoming, self._attempt
        if incoming is not None and incoming.task is not None:
            incoming.task.cancel()
        if attempt is not None and not attempt.done and attempt.task is not None:
            attempt.task.cancel()
            attempt.failed(errno.ECONNABORTED)
        super()._real_close()  # type: ignore[misc]

    # -- what it has not

    @property
    def network(self) -> str | None:
        """The name of the network that carries it now; None where nobody knows, or it is not connected."""
        session = self._session()
        if session is not None:
            return session.line.network.name
        if not self._may_be_carried():
            return None
        try:
            row = choice.carried.row(self)
        except (ApiError, OSError):
            return None
        return row["network"] if row is not None else None

    @property
    def outer(self) -> Any:
        """Where correspondents see us, or call us, at the proxy; None where no proxy carries us."""
        if self._incoming is not None:
            return _tuple(self._incoming.address)
        if self._attempt is not None and self._attempt.done and not self._attempt.error:
            return _tuple(self._attempt.bound)
        return None

    def move(self, name: str) -> None:
        """Order it to the network `name`, where it stays while that works. `on_handover` tells when it is there.

        OSError(ENETUNREACH) says that the network does not work; OSError(ENOTCONN) that nobody carries this socket.
        """
        session = self._session()
        try:
            if session is not None:
                choice.worker().move(session, name)
            elif self._may_be_carried():
                choice.carried.move(self, name)
            else:
                raise OSError(errno.ENOTCONN, "nothing that moves carries this socket")
        except SojournError as error:
            raise OSError(errno.ENETUNREACH, str(error)) from error

    def on_handover(self, callback: Callback) -> None:
        """Have `callback(before, after, gap)` called when it has moved: names of networks, and seconds or None.

        It runs in a thread of ours: hand over to your own (`loop.call_soon_threadsafe`) and return.
        """
        if self._attempt is not None:
            self._attempt.callbacks.append(callback)
        elif self._call is not None:
            choice.worker().watch(self._call[1].flow, [callback])
        elif self._may_be_carried():
            choice.carried.watch(self, lambda before, after: callback(before, after, None))
        else:
            self._callbacks.append(callback)

    # -- details

    def _is_stream(self) -> bool:
        return self.family in INTERNET and self.type == _std.SOCK_STREAM and not choice.is_ours()

    def _through_us(self, address: Any) -> Address | None:
        """Return where to, if the proxy is to be asked; None: it is the kernel's to connect."""
        if not self._is_stream() or not isinstance(address, tuple) or len(address) < 2:
            return None
        host, port = address[:2]
        if not isinstance(host, str) or not isinstance(port, int) or is_local(host) or choice.by_tunnels():
            return None
        name = name_on_the_wire(host)
        if name is None or not 0 <= port <= 65535 or (":" in host and self.family == _std.AF_INET):
            return None  # the kernel's refusal is the one that programs know
        to, flow = Address(name, port), Endpoint("127.0.0.1", 0)
        direct = choice.worker().is_direct(flow_to(flow, to), choice.origin(), to)
        return None if direct else to

    def _begin(self, to: Address) -> None:
        attempt = self._attempt
        if attempt is not None:
            number = errno.EISCONN if attempt.done and not attempt.error else errno.EALREADY
            if not attempt.done or not attempt.error:
                raise OSError(number, os.strerror(number))
            self._raise(self.getsockopt(_std.SOL_SOCKET, _std.SO_ERROR))
        worker, timeout = choice.worker(), self.gettimeout()
        self.settimeout(0)
        try:
            number = super().connect_ex(worker.parking.address(self.family))
        finally:
            self.settimeout(timeout)
        if number != errno.EINPROGRESS:
            raise OSError(number, os.strerror(number))
        host, port = super().getsockname()[:2]
        self._attempt = worker.connect(self, Endpoint(host, port), to, choice.origin())
        self._attempt.callbacks += self._callbacks

    def _raise(self, number: int) -> None:
        if number == NAME_UNKNOWN:
            raise _std.gaierror(_std.EAI_NONAME, "Name or service not known")
        if number:
            raise OSError(number, os.strerror(number))

    def _session(self) -> MobileSession | None:
        if self._call is not None:
            return self._call[1]
        return self._attempt.session if self._attempt is not None else None

    def _may_be_carried(self) -> bool:
        return self.family in INTERNET and choice.by_tunnels()


def _close_all() -> None:
    """Close what a program that ends has left open, as the kernel would: what was sent is then delivered."""
    for sock in list(_open):
        if sock._session() is not None:
            sock._real_close()


atexit.register(_close_all)  # before the worker drains: this was registered later


def is_local(host: str) -> bool:
    """Say whether an address never leaves this machine or its link."""
    if host in ("", "localhost", "<broadcast>") or host.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast


def name_on_the_wire(host: str) -> str | None:
    """Return a name as the proxy is told it, or None where it is none."""
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        return None
    return name if len(name) <= MAX_NAME_BYTES and "\0" not in name else None


def _tuple(address: Address) -> Any:
    return (address.host, address.port, 0, 0) if ":" in address.host else (address.host, address.port)
