"""Each promise of confine.py, proved from inside a child that was confined."""

import ctypes
import errno
import os
import platform
import re
import resource
import socket
import struct
import threading
from collections.abc import Callable
from fcntl import ioctl
from functools import partial
from pathlib import Path

import pytest

from sojourn.linux import confine

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: nothing to take away from anyone else")
needs_filter = pytest.mark.skipif(platform.machine() not in confine.ARCHITECTURES, reason="no filter for this machine")


def confined(body: Callable[[], object]) -> str:
    """Run `body` in a confined child and return the repr of what it returned or raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            confine.confine()
            answer = repr(body())
        except BaseException as error:
            answer = repr(error)
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        answer = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    return answer


def call(number: int, *arguments: int) -> str:
    """Make a system call with harmless arguments; return the name of its error, or its result."""
    ctypes.set_errno(0)
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(argument) for argument in padded])
    return errno.errorcode[ctypes.get_errno()] if result < 0 else str(result)


def status_field(name: str) -> str:
    text = Path("/proc/self/status").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name}:"))


@needs_root
@needs_filter
def test_every_step_is_done_as_root_on_this_machine_and_can_be_done_twice() -> None:
    assert "missing=()" in repr(confine_in_child())
    assert "missing=()" in confined(confine.confine)


def confine_in_child() -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, repr(confine.confine()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return answer


@needs_filter
@pytest.mark.parametrize("name", sorted(confine.FORBIDDEN))
def test_a_forbidden_system_call_is_refused_before_its_arguments_are_looked_at(name: str) -> None:
    number = confine.FORBIDDEN[name][confine.ARCHITECTURES[platform.machine()].column]
    if number is None:
        pytest.skip(f"{platform.machine()} has no {name}")
    assert confined(lambda: call(number, -1, -1, -1, -1, -1)) == repr("EPERM")


@needs_filter
def test_of_the_bpf_calls_only_those_on_what_one_was_given_are_left() -> None:
    number = confine.ARCHITECTURES[platform.machine()].bpf
    answers = [confined(partial(call, number, command, 0, 0)) for command in range(36)]
    allowed = {command for command, answer in enumerate(answers) if answer != repr("EPERM")}
    assert allowed == set(confine.BPF_COMMANDS) == {1, 2, 3, 4, 28}


@needs_filter
def test_a_process_cannot_be_started_by_any_of_the_ways_python_has() -> None:
    assert "PermissionError" in confined(lambda: os.execv("/bin/true", ["true"]))
    assert "PermissionError" in confined(os.fork)
    assert "PermissionError" in confined(lambda: os.posix_spawn("/bin/true", ["true"], {}))


@needs_filter
def test_threads_can_still_be_started_and_are_confined_too() -> None:
    def body() -> list[str]:
        answers: list[str] = []
        number = confine.FORBIDDEN["unshare"][confine.ARCHITECTURES[platform.machine()].column]
        assert number is not None
        thread = threading.Thread(target=lambda: answers.append(call(number, 0)))
        thread.start()
        thread.join()
        return answers

    assert confined(body) == repr(["EPERM"])


@needs_filter
def test_a_thread_that_ran_before_is_confined_with_the_others() -> None:
    number = confine.FORBIDDEN["unshare"][confine.ARCHITECTURES[platform.machine()].column]
    assert number is not None
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        ready, answers = threading.Event(), list[str]()

        def wait_and_call() -> None:
            ready.wait()
            answers.append(call(number, 0))

        thread = threading.Thread(target=wait_and_call)
        thread.start()
        confine.confine()
        ready.set()
        thread.join()
        os.write(writing, answers[0].encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        assert stream.read() == "EPERM"
    os.waitpid(child, 0)


@needs_root
def test_two_capabilities_are_left_and_none_can_come_back() -> None:
    two = f"{1 << confine.CAP_NET_ADMIN | 1 << confine.CAP_NET_RAW:016x}"
    for field in ("CapEff", "CapPrm", "CapBnd"):
        assert confined(partial(status_field, field)) == repr(two)
    for field in ("CapInh", "CapAmb"):
        assert confined(partial(status_field, field)) == repr("0" * 16)
    assert confined(lambda: status_field("NoNewPrivs")) == repr("1")


def test_keys_do_not_get_into_core_files() -> None:
    assert confined(lambda: resource.getrlimit(resource.RLIMIT_CORE)) == repr((0, 0))
    assert confined(lambda: libc.prctl(3, 0, 0, 0, 0)) == "0"  # PR_GET_DUMPABLE


@needs_root
def test_udp_sockets_still_open_bound_to_an_interface() -> None:
    def body() -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM):
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
            udp.setsockopt(socket.SOL_SOCKET, 36, 1)  # SO_MARK, CAP_NET_ADMIN's
            udp.bind(("127.0.0.1", 0))
            return udp.sendto(b"x", udp.getsockname())

    assert confined(body) == "1"


@needs_root
@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="needs /dev/net/tun")
def test_a_tun_device_still_opens() -> None:
    def body() -> str:
        tun = os.open("/dev/net/tun", os.O_RDWR)
        request = struct.pack("16sH22x", b"sjd-confine%d", 0x0001 | 0x1000)  # IFF_TUN | IFF_NO_PI
        answer: bytes = ioctl(tun, 0x400454CA, request)
        return answer[:11].decode()

    assert confined(body) == repr("sjd-confine")


@needs_filter
def test_a_packet_socket_is_refused_although_the_capability_is_there() -> None:
    assert "EAFNOSUPPORT" in confined(
        lambda: errno.errorcode[_error(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))]
    )


def _error(attempt: Callable[[], object]) -> int:
    with pytest.raises(OSError) as raised:
        attempt()
    assert raised.value.errno is not None
    return raised.value.errno


def test_a_machine_without_a_filter_says_so_and_the_rest_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    answer = confined(confine.confine)
    assert "system call filter: no filter was written for riscv64" in answer
    assert "no new privileges" in answer


def test_the_numbers_are_those_of_the_kernels_headers() -> None:
    for column, header in ((0, "x86_64-linux-gnu/asm/unistd_64.h"), (1, "asm-generic/unistd.h")):
        path = Path("/usr/include") / header
        if not path.exists():
            pytest.skip(f"needs {path} (linux-libc-dev)")
        defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text()))
        for name, numbers in confine.FORBIDDEN.items():
            expected = defined.get(name)
            assert numbers[column] == (int(expected) if expected else None), (header, name)
        machine = confine.ARCHITECTURES[("x86_64", "aarch64")[column]]
        for name in ("seccomp", "socket", "clone", "clone3", "bpf"):
            assert getattr(machine, name) == int(defined[name])


def test_every_jump_of_the_filter_stays_inside_it_and_it_ends_in_a_return() -> None:
    for architecture in confine.ARCHITECTURES.values():
        code = list(struct.iter_unpack("=HBBI", confine.program(architecture)))
        assert len(code) < 4096
        for place, (operation, if_true, if_false, _) in enumerate(code):
            assert place + 1 + max(if_true, if_false) < len(code) or operation == 0x06
        assert code[-1] == (0x06, 0, 0, 0x7FFF0000)


def verdict(architecture: confine.Architecture, number: int, argument: int = 0, audit: int | None = None) -> int:
    """Run the filter as the kernel would (classic BPF, as much of it as is used)."""
    data = struct.pack("=iIQ6Q", number, architecture.audit if audit is None else audit, 0, argument, 0, 0, 0, 0, 0)
    code = list(struct.iter_unpack("=HBBI", confine.program(architecture)))
    place, accumulator = 0, 0
    while True:
        operation, if_true, if_false, operand = code[place]
        place += 1
        if operation == 0x06:
            return int(operand)
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", data, operand)[0]
            continue
        met = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}[operation]
        place += if_true if met else if_false


@pytest.mark.parametrize("machine", sorted(confine.ARCHITECTURES))
def test_the_filter_decides_as_its_table_says_on_either_machine(machine: str) -> None:
    architecture = confine.ARCHITECTURES[machine]
    allow, refuse = 0x7FFF0000, 0x00050000
    forbidden = {numbers[architecture.column] for numbers in confine.FORBIDDEN.values()} - {None}
    special = {architecture.socket, architecture.clone, architecture.clone3, architecture.bpf}
    for number in range(500):
        if number not in special:
            assert verdict(architecture, number) == (refuse | errno.EPERM if number in forbidden else allow), number
    assert verdict(architecture, architecture.clone3) == refuse | errno.ENOSYS
    assert verdict(architecture, architecture.clone, 0x3D0F00) == allow
    assert verdict(architecture, architecture.clone, 17) == refuse | errno.EPERM
    assert [family for family in range(64) if verdict(architecture, architecture.socket, family) == allow] == [
        socket.AF_UNIX,
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_NETLINK,
    ]
    allowed = [command for command in range(64) if verdict(architecture, architecture.bpf, command) == allow]
    assert allowed == list(confine.BPF_COMMANDS)
    assert verdict(architecture, architecture.bpf, 5) == refuse | errno.EPERM  # to load a program
    assert verdict(architecture, 0, audit=0x40000003) == 0x80000000  # a 32-bit call: kill
    if machine == "x86_64":
        assert verdict(architecture, 0x40000000) == refuse | errno.EPERM  # x32
