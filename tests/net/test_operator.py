"""What an operator looks at, of real daemons: figures, the live view, and a report that holds no secret.

mh --- nat0, nat1 --- core --- an 45.0.0.1 --- ch 86.0.0.1
"""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sojourn.api.metrics import CATALOGUE
from sojourn.lab import namespaces
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab, Topology
from sojourn.store.config_dir import ConfigDir
from sojourn.store.scrub import secrets_of, written
from tests.net.standing import PATIENCE, Sockets, eventually, own_prefix, sojourn_at, standing

pytestmark = pytest.mark.net

CORRESPONDENT = "86.0.0.1"
PLACE = "127.0.0.1:9464"
SCRAPE = f"""
import urllib.request
with urllib.request.urlopen("http://{PLACE}/metrics", timeout=10) as answer:
    print(answer.read().decode(), end="")
"""
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def daemons() -> Iterator[Daemons]:
    with standing(Topology(prefix=f"{own_prefix()}o")) as lab:
        made = Daemons(lab)
        made.set_up()
        for role in ("mh", "an"):
            made.append(role, f'\n[metrics]\nlisten = "{PLACE}"\n')
        made.start()
        yield made
        made.stop()


@pytest.fixture
def sockets(daemons: Daemons) -> Iterator[Sockets]:
    made = Sockets(daemons.lab)
    yield made
    made.close()


def scraped(lab: Lab, role: str) -> Values:
    text = lab.run(role, sys.executable, "-c", SCRAPE)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(values: Values, name: str, **labels: str) -> float:
    return values.get((name, frozenset(labels.items())), 0.0)


def families(values: Values) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) if name not in CATALOGUE else name for name, _ in values}


def test_both_tell_prometheus_how_they_are_and_what_a_handover_cost(daemons: Daemons, sockets: Sockets) -> None:
    lab = daemons.lab
    caller, listener = sockets.at("mh"), sockets.at("ch", port=7001)
    caller.sendto(b"here I am", (CORRESPONDENT, 7001))
    _, mapped = listener.recvfrom(100)
    active = next(row["name"] for row in daemons.status()["networks"] if row["default"])
    other = next(row["name"] for row in daemons.status()["networks"] if not row["default"])
    before = scraped(lab, "mh")
    assert value(before, "sojourn_associated") == value(before, "sojourn_flows") == 1
    assert value(before, "sojourn_network_default", network=active) == 1

    listener.sendto(b"and I", mapped)
    assert caller.recv(100) == b"and I"
    daemons.hand_over(other)

    def moved() -> bool:
        for _ in range(5):
            caller.sendto(b"still here", (CORRESPONDENT, 7001))
            listener.sendto(b"still here, too", mapped)
        return value(scraped(lab, "mh"), "sojourn_handover_gap_seconds_count") >= 1

    eventually("a gap was measured", moved)
    after = scraped(lab, "mh")
    assert value(after, "sojourn_handovers_total", network=other) == 1
    assert value(after, "sojourn_handover_flows_total") >= 1
    assert 0 < value(after, "sojourn_handover_gap_seconds_sum") < PATIENCE
    assert value(after, "sojourn_network_state", network=other, state="up") == 1
    assert value(after, "sojourn_tunnel_bytes_total", network=other, direction="out") > 0
    assert 0 < value(after, "sojourn_tunnel_rtt_seconds", network=other) < PATIENCE
    daemons.hand_over(active)


def test_an_anchor_counts_its_hosts_and_no_series_is_one_of_them(daemons: Daemons) -> None:
    eventually("told of its data path", lambda: value(scraped(daemons.lab, "an"), "sojourn_datapath_packets_total",
                                                      direction="in") > 0)  # fmt: skip
    values = scraped(daemons.lab, "an")
    assert value(values, "sojourn_hosts", state="associated") == 1
    assert value(values, "sojourn_tunnels") == len(daemons.lab.topology.access)
    assert value(values, "sojourn_pool_addresses_lent") == 1
    assert value(values, "sojourn_association_events_total", event="associated") >= 1
    vipa = daemons.status()["vipa"]
    assert not [labels for _, labels in values for _, word in labels if vipa in word or word == "host-1"]
    labelled = {label for _, labels in values for label, _ in labels}
    assert labelled <= {label for metric in CATALOGUE.values() for label in metric.labels} | {"le"}


