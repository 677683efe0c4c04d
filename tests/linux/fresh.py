"""A test in network namespaces of its own: the calling thread's, and named ones that play the other machines.

Names are sjn-PROCESS-NAME, so that several test processes do not meet.
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator

import pytest

CLONE_NEWNET = 0x40000000


def sh(commands: str, namespace: str | None = None) -> str:
    """Run shell commands, one a line, in this thread's namespace or a named one; all must succeed."""
    argv = ["sh", "-ec", commands]
    if namespace is not None:
        argv = ["ip", "netns", "exec", namespace, *argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def fresh_namespace() -> Iterator[None]:
    """Put the calling thread into a new namespace with loopback up, and back afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
        try:
            sh("ip link set lo up")
            yield
        finally:
            assert libc.setns(before, CLONE_NEWNET) == 0
    finally:
        os.close(before)


@contextlib.contextmanager
def named_namespace(name: str) -> Iterator[str]:
    """Make another machine, and remove it afterwards."""
    full = f"sjn-{os.getpid()}-{name}"
    sh(f"ip netns add {full}")
    try:
        sh("ip link set lo up", full)
        yield full
    finally:
        sh(f"ip netns del {full}")


@pytest.fixture
def namespace() -> Iterator[None]:
    with fresh_namespace():
        yield


def kernel_state() -> str:
    """Everything that a machine's owner may have configured, as iproute2 and nft print it."""
    return sh(
        """
        ip rule; ip -6 rule
        ip -4 route show table all; ip -6 route show table all
        ip -o addr show scope global; ip -o link | sed 's/ qlen.*//'
        nft list ruleset
        sysctl -a --pattern '^net.ipv[46].(conf.*(forwarding|accept_ra|accept_redirects|rp_filter)|ip_forward)$'
        """
    )
