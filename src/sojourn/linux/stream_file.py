"""The memory of a session's two copy buffers, in a file without a name: whoever has its descriptor has the bytes."""

import mmap
import os

from sojourn.errors import RemoteProtocolError
from sojourn.msocks.copy_buffer import CopyBuffer
from sojourn.msocks.session import Session


def private_session(size: int) -> Session:
    """Return a session whose copies nobody else shall have; pages that were never written take no memory."""
    out, into = (CopyBuffer(memoryview(mmap.mmap(-1, size))) for _ in range(2))
    return Session(out, into)


class StreamFile:
    """Two rings of `size` bytes. Pages that were never written take no memory."""

    def __init__(self, size: int, fd: int | None = None) -> None:
        """Make one, or use a predecessor's; `fd` is owned from now on. Raises OSError."""
        self.fd = os.memfd_create("sojourn-stream", os.MFD_CLOEXEC) if fd is None else fd
        try:
            if fd is None:
                os.ftruncate(self.fd, 2 * size)
            elif os.fstat(self.fd).st_size != 2 * size:
                raise RemoteProtocolError("a stream file of another size", reason="keeper")
            self._map = mmap.mmap(self.fd, 2 * size)
        except BaseException:
            os.close(self.fd)
            raise
        self._view = memoryview(self._map)
        self._halves = self._view[:size], self._view[size:]
        self.session = Session(CopyBuffer(self._halves[0]), CopyBuffer(self._halves[1]))
        """A session from its beginning; a successor puts the positions in."""

    def close(self) -> None:
        """Give the memory back. The session must not be used any more."""
        for view in (*self._halves, self._view):
            view.release()
        self._map.close()
        os.close(self.fd)
