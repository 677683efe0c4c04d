"""The window's server before the real daemons: what it tells, steers and writes, each thing seen at the other end."""

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sojourn.api.client import Client
from sojourn.lab import namespaces, topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab
from sojourn.store.config_dir import ConfigDir
from sojourn.store.scrub import secrets_of, written
from tests.browser.talk import place, talking, until
from tests.browser.window import Window

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def flow(lab: Lab, daemons: Daemons) -> Iterator[str]:
    """A TCP flow that talks all the time; its id."""
    with talking(lab, daemons) as flow:
        yield flow


class Events:
    """The event stream, read as a page does."""

    def __init__(self, window: Window) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", window.port, timeout=10)
        namespaces.inside(window.lab.namespace(window.role), self._connection.connect)
        headers = {"Host": f"127.0.0.1:{window.port}", "Authorization": f"Bearer {window.token}"}
        self._connection.request("GET", "/api/events", headers=headers)
        self._answer = self._connection.getresponse()

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        name = ""
        while line := self._answer.readline().decode().rstrip("\n"):
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)
                self._answer.readline()

    def close(self) -> None:
        """Hang up."""
        self._answer.close()
        self._connection.close()


def test_a_snapshot_tells_what_the_command_line_tells(window: Window, daemons: Daemons, flow: str) -> None:
    with contextlib.closing(Events(window)) as events:
        name, told = next(iter(events))
    assert (name, told["role"]) == ("snapshot", "host")
    assert {row["name"] for row in told["networks"]} == set(daemons.lab.links)
    assert told["status"]["state"] == "associated"
    (row,) = (row for row in told["flows"] if row["id"] == flow)
    (same,) = (row for row in daemons.call("flows") if row["id"] == flow)
    assert row.keys() - same.keys() == {"in_bps", "out_bps"}
    assert (row["network"], row["application"], row["pid"]) == (same["network"], same["application"], same["pid"])
    (newest,) = Client(str(daemons.host_socket)).stream("log", limit=1)
    assert told["log"][-1]["number"] == newest["number"]


def test_a_move_is_told_with_its_reason_and_rates_follow(window: Window, daemons: Daemons, flow: str) -> None:
    here = place(daemons, flow)
    there = next(name for name in daemons.lab.links if name != here)
    with contextlib.closing(Events(window)) as events:
        stream = iter(events)
        next(stream)
        assert window.ask("/api/handover", {"flow": flow, "to": there})[1]["moved"] == 1
        moves, rates = [], []
        for _, delta in stream:
            moves += [move for move in delta.get("moves", ()) if move["flow"] == flow]
            rates += [rate for rate in delta.get("rates", ()) if rate[0] == flow and moves]
            if moves and any(rate[3] > 0 for rate in rates):
                break
    assert moves[0] == {"flow": flow, "from": here, "to": there, "why": "ordered by the user"}
    assert window.ask("/api/undo", {})[1]["undone"] == f"moved 1 flow to {there}"
    until(lambda: place(daemons, flow) == here)


def test_a_flow_is_held_blocked_and_given_back(window: Window, daemons: Daemons, flow: str) -> None:
    def state() -> str:
        return str(next(row["state"] for row in daemons.call("flows") if row["id"] == flow))

    for word, wanted in (("hold", "waiting"), ("policy", "carried")):
        assert window.ask("/api/handover", {"flow": flow, "to": word})[0] == 200
        until(lambda wanted=wanted: state() == wanted)  # type: ignore[misc]
    status, told, _ = window.ask("/api/handover", {"flow": flow, "to": "direct"})
    assert (status, told["error"]["kind"]) == (400, "usage")


def test_a_network_is_paused_and_used_again_and_both_can_be_taken_back(
    window: Window, daemons: Daemons, flow: str
) -> None:
    here, there = "wifi", "cellular"
    until(lambda: place(daemons, flow) == here, 65)  # it may have been pulled by others lately
    assert window.ask("/api/network", {"network": here, "use": "paused"})[1]["before"] == "on"
    until(lambda: place(daemons, flow) == there)
    row = next(row for row in daemons.call("networks") if row["name"] == here)
    assert (row["state"], row["use"], row["tunnel"]) == ("paused", "paused", None)
    assert window.ask("/api/undo", {})[1]["undone"] == f"paused {here}"
    until(lambda: daemons.network_states().get(str(here)) == "up")
    assert window.ask("/api/network", {"network": "nowhere", "use": "on"})[0] == 400
    assert window.ask("/api/network", {"network": here, "use": "sideways"})[0] == 400
    until(lambda: place(daemons, flow) == here, 30)


def test_policies_are_tried_written_and_taken_back(window: Window, daemons: Daemons, flow: str) -> None:
    file = daemons.host_folder / "host.toml"
    file.write_text(file.read_text() + "\n# a comment of mine\n")
    here = place(daemons, flow)
    there = next(name for name in daemons.lab.links if name != here)
    before = window.ask("/api/policies")[1]
    assert before["text"] == file.read_text()
    table = {"name": "seven", "port": 7001, "networks": [there]}
    body = {"hash": before["hash"], "edits": [{"op": "add", "at": len(before["policies"]), "table": table}]}
    tried = window.ask("/api/policies/test", body)[1]
    assert (flow, here, there) in {(move["flow"]["id"], move["from"], move["to"]) for move in tried["moves"]}
    assert file.read_text() == before["text"], "trying writes nothing"
    mode = file.stat().st_mode
    saved = window.ask("/api/policies/save", body)[1]
    until(lambda: place(daemons, flow) == there)
    assert file.read_text() == tried["text"]
    assert "# a comment of mine\n" in file.read_text()
    assert file.stat().st_mode == mode
    assert window.ask("/api/policies")[1]["hash"] == saved["hash"]
    status, told, _ = window.ask("/api/policies/save", body)
    assert (status, told["error"]["kind"]) == (409, "changed")
    wrong = {"hash": saved["hash"], "edits": [{"op": "set", "at": 0, "table": {"networks": 7}}]}
    status, told, _ = window.ask("/api/policies/save", wrong)
    assert (status, told["error"]["kind"]) == (400, "usage")
    assert window.ask("/api/undo", {})[1]["undone"] == "changed the policies"
    assert file.read_text() == before["text"]
    until(lambda: place(daemons, flow) == here, 30)


