"""Full disks cut nobody off: what stands goes on, what cannot be promised is refused with the reason.

mh --- nat0, nat1 --- core --- an 45.0.0.1; both configuration directories are small file systems of their own
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab
from tests.net.standing import PATIENCE, eventually, laptop, processes_of, sojourn_at

pytestmark = pytest.mark.net

CORRESPONDENT = "86.0.0.1"


@pytest.fixture
def daemons(lab: Lab) -> Iterator[Daemons]:
    made = Daemons(lab)
    made.set_up()
    folders = (made.anchor_folder, made.host_folder)
    for folder in folders:
        aside = folder.with_name(f"{folder.name}-aside")
        shutil.copytree(folder, aside)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], check=True)
        shutil.copytree(aside, folder, dirs_exist_ok=True)
    try:
        yield made
    finally:
        for child in (made.host, made.anchor):
            if child is not None:
                child.forget()
        for folder in folders:
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave no room; return what takes it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def test_a_start_on_a_full_or_read_only_disk_is_one_line_with_the_remedy(daemons: Daemons) -> None:
    for role, noun, folder in (("an", "anchor", daemons.anchor_folder), ("mh", "host", daemons.host_folder)):
        words = (noun, "--config-dir", str(folder), "--socket", str(daemons.lab.folder / "one.sock"))
        filler = fill(folder)
        full = sojourn_at(daemons.lab, role, *words)
        filler.unlink()
        remount(folder, "ro")
        read_only = sojourn_at(daemons.lab, role, *words)
        remount(folder, "rw")
        for done, what in (
            (full, "Check the disk's free space"),
            (read_only, "Read-only file system. Put it"),
        ):
            assert done.returncode == 1
            assert what in done.stderr
            assert done.stderr.count("\n") == 1
        assert processes_of(daemons.lab, role) == []


def test_associations_and_flows_go_on_while_disks_are_full_and_a_first_one_waits(daemons: Daemons) -> None:
    lab, terminal = daemons.lab, laptop(daemons)
    daemons.start_anchor()
    filler = fill(daemons.anchor_folder)
    daemons.start_host()
    terminal.until("told why", lambda status: "cannot store anything now" in (status["reason"] or ""))
    assert daemons.host is not None
    assert daemons.host.stop(PATIENCE) == 0
    filler.unlink()
    daemons.start_host()
    daemons.wait_until_associated()
    for folder in (daemons.anchor_folder, daemons.host_folder):
        fill(folder)
    daemons.hand_over("cellular")
    terminal.until("moved", lambda status: "cellular" in {row["name"] for row in status["networks"] if row["default"]})
    for role in ("an", "mh"):
        before = daemons.data_path(role)
        daemons.kill_data_path(role)
        eventually("another data path", lambda role=role, before=before: _other(daemons, role, before))  # type: ignore[misc]
    assert "1 received" in lab.run("mh", "ping", "-c", "1", "-W", "10", CORRESPONDENT)
    assert daemons.anchor is not None
    assert "not stored" in daemons.anchor.output()
    assert daemons.host.stop(PATIENCE) == 0
    assert daemons.anchor.stop(PATIENCE) == 0
    assert processes_of(lab, "mh") == processes_of(lab, "an") == []


def _other(daemons: Daemons, role: str, before: int) -> bool:
    try:
        return daemons.data_path(role) != before
    except namespaces.LabError:  # none at this moment
        return False
