"""What the operator's guide says of backups: an anchor comes back from one on another machine, and needs no new token.

mh --- nat0, nat1 --- core --- an      (the other machine: another directory there, after the first one is gone)
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sojourn.lab.daemons import HOST_NAME, Daemons
from sojourn.lab.topology import Topology
from tests.net.conftest import MakeLab
from tests.net.standing import hosts

pytestmark = pytest.mark.net

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "operate.md").read_text()


def backed_up(folder: Path, where: Path) -> Path:
    """Do what the guide says, word by word but for the places; return the archive."""
    copy = re.search(r"^ {4}python3 -c ('.*?')", GUIDE, re.MULTILINE)
    pack = re.search(r"^ {4}(tar -C /etc/sojourn .*)$", GUIDE, re.MULTILINE)
    assert copy is not None
    assert pack is not None
    for program, words in (([sys.executable, "-c"], shlex.split(copy[1])[:1]), ([], shlex.split(pack[1]))):
        placed = [word.replace("/etc/sojourn", str(folder)).replace("/root", str(where)) for word in words]
        subprocess.run([*program, *placed], check=True, capture_output=True)
    return where / "anchor-backup.tar.gz"


def test_an_anchor_comes_back_from_its_backup_and_its_host_needs_no_new_token(make_lab: MakeLab, prefix: str) -> None:
    lab = make_lab(Topology(prefix=prefix))
    daemons = Daemons(lab)
    daemons.set_up()
    daemons.start()
    before = daemons.status()
    where = lab.folder / "backup"
    where.mkdir()
    archive = backed_up(daemons.anchor_folder, where)  # while it runs
    assert daemons.anchor is not None
    daemons.anchor.stop(10.0)
    shutil.rmtree(daemons.anchor_folder)

    daemons.anchor_folder = lab.folder / "another-machine"
    daemons.anchor_folder.mkdir()
    subprocess.run(["tar", "-C", daemons.anchor_folder, "-xzf", archive], check=True)
    daemons.start_anchor()
    daemons.wait_until_associated()
    after = daemons.status()
    assert (after["vipa"], after["vipa6"]) == (before["vipa"], before["vipa6"])
    lab.run("mh", "ping", "-c", "1", "-W", "5", "86.0.0.1")
    assert hosts(daemons)[HOST_NAME]["state"] == "associated"

    daemons.command("an", "anchor", "revoke", HOST_NAME, "--config-dir", str(daemons.anchor_folder),
                    "--socket", str(daemons.anchor_socket))  # fmt: skip
    daemons.wait_until("told that it is revoked", lambda status: status["state"] != "associated", 30.0)
    assert hosts(daemons)[HOST_NAME]["state"] == "revoked"
    daemons.stop()
