"""Loads compiled BPF objects through libbpf, and keeps their programs attached by descriptor.

libbpf (Debian: libbpf1) is called by ctypes; nothing is pinned: a program is there as long as somebody has the
descriptor of its link, and no longer. What libbpf says while it works is in the error that is raised.
"""

import contextlib
import ctypes
import os
from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sojourn.errors import NotSupported

LIBRARY: Final = "libbpf.so.1"
OBJECTS: Final = Path(__file__).resolve().parent.parent / "bpf"
"""Where the build puts them."""
_WORDS_KEPT: Final = 40
_P, _I, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
_FUNCTIONS: Final[dict[str, tuple[type[Any], tuple[type[Any], ...]]]] = {
    "bpf_object__open_file": (_P, (_S, _P)),
    "bpf_object__load": (_I, (_P,)),
    "bpf_object__close": (None, (_P,)),  # type: ignore[dict-item]
    "bpf_object__find_map_by_name": (_P, (_P, _S)),
    "bpf_object__find_program_by_name": (_P, (_P, _S)),
    "bpf_map__fd": (_I, (_P,)),
    "bpf_map__set_max_entries": (_I, (_P, ctypes.c_uint32)),
    "bpf_program__fd": (_I, (_P,)),
    "bpf_program__set_autoload": (_I, (_P, ctypes.c_bool)),
    "bpf_program__attach": (_P, (_P,)),
    "bpf_program__attach_cgroup": (_P, (_P, _I)),
    "bpf_link__fd": (_I, (_P,)),
    "bpf_link__destroy": (_I, (_P,)),
}
_Print = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class _Library:
    """libbpf, loaded once."""

    _loaded: "_Library | None" = None

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(LIBRARY, use_errno=True)
        except OSError as error:
            raise NotSupported("BPF", f"{LIBRARY} (apt install libbpf1)") from error
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self.words: deque[str] = deque(maxlen=_WORDS_KEPT)
        libc = ctypes.CDLL(None)
        libc.vsnprintf.argtypes = (_P, ctypes.c_size_t, _S, _P)
        room = ctypes.create_string_buffer(512)

        def say(level: int, form: bytes, arguments: int) -> int:
            if level <= 1:  # warnings and information; debugging is another matter
                libc.vsnprintf(room, len(room), form, arguments)
                self.words.append(room.value.decode(errors="replace").strip())
            return 0

        self._say = _Print(say)
        library.libbpf_set_print(self._say)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - functions of the library
        raise AttributeError(name)

    @classmethod
    def get(cls) -> "_Library":
        if cls._loaded is None:
            cls._loaded = cls()
        return cls._loaded


class BpfObject:
    """One object in the kernel. Descriptors that it gives are the caller's and outlive it."""

    def __init__(self, path: Path, sizes: Mapping[str, int] | None = None, without: Collection[str] = ()) -> None:
        """Load `path` with other numbers of entries in the maps of `sizes`, without some of its programs.

        Raises NotSupported (no library, no file) or OSError with what the kernel or its verifier said.
        """
        if not path.exists():
            raise NotSupported("BPF", f"{path.name}, which was not built (clang and libbpf-dev, then reinstall)")
        self._library = _Library.get()
        self._library.words.clear()
        self._object = self._made(self._library.bpf_object__open_file(os.fsencode(path), None), path.name)
        try:
            for name, entries in (sizes or {}).items():
                self._library.bpf_map__set_max_entries(self._map(name), entries)
            for name in without:
                self._library.bpf_program__set_autoload(self._program(name), False)
            result = self._library.bpf_object__load(self._object)
            if result < 0:
                raise self._error(path.name, -result)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give up the object; what was taken from it stays."""
        object_, self._object = self._object, 0
        if object_:
            self._library.bpf_object__close(object_)

    def map(self, name: str) -> int:
        """Return a descriptor of a map."""
        return os.dup(self._library.bpf_map__fd(self._map(name)))

    def program(self, name: str) -> int:
        """Return a descriptor of a program."""
        return os.dup(self._library.bpf_program__fd(self._program(name)))

    def attach(self, name: str, cgroup: int | None = None) -> int:
        """Attach a program, to a cgroup or to what its section names; return the descriptor of the link."""
        program = self._program(name)
        library = self._library
        library.words.clear()
        ctypes.set_errno(0)
        if cgroup is None:
            link = self._made(library.bpf_program__attach(program), name)
        else:
            link = self._made(library.bpf_program__attach_cgroup(program, cgroup), name)
        try:
            return os.dup(library.bpf_link__fd(link))
        finally:
            library.bpf_link__destroy(link)

    def _map(self, name: str) -> int:
        return self._made(self._library.bpf_object__find_map_by_name(self._object, name.encode()), name)

    def _program(self, name: str) -> int:
        return self._made(self._library.bpf_object__find_program_by_name(self._object, name.encode()), name)

    def _made(self, pointer: int | None, what: str) -> int:
        if not pointer:
            raise self._error(what, ctypes.get_errno())
        return pointer

    def _error(self, what: str, number: int) -> OSError:
        """Make an error of what libbpf has said: its own last words, the verifier's log left out."""
        words = [word for word in self._library.words if word.startswith("libbpf: ") and "Retrying" not in word]
        said = "; ".join(word.removeprefix("libbpf: ") for word in words[-2:])
        return OSError(number, f"{what}: {os.strerror(number)}" + (f" ({said})" if said else ""))


def close_all(descriptors: Collection[int]) -> None:
    """Close descriptors; the programs of links that nobody else has end."""
    for fd in descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)
