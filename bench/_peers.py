"""The tunnels that are compared: each function brings one up on the ground, mh <-> an.

How each is made: Debian's openvpn (no DCO, AES-256-GCM, TLS with throw-away certificates), Debian's
wireguard-go, and the newest one: that of Debian's unstable, as scripts/newest-wireguard-go has put it into build/peers,
or what WIREGUARD_GO names. A peer that is not there is reported as missing, never replaced by an old figure.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from bench._ground import AN, ANCHOR, MH, TARGET, Ground, answers, until
from sojourn.lab import namespaces
from sojourn.lab.daemons import set_keys

Peer = Callable[[Ground], None]
NEWEST_WIREGUARD_GO = "build/peers/usr/bin/wireguard-go"


class Missing(Exception):
    """The peer is not on this machine."""


def bare(built: Ground) -> None:
    """Forwarding and masquerading alone."""
    until(lambda: answers(built), "bare path")


def sojourn(built: Ground) -> None:
    """A sealed tunnel of ours, set up by the command line."""
    _sojourn(built)


def sojourn_python(built: Ground) -> None:
    """The same with the Python engine at both ends."""
    os.environ["SOJOURN_ENGINE"] = "python"
    try:
        _sojourn(built)
    finally:
        del os.environ["SOJOURN_ENGINE"]


def sojourn_chacha20(built: Ground) -> None:
    """The same with ChaCha20-Poly1305, as on a processor without AES."""
    os.environ["SOJOURN_AEAD"] = "chacha20-poly1305"
    try:
        _sojourn(built)
    finally:
        del os.environ["SOJOURN_AEAD"]


def sojourn_plain(built: Ground) -> None:
    """A plain tunnel of ours."""
    _sojourn(built, "plain")


def _sojourn(built: Ground, tunnels: str = "sealed") -> None:
    program = (sys.executable, "-m", "sojourn")
    anchor, host = built.folder / "anchor", built.folder / "host"
    said = built.run(AN, *program, "init", "--config-dir", str(anchor), "--address", ANCHOR, "--name", "bench")
    set_keys(anchor / "anchor.toml", uplink='"an1"', plain_tunnels="true" if tunnels == "plain" else "false")
    built.run(MH, *program, "join", said.strip().splitlines()[-1], "--config-dir", str(host), "--name", "bench")
    if tunnels == "plain":
        set_keys(host / "host.toml", tunnels='"plain"')
    socket = str(built.folder / "host.sock")
    built.start(AN, "anchor", *program, "anchor", "--config-dir", str(anchor), "--socket",
                str(built.folder / "anchor.sock")).wait_for("ready", 20)  # fmt: skip
    built.start(MH, "host", *program, "host", "--config-dir", str(host), "--socket", socket).wait_for("ready", 20)

    def associated() -> bool:
        said = built.run(MH, *program, "status", "--json", "--socket", socket, check=False)
        return '"associated"' in said and json.loads(said)["state"] == "associated"

    until(associated, "association")
    until(lambda: answers(built), "sojourn")


def openvpn(built: Ground) -> None:
    """Debian's OpenVPN."""
    if shutil.which("openvpn") is None:
        raise Missing("openvpn is not installed")
    pki = _pki(built.folder / "pki")
    common = [
        "openvpn", "--dev-type", "tun", "--proto", "udp", "--port", "1194", "--data-ciphers", "AES-256-GCM",
        "--disable-dco", "--sndbuf", "4194304", "--rcvbuf", "4194304", "--txqueuelen", "1000", "--fast-io",
        "--allow-compression", "no", "--ca", f"{pki}/ca.crt", "--verb", "3",
    ]  # fmt: skip
    built.start(AN, "ovpn-an", *common, "--dev", "ovan", "--local", ANCHOR, "--server", "10.200.0.0", "255.255.255.0",
                "--topology", "subnet", "--dh", "none", "--cert", f"{pki}/an.crt", "--key", f"{pki}/an.key",
                ).wait_for("Initialization Sequence Completed", 15)  # fmt: skip
    built.start(MH, "ovpn-mh", *common, "--dev", "ovmh", "--client", "--nobind", "--remote", ANCHOR, "--cert",
                f"{pki}/mh.crt", "--key", f"{pki}/mh.key", "--remote-cert-tls", "server", "--route", "198.18.0.0",
                "255.255.255.0").wait_for("Initialization Sequence Completed", 15)  # fmt: skip
    until(lambda: answers(built), "openvpn")


