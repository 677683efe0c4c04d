"""Networks that are put aside: control does not hear of them, and what is excluded is remembered."""

from pathlib import Path

from sojourn.control.network_use import NetworkUse
from sojourn.daemon.put_aside import PutAside
from sojourn.model import Network
from sojourn.upmt.events_network import NetworkChanged, NetworkDown, NetworkUp

WIFI = Network("wifi", "wlan0", "10.0.2.2", "10.0.2.1", "wifi")


def test_facts_about_a_network_that_is_put_aside_are_hidden_and_kept_for_later(tmp_path: Path) -> None:
    aside = PutAside(tmp_path / "host.excluded")
    assert not aside.hides(NetworkUp(WIFI))
    aside.put("wifi", NetworkUse.PAUSED, WIFI)
    moved = Network("wifi", "wlan0", "10.0.2.9", "10.0.2.1", "wifi")
    assert aside.hides(NetworkChanged(moved, "another address"))
    assert aside.rows() == [(moved, NetworkUse.PAUSED)]
    assert aside.take_back("wifi") == moved
    assert not aside.hides(NetworkDown("wifi", "gone"))


def test_one_that_went_meanwhile_is_not_there_when_it_is_taken_back(tmp_path: Path) -> None:
    aside = PutAside(tmp_path / "host.excluded")
    aside.put("wifi", NetworkUse.PAUSED, WIFI)
    assert aside.hides(NetworkDown("wifi", "gone"))
    assert aside.rows() == []
    assert aside.take_back("wifi") is None


def test_what_is_excluded_is_remembered_and_what_is_paused_is_not(tmp_path: Path) -> None:
    file = tmp_path / "host.excluded"
    aside = PutAside(file)
    aside.put("wifi", NetworkUse.EXCLUDED, WIFI)
    aside.put("cell", NetworkUse.PAUSED, None)
    later = PutAside(file)
    assert (later.use_of("wifi"), later.use_of("cell")) == (NetworkUse.EXCLUDED, NetworkUse.ON)
    later.take_back("wifi")
    assert PutAside(file).use_of("wifi") is NetworkUse.ON


def test_a_file_that_cannot_be_read_excludes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "host.excluded"
    file.write_bytes(b"\xff{")
    assert PutAside(file).use_of("wifi") is NetworkUse.ON
