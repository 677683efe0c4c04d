"""Joining an anchor, staying with it, leaving it, with the real daemons: what goes wrong says so in one line.

mh --- nat0, nat1 --- core --- an 45.0.0.1          ch2 (another mobile host, where there is one) --- natc --- core
"""

import errno
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sojourn.api.client import Client
from sojourn.lab.daemons import HOST_NAME, Daemons
from sojourn.lab.topology import Lab
from sojourn.store.sqlite import SqliteStore
from tests.net.standing import PATIENCE, Sockets, Terminal, hosts, laptop, sojourn_at

pytestmark = pytest.mark.net

CORRESPONDENT = "86.0.0.1"


@pytest.fixture
def daemons(lab: Lab) -> Daemons:
    """Return an anchor and a host that has joined; nothing runs."""
    made = Daemons(lab)
    made.set_up()
    return made


@pytest.fixture
def sockets(lab: Lab) -> Iterator[Sockets]:
    made = Sockets(lab)
    try:
        yield made
    finally:
        made.close()


def anchor(daemons: Daemons, *words: str) -> str:
    """Run `sojourn anchor WORDS` and return the last line that it prints."""
    done = sojourn_at(
        daemons.lab, "an", "anchor", *words, "--config-dir", str(daemons.anchor_folder),
        "--socket", str(daemons.anchor_socket),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def replace_in(daemons: Daemons, file: str, key: str, value: str) -> None:
    path = daemons.host_folder / file
    lines = [f'{key} = "{value}"' if line.startswith(f"{key} = ") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


def said(terminal: Terminal, text: str) -> list[str]:
    """Return the lines of the daemon's own output that hold a text."""
    assert terminal.child is not None
    return [line for line in terminal.child.output().splitlines() if text in line]


# Bad tokens, secrets, keys, and nobody there.


@pytest.mark.parametrize("spoil", [
    lambda token: token[:-5], lambda token: token[:40] + ("A" if token[40] != "A" else "B") + token[41:],
    lambda token: "hello", lambda token: token.replace("sojourn1:", "sojourn9:"),
], ids=["cut off", "one letter wrong", "no token", "of another version"])  # fmt: skip
def test_a_garbled_token_is_refused_in_one_line_and_nothing_is_written(lab: Lab, spoil: Callable[[str], str]) -> None:
    made = sojourn_at(lab, "an", "init", "--config-dir", str(lab.folder / "anchor"), "--address", "45.0.0.1")
    terminal = Terminal(lab, "tablet")
    done = terminal.join(spoil(made.stdout.strip().splitlines()[-1]))
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert "token" in done.stderr
    assert not terminal.folder.exists()


def test_a_wrong_secret_is_said_once_with_the_remedy_and_the_daemon_stays(daemons: Daemons) -> None:
    daemons.start_anchor()
    replace_in(daemons, "credentials", "secret", "00112233445566778899aabbccddeeff")
    terminal = laptop(daemons)
    terminal.start()
    terminal.until("the reason is there", lambda status: status["reason"])
    status = terminal.status()
    assert status["state"] == "offline"
    assert status["vipa"] is None
    assert "Unknown user or wrong secret" in status["reason"]
    assert "sojourn anchor token --name" in status["reason"]
    checked = sojourn_at(daemons.lab, "mh", "status", "--check", "--socket", str(terminal.socket))
    assert checked.returncode == 5
    assert len(said(terminal, "wrong secret")) == 1
    assert hosts(daemons)[HOST_NAME]["state"] == "invited"
    assert terminal.stop() == 0


def test_another_key_at_the_anchor_s_address_gets_not_a_byte_of_sip(daemons: Daemons) -> None:
    daemons.start_anchor()
    replace_in(daemons, "host.toml", "spki", "ab" * 32)
    terminal = laptop(daemons)
    terminal.start()
    terminal.until("the reason is there", lambda status: status["reason"])
    status = terminal.status()
    assert status["state"] == "connecting", "it goes on trying: the right anchor may come back"
    assert "does not hold the key of your anchor" in status["reason"]
    assert "sojourn join" in status["reason"]
    assert "challenge" not in Client(str(daemons.anchor_socket)).call("status")["refused"], "no REGISTER came"
    time.sleep(2.0)  # two attempts later
    assert len(said(terminal, "does not hold the key")) == 1
    assert terminal.stop() == 0


def test_a_host_whose_anchor_is_not_there_says_so_and_associates_when_it_comes(daemons: Daemons) -> None:
    terminal = laptop(daemons)
    terminal.start()
    terminal.until("the reason is there", lambda status: status["reason"])
    status = terminal.status()
    assert status["state"] == "connecting"
    assert "45.0.0.1 port 5061 refuses connections" in status["reason"]
    assert len(said(terminal, "refuses connections")) == 1
    daemons.start_anchor()
    terminal.until_associated()
    assert terminal.status()["reason"] is None


def test_a_token_that_was_used_is_refused_to_a_second_terminal(lab: Lab) -> None:
    daemons = Daemons(lab)
    made = daemons.command("an", "init", "--config-dir", str(daemons.anchor_folder), "--address", "45.0.0.1",
                           "--name", "laptop")  # fmt: skip
    token = made.strip().splitlines()[-1]
    daemons.start_anchor()
    first, second = Terminal(lab, "laptop"), Terminal(lab, "thief", "ch2")
    assert first.join(token).returncode == 0
    assert second.join(token).returncode == 0
    first.start()
    first.until_associated()
    vipa = first.status()["vipa"]
    second.start()
    second.until("the reason is there", lambda status: status["reason"])
    assert second.status()["state"] == "offline"
    assert "belongs to another terminal" in second.status()["reason"]
    assert "sojourn anchor token --name" in second.status()["reason"]
    second.stop()
    # Once the first one has used its own credential, the token's secret is worth nothing at all.
    first.stop()
    first.start()
    first.until_associated()
    second.start()
    second.until("the reason is there", lambda status: status["reason"])
    assert "wrong secret" in second.status()["reason"]
    assert first.status()["state"] == "associated"
    assert first.status()["vipa"] == vipa, "the one that it had before is asked for, and free"


# Credentials, leases and the pool.


def test_the_first_association_replaces_the_one_time_secret_in_a_private_file(daemons: Daemons) -> None:
    credentials = daemons.host_folder / "credentials"
    before = credentials.read_text()
    assert "one_time = true" in before
    daemons.start()
    after = credentials.read_text()
    assert "one_time = false" in after
    secrets = [text.split('secret = "')[1].split('"')[0] for text in (before, after)]
    assert secrets[0] != secrets[1]
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    for folder in (daemons.host_folder, daemons.anchor_folder):
        for file in folder.iterdir():
            if file.is_socket() or not stat.S_IMODE(file.stat().st_mode) & 0o077:
                continue
            content = file.read_bytes()
            assert not any(secret.encode() in content for secret in secrets), f"{file} can be read by others"
    private = {"credentials", "host.epochs", "anchor.key", "anchor.db", "anchor.epochs", "socks.key", "host.datapath"}
    for file in (*daemons.host_folder.iterdir(), *daemons.anchor_folder.iterdir()):
        if file.name in private or file.name.startswith("anchor.db"):
            assert not stat.S_IMODE(file.stat().st_mode) & 0o077, f"{file} is not private"


def test_an_exhausted_pool_is_said_clearly_and_an_address_given_back_is_lent_again(lab: Lab) -> None:
    daemons = Daemons(lab)
    daemons.set_up("--pool", "10.201.0.0/30")
    daemons.start()
    vipa = daemons.status()["vipa"]
    other = Terminal(lab, "tablet", "ch2")
    assert other.join(anchor(daemons, "token", "--name", "tablet")).returncode == 0
    other.start()
    other.until("the reason is there", lambda status: status["reason"])
    assert "No free address" in other.status()["reason"]
    assert "enlarge `pool` in anchor.toml" in other.status()["reason"]
    assert other.status()["state"] == "connecting", "it goes on trying: an address may be given back"
    assert hosts(daemons)["tablet"]["vipa"] is None
    other.stop()
    assert daemons.host is not None
    assert daemons.host.stop(PATIENCE) == 0
    assert hosts(daemons)[HOST_NAME]["vipa"] is None, "a clean stop gives the Vipa back"
    other.start()
    other.until_associated()
    assert other.status()["vipa"] == vipa


def test_a_revoked_host_is_cut_off_and_may_join_anew(daemons: Daemons, sockets: Sockets) -> None:
    daemons.start()
    lab = daemons.lab
    assert "1 received" in lab.run("mh", "ping", "-c", "1", "-W", "10", CORRESPONDENT)
    anchor(daemons, "revoke", HOST_NAME)
    assert hosts(daemons)[HOST_NAME]["state"] == "revoked"
    assert hosts(daemons)[HOST_NAME]["vipa"] is None
    store = SqliteStore(str(daemons.anchor_folder / "anchor.db"))
    record = store.load().subscribers[HOST_NAME]
    store.close()
    assert record.ha1 is None
    assert record.ha1_once is None, "nothing is kept that proves a secret which was ended"
    correspondent, host = sockets.at("ch", port=6001), sockets.at("mh")
    correspondent.settimeout(0.5)
    terminal = laptop(daemons)
    # It is idle: the anchor tells it.
    terminal.until("the host knows", lambda status: status["state"] == "offline", 3.0)
    assert "wrong secret" in terminal.status()["reason"]
    host.sendto(b"still there?", (CORRESPONDENT, 6001))
    with pytest.raises(TimeoutError):
        correspondent.recv(100)
    assert daemons.host is not None
    assert daemons.host.stop(PATIENCE) == 0
    token = anchor(daemons, "token", "--name", HOST_NAME)
    assert sojourn_at(lab, "mh", "join", token, "--force", "--config-dir", str(terminal.folder)).returncode == 0
    terminal.start()
    terminal.until_associated()
    assert "1 received" in lab.run("mh", "ping", "-c", "1", "-W", "10", CORRESPONDENT)


def test_the_control_sockets_are_not_for_everybody(daemons: Daemons) -> None:
    daemons.start()
    for path in (daemons.host_socket, daemons.anchor_socket):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    for path in (
        daemons.host_socket, daemons.anchor_socket, daemons.host_folder / "host.datapath",
        daemons.anchor_folder / "anchor.datapath",
    ):  # fmt: skip
        assert nobody_is_told(path) == errno.EACCES, path


def nobody_is_told(path: Path) -> int:
    """Return the errno that user nobody gets who connects to a socket, 0 where it is let in."""
    child = os.fork()
    if child == 0:  # no exec: nobody may not be allowed to read this Python
        told = 0
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            socket.socket(socket.AF_UNIX).connect(str(path))
        except OSError as error:
            told = error.errno or 255
        finally:
            os._exit(told)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_flood_of_half_open_strangers_does_not_keep_a_host_out(daemons: Daemons, sockets: Sockets) -> None:
    daemons.start_anchor()
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            stranger = sockets.at("ch2", socket.SOCK_STREAM)
            stranger.settimeout(1.0)
            try:
                stranger.connect(("45.0.0.1", 5061))
                stranger.send(b"\x16\x03\x01")
            except OSError:
                stranger.close()
            time.sleep(0.02)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        time.sleep(1.0)
        terminal = laptop(daemons)
        terminal.start()
        terminal.until_associated()
    finally:
        stop.set()
        thread.join()
