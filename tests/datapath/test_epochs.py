"""The store of used epochs: nothing is given out twice, whatever dies."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sojourn.datapath.epochs import EpochStore
from sojourn.errors import ConfigError
from sojourn.model import TunnelId

A, B = TunnelId(0xABCDEF), TunnelId(0)


def test_epochs_are_given_out_once_and_in_order() -> None:
    store = EpochStore()
    assert [store.next(A) for _ in range(3)] == [1, 2, 3]
    assert store.next(B) == 1
    assert store.next(A, 1024) == 1024
    assert store.next(A, 7) == 1025
    assert (store.used(A), store.used(TunnelId(9))) == (1025, 0)


def test_what_was_used_reported_and_opened_outlives_the_process(tmp_path: Path) -> None:
    store = EpochStore(tmp_path / "epochs", boot_id="this")
    assert store.was_void
    store.next(A, 7)
    store.note_reported(A, 6)
    store.note_opened(B, 3, 0)
    store.close()
    successor = EpochStore(tmp_path / "epochs", boot_id="this")
    assert not successor.was_void
    assert (successor.used(A), successor.reported(A), successor.opened(A)) == (7, 6, (0, -1))
    assert (successor.used(B), successor.opened(B)) == (0, (3, 0))
    assert successor.next(A) == 8


def test_a_process_that_is_killed_has_stored_what_it_gave_out(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from sojourn.datapath.epochs import EpochStore; "
        "store = EpochStore(sys.argv[1], boot_id='this'); store.next(0xABCDEF, 41); store.next(0xABCDEF); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, tmp_path / "epochs"], env={"PYTHONPATH": "src"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert EpochStore(tmp_path / "epochs", boot_id="this").next(A) == 43


def test_another_boot_makes_the_file_void(tmp_path: Path) -> None:
    EpochStore(tmp_path / "epochs", boot_id="before").next(A, 99)
    store = EpochStore(tmp_path / "epochs", boot_id="after")
    assert store.was_void
    assert store.used(A) == 0


@pytest.mark.parametrize("garbage", [b"", b"SJEPOCH", bytes(1000), b"\xff" * 5000])
def test_a_damaged_file_is_void(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "epochs").write_bytes(garbage)
    store = EpochStore(tmp_path / "epochs", boot_id="this")
    assert store.was_void
    assert store.next(A) == 1


def test_a_record_that_is_still_zero_hides_none_behind_it(tmp_path: Path) -> None:
    store = EpochStore(tmp_path / "epochs", boot_id="this")
    store.note_reported(B, 0)
    store.next(A, 5)
    store.close()
    assert EpochStore(tmp_path / "epochs", boot_id="this").used(A) == 5


def test_the_file_grows_with_the_tunnels_and_is_private(tmp_path: Path) -> None:
    store = EpochStore(tmp_path / "epochs", boot_id="this")
    for index in range(1000):
        store.next(TunnelId(index), index + 1)
    store.close()
    assert (tmp_path / "epochs").stat().st_mode & 0o777 == 0o600
    successor = EpochStore(tmp_path / "epochs", boot_id="this")
    assert all(successor.used(TunnelId(index)) == index + 1 for index in range(1000))


def test_the_kernels_boot_id_is_used_when_none_is_given(tmp_path: Path) -> None:
    EpochStore(tmp_path / "epochs").next(A)
    assert not EpochStore(tmp_path / "epochs").was_void


def test_a_file_that_cannot_be_had_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be written: No such file or directory\. Check the disk"):
        EpochStore(tmp_path / "nowhere" / "epochs")


def test_its_pages_are_there_from_the_start_so_that_a_full_disk_cannot_take_them_away(tmp_path: Path) -> None:
    path = tmp_path / "epochs"
    EpochStore(path).close()
    status = path.stat()
    assert status.st_blocks * 512 >= status.st_size > 4096 * 20
