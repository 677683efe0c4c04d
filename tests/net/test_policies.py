"""Policies with the real daemons: which flow is where, live reload, explain and test, questions, PolicyPush.

mh ==wifi==\
            an --- ch     7001 and 7002: TCP servers that echo
mh ==cell==/
"""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from sojourn.api.client import Client
from sojourn.api.messages import ApiError
from sojourn.lab import topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab, Topology
from tests.net.conftest import MakeLab

pytestmark = pytest.mark.net

SERVE = """
import socket, threading, sys
def serve(port):
    server = socket.create_server(("0.0.0.0", port))
    while True:
        link, _ = server.accept()
        threading.Thread(target=echo, args=(link,), daemon=True).start()
def echo(link):
    while data := link.recv(100):
        link.sendall(data)
for port in (7001, 7002):
    threading.Thread(target=serve, args=(port,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
threading.Event().wait()
"""
TALK = """
import socket, sys, time
link = socket.create_connection(("{}", {}), 10)
link.settimeout(30)
print("ready", flush=True)
while True:
    link.sendall(b"x")
    assert link.recv(1) == b"x"
    time.sleep(0.1)
"""
RULES = """
[[policy]]
name = "calls"
port = 7001
protocol = "tcp"
networks = ["wifi", "cellular"]

[[policy]]
name = "cheap"
port = 7002
networks = ["wifi"]
otherwise = "hold"
"""


class Bench:
    """A lab with two flows, one to each port."""

    def __init__(self, lab: Lab, host: str, anchor: str = "") -> None:
        self.lab = lab
        self.daemons = Daemons(lab)
        self.daemons.set_up()
        self.host_toml = self.daemons.host_folder / "host.toml"
        self.head = self.host_toml.read_text()
        self.write(host)
        if anchor.startswith("\n"):
            self.daemons.append(topology.ANCHOR, anchor)
        elif anchor:
            self.daemons.configure(topology.ANCHOR, resolver=anchor)
        self.daemons.start()
        lab.start(topology.CORRESPONDENT, "serve", ["python3", "-c", SERVE]).wait_for("ready", 10)
        self.talk(7001)
        self.talk(7002)

    def write(self, rules: str) -> None:
        """Put other policies into host.toml, in one step as an editor does. Keys at the top first."""
        new = self.host_toml.with_suffix(".new")
        top = [line for line in rules.splitlines() if line.startswith(("accept", "order"))]
        kept = "".join(f"{line}\n" for line in self.head.splitlines() if not (top and line.startswith("order")))
        rest = [line for line in rules.splitlines() if line not in top]
        new.write_text("\n".join([*top, kept, *rest]) + "\n")
        os.replace(new, self.host_toml)

    def talk(self, port: int) -> None:
        address = self.lab.topology.correspondent.address
        child = self.lab.start(topology.MOBILE_HOST, f"talk{port}", ["python3", "-c", TALK.format(address, port)])
        child.wait_for("ready", 10)

    def places(self) -> dict[str, str | None]:
        """Return the network of the flow to each port."""
        rows = self.daemons.call("flows")
        return {row["remote"].rpartition(":")[2]: row["network"] for row in rows if ":700" in row["remote"]}

    def until(self, what: str, is_so: Callable[[], bool], timeout: float = 15.0) -> None:
        end = time.monotonic() + timeout
        while not is_so():
            assert time.monotonic() < end, f"not {what}: {self.places()}, {self.daemons.call('policy_list')}"
            time.sleep(0.1)

    def shown(self) -> dict[str, Any]:
        answer = self.daemons.call("policy_show")
        assert isinstance(answer, dict)
        return answer

    def explain(self, what: str) -> dict[str, Any]:
        answer = self.daemons.call("policy_explain", what=what)["explanations"][0]
        assert isinstance(answer, dict)
        return answer


MakeBench = Callable[..., Bench]


@pytest.fixture
def bench(make_lab: MakeLab, prefix: str) -> MakeBench:
    return lambda *texts: Bench(make_lab(Topology(prefix=prefix)), *texts)