def test_the_exporter_has_what_the_catalogue_says(daemons: Daemons) -> None:
    never = {"sojourn_network_signal_ratio", "sojourn_network_cap_bytes", "sojourn_tunnel_rate_bytes_per_second"}
    for role, place in (("host", "mh"), ("anchor", "an")):
        meant = {name for name, metric in CATALOGUE.items() if role in metric.roles}
        found = families(scraped(daemons.lab, place))
        assert found <= meant
        missing = meant - found - never
        # What has happened to nobody yet has no series: refusals, and what the SOCKS port (off here) does.
        assert not {name for name in missing if "socks" not in name and name != "sojourn_refused_total"}


def test_the_verb_prints_the_same_figures_without_a_port(daemons: Daemons) -> None:
    for socket, role in ((daemons.host_socket, "host"), (daemons.anchor_socket, "anchor")):
        said = sojourn_at(daemons.lab, "mh", "metrics", "--socket", str(socket))
        assert said.returncode == 0
        assert f'role="{role}"' in said.stdout
        assert 'sojourn_process_resident_memory_bytes{process="datapath"}' in said.stdout


def test_a_rendezvous_node_and_a_local_proxy_have_figures_too(daemons: Daemons) -> None:
    lab, node, proxy = daemons.lab, daemons.lab.folder / "node.sock", daemons.lab.folder / "proxy.sock"
    program = [sys.executable, "-m", "sojourn"]
    lab.start("core", "node", [*program, "rendezvous", "--listen", "127.0.0.1", "--socket", str(node)]).wait_for(
        "ready", PATIENCE
    )
    lab.start("mh", "proxy", [*program, "socks", "--config-dir", str(daemons.host_folder), "--socket", str(proxy)]
              ).wait_for("ready", PATIENCE)  # fmt: skip
    said = sojourn_at(lab, "core", "metrics", "--socket", str(node)).stdout
    assert 'role="rendezvous"' in said
    assert "sojourn_rendezvous_triggers 0.0" in said

    def seen() -> bool:
        text = sojourn_at(lab, "mh", "metrics", "--socket", str(proxy)).stdout
        return all(f'sojourn_network_state{{network="{network.name}"' in text for network in lab.topology.access)

    eventually("the proxy's networks are among its figures", seen)
    pictured = sojourn_at(lab, "core", "monitor", "--once", "--every", "0.1", "--socket", str(node)).stdout
    assert pictured.startswith("rendezvous, running")


def test_the_monitor_prints_one_picture_in_a_pipe_for_either_daemon(daemons: Daemons, sockets: Sockets) -> None:
    caller, listener = sockets.at("mh"), sockets.at("ch", port=7002)
    caller.sendto(b"here I am", (CORRESPONDENT, 7002))
    listener.recvfrom(100)
    said = sojourn_at(daemons.lab, "mh", "monitor", "--every", "0.2", "--socket", str(daemons.host_socket)).stdout
    assert said.startswith("host, associated: anchor 45.0.0.1")
    assert all(title in said for title in ("\nNetworks\n", "\nApplications\n", "\nFlows\n", "\nLatest\n"))
    assert f"{CORRESPONDENT}:7002" in said
    assert "\x1b" not in said
    said = sojourn_at(daemons.lab, "an", "monitor", "--every", "0.2", "--socket", str(daemons.anchor_socket)).stdout
    assert said.startswith("anchor, running: 1 of 1 hosts")
    assert "\nHosts\n" in said
    found = sojourn_at(
        daemons.lab, "an", "monitor", "--once", "--json", "--every", "0.2", "--socket", str(daemons.anchor_socket)
    )
    shown = json.loads(found.stdout)
    assert shown["version"] == 1
    assert shown["hosts"][0]["flows"] == len(shown["flows"]) >= 1


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let what we start be interrupted: a shell makes what runs in its background deaf to that, and so its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_the_live_picture_fits_80_columns_follows_a_resize_and_leaves_the_terminal_as_it_was(daemons: Daemons) -> None:
    control, terminal = pty.openpty()
    resize(control, 24, 80)
    argv = [sys.executable, "-m", "sojourn", "monitor", "--every", "0.2", "--socket", str(daemons.host_socket)]
    argv = namespaces.entering(daemons.lab.namespace("mh"), argv)
    # COLUMNS and LINES would stand above what the terminal says; pytest's own workers have them.
    environment = {**os.environ, "TERM": "xterm"}
    for fixed in ("COLUMNS", "LINES"):
        environment.pop(fixed, None)
    process = subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, close_fds=True,
                               start_new_session=True)  # fmt: skip
    os.close(terminal)
    drawn = until(control, "NETWORK", process)
    assert b"\x1b[?1049h" in drawn, "the other screen"
    assert longest_line(drawn) <= 80
    resize(control, 20, 60)
    os.kill(leaf(process.pid), signal.SIGWINCH)
    eventually("a picture of 60 columns", lambda: longest_line(until(control, "NETWORK", process)) <= 60)
    os.kill(leaf(process.pid), signal.SIGINT)
    rest, end = b"", time.monotonic() + PATIENCE
    while process.poll() is None or select.select([control], [], [], 0)[0]:
        assert time.monotonic() < end, rest
        try:
            rest += os.read(control, 65536)
        except OSError:  # nobody is at the other end any more
            break
    assert process.wait(PATIENCE) == 0
    assert b"\x1b[?1049l" in rest, "back to the first screen"
    assert b"\x1b[?25h" in rest, "with its cursor"
    assert b"Traceback" not in rest
    os.close(control)


