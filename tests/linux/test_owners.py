"""Records of bpf/owner.h, read from bytes that are written here as the header lays them out."""

import contextlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import RemoteProtocolError
from sojourn.linux import owners
from sojourn.linux.owners import (
    ARGUMENT,
    BASE_CUT,
    CUT,
    PATH_CUT,
    SCRIPT,
    TEXT_CUT,
    User,
    cgroup_of,
    program_of,
    user_of,
)


def inside_out(path: str) -> bytes:
    return b"".join(name.encode() + b"\0" for name in reversed(path.split("/")) if name)


def execution(path: str = "/usr/bin/python3.11", flags: int = 0, text: str = "", base: str = "") -> bytes:
    return (
        struct.pack("=QII", 7, 1, flags)
        + inside_out(path).ljust(640, b"\0")
        + text.encode().ljust(384, b"\0")
        + inside_out(base).ljust(640, b"\0")
    )


def test_a_program_has_its_path_the_right_way_round() -> None:
    assert program_of(execution("/usr/lib/firefox-esr/firefox-esr")) == ("/usr/lib/firefox-esr/firefox-esr", "")


@pytest.mark.parametrize(
    ("text", "base", "expected"),
    [
        ("/usr/local/bin/backup", "", "/usr/local/bin/backup"),
        ("./backup", "/home/ada/bin", "/home/ada/bin/backup"),
        ("../x/./backup", "/home/ada/bin", "/home/ada/x/backup"),
        ("backup", "", "/backup"),
        ("/dev/fd/3", "/opt/tool", "/opt/tool"),
        ("/dev/fd/3/tool", "/opt", "/opt/tool"),
        ("/dev/fd/3", "", "/dev/fd/3"),
    ],
)
def test_a_script_has_a_whole_path_however_it_was_called(text: str, base: str, expected: str) -> None:
    assert program_of(execution(flags=SCRIPT, text=text, base=base)) == ("/usr/bin/python3.11", expected)


@pytest.mark.parametrize(
    ("program", "argument", "script"),
    [
        ("/usr/bin/python3.11", "backup.py", "/srv/backup.py"),
        ("/usr/bin/dash", "/etc/cron.daily/x", "/etc/cron.daily/x"),
        ("/usr/bin/bash", "-c", ""),
        ("/usr/bin/node", "--version", ""),
        ("/usr/bin/curl", "example.org", ""),
        ("/usr/bin/ssh", "host", ""),
        ("/usr/bin/shred", "file", ""),
    ],
)
def test_an_interpreters_first_argument_is_its_script(program: str, argument: str, script: str) -> None:
    assert program_of(execution(program, ARGUMENT, argument, "/srv")) == (program, script)


def test_paths_without_an_end_are_nobodys() -> None:
    assert program_of(execution("/very/long", PATH_CUT)) == (f"{CUT}/very/long", "")
    assert program_of(execution(flags=SCRIPT | TEXT_CUT, text="/very/lo"))[1] == f"{CUT}/very/lo"
    assert program_of(execution(flags=SCRIPT | BASE_CUT, text="x", base="/deep"))[1] == f"{CUT}/deep/x"


def test_bytes_that_are_no_text_do_not_stop_anything() -> None:
    record = struct.pack("=QII", 7, 1, 0) + b"\xff\xfe\0bin\0".ljust(640, b"\0") + bytes(1024)
    assert program_of(record)[0] == "/bin/\\xff\\xfe"


def test_a_user_is_read_field_by_field() -> None:
    record = struct.pack("=QQQIIII16s", 1, 2, 3, 4, 5, owners.FOREIGN, 0, b"curl\0rest")
    assert user_of(record) == User(1, 2, 3, 4, 5, True, "curl")


def test_a_cgroup_has_its_path_and_the_root_has_one_too() -> None:
    record = struct.pack("=II", 1, 0) + inside_out("/system.slice/ssh.service").ljust(768, b"\0")
    assert cgroup_of(record) == "/system.slice/ssh.service"
    assert cgroup_of(struct.pack("=II768x", 1, 0)) == "/"


def test_a_programs_path_becomes_a_key_and_one_that_is_too_long_none() -> None:
    assert owners.program_path("/usr/bin/curl") == b"curl\0bin\0usr\0"
    assert owners.program_path("/" + "x/" * 300) == b""


@pytest.mark.parametrize("read", [user_of, program_of, cgroup_of])
@given(data=st.binary(max_size=2000))
def test_any_bytes_give_a_value_or_a_protocol_error(read: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        read(data)


@given(flags=st.integers(0, 127), rest=st.binary(min_size=1664, max_size=1664))
def test_any_whole_execution_can_be_read(flags: int, rest: bytes) -> None:
    executable, script = program_of(struct.pack("=QII", 1, 1, flags) + rest)
    assert executable == "" or executable[0] in f"/{CUT}"
    assert "\0" not in script
