"""What a cgroup's path and an `Origin` tell about a program's name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.model import Origin
from sojourn.policy.names import (
    Container,
    application_name,
    application_names,
    container_names,
    names_of,
    unescape,
    unit_names,
    unit_of,
)

ID = "3f4e" * 16
USER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("/system.slice/ssh.service", "ssh.service"),
        ("/system.slice/system-openvpn.slice/openvpn@office.service", "openvpn@office.service"),
        (f"{USER}/app.slice/app-gnome-firefox-4242.scope", "app-gnome-firefox-4242.scope"),
        ("/system.slice/system-systemd\\x2dfsck.slice/systemd-fsck@dev-disk-by\\x2duuid.service",
         "systemd-fsck@dev-disk-by-uuid.service"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        (f"{USER}/init.scope", "init.scope"),
        ("/system.slice/nginx.service/worker", "nginx.service"),
        ("/", None), ("", None), ("/docker/" + ID, None),
    ],
)  # fmt: skip
def test_the_innermost_service_or_scope_is_the_unit(cgroup: str, unit: str | None) -> None:
    assert unit_of(cgroup) == unit


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (f"/system.slice/docker-{ID}.scope", Container("docker", ID)),
        (f"/docker/{ID}", Container("docker", ID)),
        (f"/docker/{ID}/init.scope", Container("docker", ID)),
        (f"/machine.slice/libpod-{ID}.scope/container", Container("podman", ID)),
        (f"{USER}/user.slice/libpod-{ID}.scope", Container("podman", ID)),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{ID}.scope",
         Container("containerd", ID)),
        (f"/kubepods/besteffort/pod12345678-1234-1234-1234-123456789abc/{ID}", Container("containerd", ID)),
        (f"/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope", Container("crio", ID)),
        ("/lxc.payload.web/system.slice/nginx.service", Container("lxc", "web")),
        ("/lxc/web/init.scope", Container("lxc", "web")),
        ("/machine.slice/machine-debian\\x2d12.scope", Container("nspawn", "debian-12")),
        ("/machine.slice/systemd-nspawn@web.service/payload", Container("nspawn", "web")),
        ("/system.slice/docker.service", None), ("/user.slice/user-1000.slice/session-3.scope", None),
    ],
)  # fmt: skip
def test_a_container_is_known_by_engine_and_id(cgroup: str, container: Container | None) -> None:
    assert names_of(cgroup).container == container


@pytest.mark.parametrize(
    ("cgroup", "flatpak", "snap"),
    [
        (f"{USER}/app.slice/app-flatpak-org.mozilla.firefox-4242.scope", "org.mozilla.firefox", None),
        (f"{USER}/app.slice/flatpak-us.zoom.Zoom-17.scope", "us.zoom.Zoom", None),
        (f"{USER}/app.slice/app-flatpak-org.x.with\\x2ddash-17.scope", "org.x.with-dash", None),
        (f"{USER}/app.slice/snap.firefox.firefox-0c1c2b5e-8e3f-4a3e-9d5c-1b2a3c4d5e6f.scope", None, "firefox"),
        (f"{USER}/app.slice/snap.firefox.firefox.0c1c2b5e.scope", None, "firefox"),
        ("/system.slice/snap.lxd.daemon.service", None, "lxd"),
    ],
)
def test_flatpaks_and_snaps_are_known_by_their_id(cgroup: str, flatpak: str | None, snap: str | None) -> None:
    told = names_of(cgroup)
    assert (told.flatpak, told.snap) == (flatpak, snap)
    assert application_name(Origin(1, "/app/bin/x", cgroup=cgroup)) == (flatpak or snap)


def test_what_was_pinned_has_that_name_alone() -> None:
    origin = Origin(1, "/usr/bin/curl", command="curl", name="work")
    assert application_names(origin) == ("work",)


def test_a_flatpak_is_also_called_by_its_program() -> None:
    names = application_names(Origin(1, "/app/bin/firefox", command="firefox", name="org.mozilla.firefox"))
    assert names == ("org.mozilla.firefox", "firefox")


def test_a_script_has_its_own_name_and_not_its_interpreters() -> None:
    origin = Origin(1, "/usr/bin/python3.11", script="/usr/local/bin/backup.py", command="backup.py")
    assert application_name(origin) == "backup.py"
    assert "python3.11" not in application_names(origin)


def test_a_desktop_application_is_also_called_by_its_id_and_a_service_by_its_unit() -> None:
    maps = Origin(1, "/usr/bin/gjs", cgroup=f"{USER}/app.slice/app-gnome-org.gnome.Maps-4242.scope")
    assert application_names(maps) == ("gjs", "org.gnome.Maps")
    vpn = Origin(2, "/usr/sbin/openvpn", command="openvpn", cgroup="/system.slice/openvpn@office.service")
    assert application_names(vpn) == ("openvpn", "openvpn@office")


def test_a_program_that_nothing_is_known_of_has_no_name() -> None:
    assert application_name(Origin(1)) is None
    assert application_name(None) is None


def test_units_are_called_whole_bare_and_as_their_template() -> None:
    names = unit_names(Origin(1, cgroup="/system.slice/openvpn@office.service"))
    assert names == (
        "openvpn@office.service", "openvpn@office", "openvpn@.service", "openvpn@", "system.slice", "system",
    )  # fmt: skip


def test_containers_are_called_by_id_by_its_beginning_and_by_kind() -> None:
    names = container_names(Origin(1, cgroup=f"/docker/{ID}"))
    assert names == (ID, ID[:12], "docker", f"docker:{ID}", f"docker:{ID[:12]}")


@given(st.text(alphabet=st.sampled_from("/abc.-@\\x2d019_servicecopkdé"), max_size=80) | st.text(max_size=40))
def test_any_path_is_read_without_an_error(cgroup: str) -> None:
    origin = Origin(1, cgroup=cgroup)
    names_of(cgroup)
    application_names(origin)
    unit_names(origin)
    container_names(origin)


def test_an_escape_that_is_no_text_is_left_as_it_is() -> None:
    assert unescape("a\\xff.service") == "a\\xff.service"
    assert unescape("caf\\xc3\\xa9.service") == "café.service"
    assert unescape("é\\x2d") == "é\\x2d"