def test_rules_place_flows_and_are_read_again_explained_and_tested(bench: MakeBench) -> None:
    here = bench(RULES)
    here.until("both on Wi-Fi", lambda: here.places() == {"7001": "wifi", "7002": "wifi"})
    listed = {row["name"]: row for row in here.daemons.call("policy_list")}
    assert {name: row["flows"] for name, row in listed.items() if name} == {"calls": 1, "cheap": 1}
    assert listed["calls"]["covers"] == "protocol tcp, port 7001"

    swapped = RULES.replace('networks = ["wifi", "cellular"]', 'networks = ["cellular", "wifi"]')
    tested = here.daemons.call("policy_test", text=swapped)
    assert [(move["flow"]["remote"][-4:], move["from"], move["to"]) for move in tested["moves"]] == [
        ("7001", "wifi", "cellular")
    ]
    assert here.places() == {"7001": "wifi", "7002": "wifi"}
    (warning,) = here.daemons.call("policy_test", text=RULES.replace('"wifi"', '"wify"', 1))["warnings"]
    assert "no network is called 'wify' now" in warning["text"]

    here.write(swapped)
    here.until("the call on cellular", lambda: here.places() == {"7001": "cellular", "7002": "wifi"})
    told = here.explain("calls")
    assert (told["policy"], told["network"], told["came_from"]) == ("calls", "cellular", "user")

    here.write(swapped + "\n[[policy]]\naplication = 'x'\n")
    here.until("the mistake told", lambda: bool(here.daemons.call("policy_show")["errors"]))
    shown = here.daemons.call("policy_show")
    assert "Did you mean 'application'?" in shown["errors"][0]["text"]
    assert shown["errors"][0]["line"] == here.host_toml.read_text().splitlines().index("aplication = 'x'") + 1
    assert here.places() == {"7001": "cellular", "7002": "wifi"}
    log = list(Client(str(here.daemons.host_socket)).stream("log", limit=None, follow=False))
    assert any(entry["event"] == "policies" and "old policies stay" in entry["reason"] for entry in log)

    here.write("")
    assert here.daemons.host is not None
    os.kill(here.daemons.host.pid, signal.SIGHUP)
    here.until("no policy any more", lambda: len(here.daemons.call("policy_list")) == 1)
    assert not here.daemons.call("policy_show")["errors"]


def test_flows_are_held_and_say_why_and_a_question_is_asked_and_answered(bench: MakeBench) -> None:
    here = bench(RULES)
    here.until("both on Wi-Fi", lambda: here.places() == {"7001": "wifi", "7002": "wifi"})
    here.lab.links["wifi"].set_carrier(False)
    here.until("the call on cellular, the other held", lambda: here.places() == {"7001": "cellular", "7002": None})
    told = here.explain("cheap")
    assert (told["state"], told["network"]) == ("held", None)
    assert any(text.startswith("to cellular: this would have to change") for text in told["to_move"])

    here.write(RULES.replace('otherwise = "hold"', 'otherwise = "ask"\nask_timeout = "60s"'))
    here.until("a question", lambda: bool(here.daemons.call("questions")))
    (question,) = here.daemons.call("questions")
    assert (question["policy"], question["choices"]) == ("cheap", ["cellular", "hold", "block"])
    with pytest.raises(ApiError, match="no choice"):
        here.daemons.call("answer", id=question["id"], choice="nowhere")
    here.daemons.call("answer", id=question["id"], choice="cellular", remember="ever")
    here.until("what was answered", lambda: here.places() == {"7001": "cellular", "7002": "cellular"})
    assert (here.daemons.host_folder / "host.answers").exists()
    assert here.daemons.call("forget_answers")["forgotten"] == 1
    here.until("asked again", lambda: bool(here.daemons.call("questions")))
    assert not (here.daemons.host_folder / "host.answers").exists()