def test_a_report_holds_no_secret_and_with_a_mask_no_address(daemons: Daemons, tmp_path: Path) -> None:
    for role, folder, socket in (
        ("mh", daemons.host_folder, daemons.host_socket), ("an", daemons.anchor_folder, daemons.anchor_socket)
    ):  # fmt: skip
        secrets = secrets_of(ConfigDir(str(folder)))
        assert len(secrets) >= 3
        daemons.append(role, "".join(f"# {form}\n" for secret in secrets for form in written(secret)))
        where = tmp_path / f"{role}.tar.gz"
        asked = ("bugreport", "--config-dir", str(folder), "--socket", str(socket), "--mask-addresses")
        said = sojourn_at(daemons.lab, role, *asked, "-o", str(where))
        assert (said.returncode, str(where) in said.stdout) == (0, True), said.stderr
        assert where.stat().st_mode & 0o777 == 0o600
        texts = members(where)
        assert {
            "versions.json",
            "doctor.json",
            "config/files.txt",
            "system/rules4.txt",
            "system/nftables.txt",
        } <= texts.keys()
        assert not [name for name, text in texts.items() if text.startswith("not to be had")]
        everything = "\n".join(texts.values())
        leaked = {form for secret in secrets for form in written(secret) if form in everything}
        assert not leaked
        assert "45.0.0.1" not in everything
        assert "<ipv4-1>" in everything
        listed = sojourn_at(daemons.lab, role, *asked, "--list", "--json").stdout
        assert {row["name"] for row in json.loads(listed)} == texts.keys() - {"README.txt"}


def members(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            assert member.mode == 0o600
            found[member.name.partition("/")[2]] = file.read().decode()
        return found


def resize(descriptor: int, lines: int, columns: int) -> None:
    import fcntl
    import struct
    import termios

    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))


def leaf(pid: int) -> int:
    """Return the last of a chain of children: `ip netns exec` may stand before the program."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid


def until(descriptor: int, word: str, process: subprocess.Popen[bytes]) -> bytes:
    """Return what is drawn until a word was there and the picture is complete (nothing more for a moment)."""
    drawn, end = b"", time.monotonic() + PATIENCE
    while word.encode() not in drawn or select.select([descriptor], [], [], 0.1)[0]:
        assert time.monotonic() < end, drawn
        assert process.poll() is None, drawn
        if select.select([descriptor], [], [], 1.0)[0]:
            drawn += os.read(descriptor, 65536)
    return drawn


def longest_line(drawn: bytes) -> int:
    text = re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9])", "", drawn.decode(errors="replace"))
    return max(len(line) for line in re.split(r"[\r\n]+", text))
