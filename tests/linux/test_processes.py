"""What /proc says, and what of it can be believed."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.linux import processes
from sojourn.linux.processes import (
    Pinned,
    describe,
    flatpak_name,
    holder_of,
    name_in_flatpak_info,
    name_of,
    start_of,
    user_of,
)
from sojourn.model import Origin


def test_a_process_has_the_user_as_whom_it_runs() -> None:
    code = "import os, sys; os.geteuid() or os.setresuid(0, 65534, 0); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert user_of(child.pid) == (65534 if os.geteuid() == 0 else os.geteuid())
        child.communicate()
    assert user_of(child.pid) is None
    assert user_of(os.getpid()) == os.geteuid()


def test_a_flatpak_info_has_a_name() -> None:
    assert (
        name_in_flatpak_info("[Application]\nname=org.example.Maps\n[Instance]\ninstance-id=1\n") == "org.example.Maps"
    )


@pytest.mark.parametrize(
    "text", ["", "name=x", "[Application]\nruntime=y", "[Runtime]\nname=z", "\0\0", "[Application\n"]
)
def test_what_is_no_flatpak_info_has_none(text: str) -> None:
    assert name_in_flatpak_info(text) == ""


@given(st.text(max_size=200))
def test_any_text_has_a_name_or_none(text: str) -> None:
    assert len(name_in_flatpak_info(text)) <= 255


def test_a_process_without_flatpak_info_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert flatpak_name(os.getpid()) == ""
    monkeypatch.setattr(processes, "PROC", tmp_path)
    root = tmp_path / "7" / "root"
    root.mkdir(parents=True)
    (root / "secret").write_text("[Application]\nname=stolen")
    (root / ".flatpak-info").symlink_to(root / "secret")
    assert flatpak_name(7) == ""  # a link may lead anywhere
    (root / ".flatpak-info").unlink()
    os.mkfifo(root / ".flatpak-info")
    assert flatpak_name(7) == ""  # and a pipe would not answer
    (root / ".flatpak-info").unlink()
    (root / ".flatpak-info").write_text("[Application]\nname=org.example.Maps")
    assert flatpak_name(7) == "org.example.Maps"


def test_the_holder_of_a_socket_is_found_and_described() -> None:
    with socket.socket() as ours:
        inode = os.fstat(ours.fileno()).st_ino
        pid = holder_of(inode)
        assert pid == os.getpid()
        found = describe(Origin(-inode, uid=12, exact=False), pid, {})
    assert found.executable == os.path.realpath(sys.executable)
    assert (found.owner, found.uid, found.pid, found.exact) == (-inode, 12, pid, False)
    assert found.cgroup.startswith("/")
    assert holder_of(inode) is None


def test_a_process_that_has_gone_leaves_what_is_known() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    found = describe(Origin(-5, uid=12, exact=False), child.pid, {})
    assert (found.executable, found.command, found.uid) == ("", "", 12)
    assert start_of(child.pid) is None


def test_a_name_is_inherited_and_belongs_to_one_process_only() -> None:
    start = start_of(os.getpid())
    assert start is not None
    pins = {Pinned(os.getpid(), start): "call"}
    with subprocess.Popen(["sleep", "10"]) as child:
        try:
            assert name_of(child.pid, pins) == "call"
            assert name_of(child.pid, {Pinned(os.getpid(), start - 1): "other"}) == ""
            assert name_of(child.pid, {}) == ""
        finally:
            child.kill()
    with contextlib.suppress(ProcessLookupError):
        assert name_of(child.pid, pins) == ""