RESOLVE = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("{address}", 53))
print("ready", flush=True)
while True:
    query, source = server.recvfrom(512)
    data = socket.inet_aton("{address}")
    answer = b"\\xc0\\x0c\\0\\x01\\0\\x01\\0\\0\\0\\x3c\\0\\x04" + data
    server.sendto(query[:2] + b"\\x81\\x80" + query[4:6] + b"\\0\\x01\\0\\0\\0\\0" + query[12:] + answer, source)
"""
LOOK_UP = """
import socket
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(5)
question = b"\\x03www\\x07example\\x03org\\0\\0\\x01\\0\\x01"
asking.sendto(b"\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0" + question, ("{address}", 53))
assert asking.recv(512)
"""


def test_a_policy_by_name_takes_the_flows_to_an_address_once_its_name_was_looked_up(
    make_lab: MakeLab, prefix: str
) -> None:
    lab = make_lab(Topology(prefix=prefix))
    address = lab.topology.correspondent.address
    rules = '[[policy]]\nname = "org"\ndestination = "*.example.org"\nnetworks = ["cellular"]\n'
    here = Bench(lab, rules, f'"{address}"')
    lab.start(topology.CORRESPONDENT, "resolve", ["python3", "-c", RESOLVE.format(address=address)]).wait_for(
        "ready", 10
    )
    here.until("both on Wi-Fi", lambda: here.places() == {"7001": "wifi", "7002": "wifi"})
    time.sleep(1.0)  # the device is there by now, and read
    lab.run(topology.MOBILE_HOST, "python3", "-c", LOOK_UP.format(address=address))
    here.until("both on cellular", lambda: here.places() == {"7001": "cellular", "7002": "cellular"})
    told = here.explain("org")
    assert told["network"] == "cellular"
    assert "*.example.org" in told["covers"]


PUSHED = """
[push]
order = ["cellular"]
cost = { cellular = "metered" }
[[push.policies]]
name = "calls"
port = 7001
networks = ["cellular"]
"""


def test_what_the_anchor_pushes_is_used_as_far_as_the_host_accepts_it(bench: MakeBench) -> None:
    here = bench('order = ["wifi"]\n', PUSHED)
    here.until("the push is there", lambda: here.shown()["push"]["version"] > 0)
    assert here.places() == {"7001": "wifi", "7002": "wifi"}
    assert here.shown()["accept"] == []

    here.write('order = ["wifi"]\naccept = ["policies", "costs"]\n')
    here.until("the call where the anchor wants it", lambda: here.places() == {"7001": "cellular", "7002": "wifi"})
    assert here.explain("anchor/calls")["came_from"] == "anchor"
    assert here.shown()["push"]["costs_used"] == {"cellular": "metered"}

    here.write('order = ["wifi"]\naccept = ["policies"]\n[[policy]]\nport = 7001\nnetworks = ["wifi"]\n')
    here.until("the user's own rule wins", lambda: here.places() == {"7001": "wifi", "7002": "wifi"})

    here.write('order = ["wifi"]\naccept = ["policies"]\n')
    here.until("the anchor's again", lambda: here.places() == {"7001": "cellular", "7002": "wifi"})
    toml = here.daemons.anchor_folder / "anchor.toml"
    toml.write_text(toml.read_text().replace(PUSHED, ""))
    assert here.daemons.anchor is not None
    os.kill(here.daemons.anchor.pid, signal.SIGHUP)
    here.until("taken back", lambda: here.places() == {"7001": "wifi", "7002": "wifi"})
    assert here.shown()["push"]["version"] == 0

    toml.write_text(toml.read_text() + PUSHED)
    os.kill(here.daemons.anchor.pid, signal.SIGHUP)
    here.until("pushed again", lambda: here.shown()["push"]["version"] > 0)
    here.daemons.anchor.stop(10.0)
    toml.write_text(toml.read_text().replace(PUSHED, ""))
    here.daemons.start_anchor()
    here.until("what was taken back while nobody could be told", lambda: here.shown()["push"]["version"] == 0, 40.0)