def test_the_past_is_told(window: Window, daemons: Daemons, flow: str) -> None:
    def known() -> Any:  # noqa: ANN401
        told = window.ask("/api/history?points=20")[1]
        return told if any(any(columns["rtt_ms"]) for columns in told["networks"].values()) else None

    told = until(known, 20)
    assert set(told["networks"]) <= set(daemons.lab.links)
    here = place(daemons, flow)
    there = next(name for name in daemons.lab.links if name != here)

    def sent() -> dict[str, int]:
        rows = window.ask("/api/usage")[1]["rows"]
        return {name: sum(row["bytes_out"] for row in rows if row["network"] == name) for name in daemons.lab.links}

    # A move is a time to look, and what was carried before it counts for the network that carried it.
    daemons.call("handover", flow=flow, to=there)
    until(lambda: sent()[there])
    daemons.call("handover", flow=flow, to="policy")
    until(lambda: place(daemons, flow) == here)
    before = sent()[str(here)]
    time.sleep(1.5)
    daemons.call("handover", flow=flow, to=there)
    until(lambda: sent()[str(here)] - before > 3_000, 5)
    daemons.call("handover", flow=flow, to="policy")
    usage = window.ask("/api/usage")[1]
    assert {row["month"] for row in usage["rows"]} == {usage["month"]}
    assert all(row["application"] for row in usage["rows"] if row["bytes_out"] and row["network"])
    log = window.ask("/api/log?limit=5")[1]["entries"]
    assert len(log) == 5
    older = window.ask(f"/api/log?before={log[0]['number']}&limit=2")[1]["entries"]
    assert [entry["number"] for entry in older] == [log[0]["number"] - 2, log[0]["number"] - 1]


def test_the_anchor_has_a_window_too(lab: Lab, daemons: Daemons, flow: str) -> None:
    window = Window(lab, topology.ANCHOR, daemons.anchor_socket, "--anchor")
    try:
        assert window.ask("/api/about")[1]["role"] == "anchor"
        with contextlib.closing(Events(window)) as events:
            stream = iter(events)
            _, told = next(stream)
            assert told["role"] == "anchor"
            hosts, flows = {row["name"]: row for row in told["hosts"]}, {row["id"]: row for row in told["flows"]}
            for _, delta in stream:
                hosts |= {row["name"]: row for row in delta.get("hosts", ())}
                flows |= {row["id"]: row for row in delta.get("flows", ())}
                if flow in flows and hosts["laptop"]["flows"] and hosts["laptop"]["paths"]:
                    break
        assert flows[flow]["host"] == "laptop"
        assert hosts["laptop"]["state"] == "associated"
        invited = window.ask("/api/anchor/token", {"name": "phone"})[1]
        assert invited["token"]
        assert invited["qr_svg"].startswith("<svg")
        assert (
            window.ask("/api/anchor/expose", {"protocol": "tcp", "port": 22, "public_port": 2222, "host": "laptop"})[0]
            == 200
        )
        assert window.ask("/api/anchor/unexpose", {"protocol": "tcp", "public_port": 2222})[0] == 200
        assert window.ask("/api/anchor/revoke", {"name": "phone"})[0] == 200
        before = daemons.status()["vipa"]
        assert window.ask("/api/anchor/end", {"name": "laptop"})[0] == 200
        assert window.ask("/api/anchor/end", {"name": "nobody"})[0] == 400
        entries = Client(str(daemons.anchor_socket)).stream("log", limit=10)
        assert any((entry["event"], entry["network"]) == ("ended", "laptop") for entry in entries)
        until(lambda: daemons.status()["state"] == "associated" and daemons.status()["vipa"], 20)
        assert before
        assert invited["token"] not in window.child.output()
    finally:
        window.stop()


def test_no_secret_reaches_the_page_or_a_log(window: Window, daemons: Daemons, flow: str) -> None:
    assert flow
    secrets = secrets_of(ConfigDir(str(daemons.host_folder))) | secrets_of(ConfigDir(str(daemons.anchor_folder)))
    assert len(secrets) >= 6
    with contextlib.closing(Events(window)) as events:
        told = [json.dumps(next(iter(events)))]
    for path in ("about", "policies", "history?points=20", "usage", "log?limit=200"):
        status, answer, headers = window.ask(f"/api/{path}")
        assert status == 200, path
        told.append(json.dumps(answer) + json.dumps(headers))
    said = {log.name: log.read_text(errors="replace") for log in daemons.lab.folder.glob("*.log")}
    assert len(said) >= 3, "both daemons' and the window's"
    everything = "\n".join([*told, *(text.replace(window.address, "") for text in said.values())])
    assert [form for secret in secrets for form in written(secret) if form in everything] == []
    assert window.token not in everything
    assert "Traceback" not in window.child.output()