def _pki(folder: Path) -> Path:
    folder.mkdir()
    ec = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    lines = [f"openssl req -x509 {ec} -keyout ca.key -out ca.crt -subj /CN=bench -days 30"]
    for name, usage in (("an", "serverAuth"), ("mh", "clientAuth")):
        lines.append(f"openssl req {ec} -keyout {name}.key -out {name}.csr -subj /CN={name}")
        lines.append(f"printf 'extendedKeyUsage={usage}\\nkeyUsage=digitalSignature\\n' > {name}.ext")
        lines.append(f"openssl x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 "
                     f"-extfile {name}.ext -out {name}.crt")  # fmt: skip
    namespaces.execute(["sh", "-ec", f"cd {folder}; " + "; ".join(lines)])
    return folder


def wireguard_go_debian(built: Ground) -> None:
    """Debian's wireguard-go (2022, before GSO)."""
    _wireguard(built, shutil.which("wireguard-go"))


def wireguard_go_named(built: Ground) -> None:
    """The newest, or the one that WIREGUARD_GO names."""
    _wireguard(built, os.environ.get("WIREGUARD_GO", NEWEST_WIREGUARD_GO))


def _wireguard(built: Ground, program: str | None) -> None:
    if program is None or not os.access(program, os.X_OK):
        raise Missing(f"wireguard-go is not {f'at {program}' if program else 'installed'}: make bench gets it")
    if shutil.which("wg") is None:
        raise Missing("wg (wireguard-tools) is not installed: make bench gets it")
    keys: dict[str, tuple[Path, str]] = {}
    for name in ("an", "mh"):
        private = namespaces.execute(["wg", "genkey"])
        path = built.folder / f"{name}.wgkey"
        path.write_text(private)
        keys[name] = (path, namespaces.execute(["wg", "pubkey"], stdin=private).strip())
    for namespace, name in ((AN, "an"), (MH, "mh")):
        device = f"{namespace[:10]}w{name}"  # the control socket in /run/wireguard has the device's name
        built.start(namespace, f"wg-{name}", program, "-f", device)
        until(lambda device=device, namespace=namespace: device in built.run(namespace, "ip", "link"), device)  # type: ignore[misc]
        until(lambda device=device: Path(f"/run/wireguard/{device}.sock").exists(), device)  # type: ignore[misc]
        listen = ["listen-port", "51820"] if name == "an" else []
        other = keys["mh" if name == "an" else "an"][1]
        more = ["allowed-ips", "10.200.0.2/32"] if name == "an" else [
            "allowed-ips", "0.0.0.0/0", "endpoint", f"{ANCHOR}:51820"]  # fmt: skip
        built.run(namespace, "wg", "set", device, *listen, "private-key", str(keys[name][0]), "peer", other, *more)
        address = "10.200.0.1/24" if name == "an" else "10.200.0.2/24"
        namespaces.ip(namespace, [f"addr add {address} dev {device}", f"link set {device} mtu 1420 up"])
        if name == "mh":
            namespaces.ip(MH, [f"route add {TARGET}/32 dev {device}"])
    until(lambda: answers(built), "wireguard-go")


PEERS: dict[str, Peer] = {
    "bare": bare,
    "sojourn": sojourn,
    "sojourn-python": sojourn_python,
    "sojourn-chacha20": sojourn_chacha20,
    "openvpn": openvpn,
    "wireguard-go-debian": wireguard_go_debian,
    "wireguard-go-named": wireguard_go_named,
}
USUAL = ",".join(name for name in PEERS if name != "sojourn-chacha20")
"""What a bench that is not about ciphers compares."""
