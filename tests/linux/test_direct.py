"""Rules by which flows go direct, asked by the kernel's programs when a socket is made, connects or sends."""

import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sojourn.linux import direct
from sojourn.linux.bpf_ring import BpfRing
from sojourn.linux.direct import DirectRules
from sojourn.linux.numbers import MARK, MARK_MASK
from sojourn.linux.owner_programs import SEEN_BYTES
from sojourn.linux.owners import BY_OWNER, User, number, pack_process, process_of, user_of, verdict_key
from sojourn.model import Origin
from sojourn.policy.match import parse
from sojourn.policy.rules import Rule, Subject
from tests.harness.watched import REMOTE, Watched, program_at, script_at, watched

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: BPF programs"),
    pytest.mark.skipif(
        not Path("/sys/kernel/btf/vmlinux").exists(), reason="needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF)"
    ),
]
PYTHON = "/usr/bin/python3"
_ports = itertools.count(8000)


@pytest.fixture(scope="module")
def ground() -> Iterator[Watched]:
    with watched() as place:
        yield place


@pytest.fixture
def rules(ground: Watched) -> Iterator[DirectRules]:
    rules = DirectRules(ground.programs, ground.root)
    yield rules
    rules.set((), ())
    ground.programs.tell(ground.settings())


def in_force(ground: Watched, rules: DirectRules, *listed: Rule, direct: tuple[str, ...] = ("direct",)) -> None:
    rules.set(listed, direct)
    ground.programs.tell(replace(ground.settings(), direct=int(rules.wanted)))


def marks(ground: Watched, tmp_path: Path, program: Path | str, command: str = "") -> dict[str, int]:
    """Run a script in `program`; return a socket's marks after it was made, has connected, and after sendto."""
    out = tmp_path / f"out-{next(_ports)}"
    code = f"""
import os, socket, time
if {command!r}: open("/proc/self/comm", "w").write({command!r})
def mark(s): return s.getsockopt(socket.SOL_SOCKET, socket.SO_MARK)
one, two, three = (socket.socket(2, 2) for _ in range(3))
three.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
made = mark(one)
one.connect(("{REMOTE}", 9)); two.sendto(b"x", ("{REMOTE}", 9)); three.connect(("{REMOTE}", 9))
open("{out}.new", "w").write("%d %d %d %d" % (made, mark(one), mark(two), mark(three)))
os.rename("{out}.new", "{out}")
"""
    script = script_at(tmp_path / f"script-{next(_ports)}.py", code)
    pid = ground.run(program, script)
    ground.read(out.exists)
    assert out.exists(), "the program has not run"
    os.waitpid(pid, 0)
    return dict(zip(("made", "connected", "sent", "own"), map(int, out.read_text().split()), strict=True))


DIRECT = {"made": MARK, "connected": MARK, "sent": MARK, "own": MARK | 7}
CAPTURED = {"made": 0, "connected": 0, "sent": 0, "own": 7}


def test_without_such_rules_no_mark_is_touched(ground: Watched, rules: DirectRules, tmp_path: Path) -> None:
    in_force(ground, rules, Rule("other", Subject(commands=("bare",))))
    assert not rules.wanted
    assert marks(ground, tmp_path, PYTHON, "bare") == CAPTURED


def test_a_command_is_direct_from_its_first_socket_on(ground: Watched, rules: DirectRules, tmp_path: Path) -> None:
    in_force(ground, rules, Rule("direct", Subject(commands=("bare",))))
    assert marks(ground, tmp_path, PYTHON, "bare") == DIRECT
    assert marks(ground, tmp_path, PYTHON, "other") == CAPTURED
    assert MARK & ~MARK_MASK == 0


def test_a_program_is_direct_by_its_whole_path(ground: Watched, rules: DirectRules, tmp_path: Path) -> None:
    copy = program_at(tmp_path / "bin" / "copied", os.path.realpath(PYTHON))
    code = f"import socket; s = socket.socket(2, 2); open('{tmp_path}/mark', 'w').write(str(s.getsockopt(1, 36)))"
    in_force(ground, rules, Rule("direct", Subject(executables=(str(copy),))))
    os.waitpid(ground.run(copy, "-c", code, environment={"PYTHONHOME": "/usr"}), 0)
    assert (tmp_path / "mark").read_text() == str(MARK)
    os.waitpid(ground.run(PYTHON, "-c", code), 0)
    assert (tmp_path / "mark").read_text() == "0"


def test_a_script_is_direct_by_its_own_path_and_its_interpreters_says_nothing(
    ground: Watched, rules: DirectRules, tmp_path: Path
) -> None:
    text = f"import socket\ns = socket.socket(2, 2)\nopen('{tmp_path}/mark', 'w').write(str(s.getsockopt(1, 36)))\n"
    text = f"#!{PYTHON}\n{text}"
    script = script_at(tmp_path / "direct-script", text)
    in_force(ground, rules, Rule("direct", Subject(executables=(str(script),))))
    os.waitpid(ground.run(script), 0)
    assert (tmp_path / "mark").read_text() == str(MARK)
    in_force(ground, rules, Rule("direct", Subject(executables=(os.path.realpath(PYTHON),))))
    os.waitpid(ground.run(script), 0)
    assert (tmp_path / "mark").read_text() == "0"


def test_the_first_rule_that_covers_counts(ground: Watched, rules: DirectRules, tmp_path: Path) -> None:
    kept = Rule("kept", Subject(commands=("bare",)))
    direct = Rule("direct", Subject(users=(0,)))
    in_force(ground, rules, kept, direct)
    assert marks(ground, tmp_path, PYTHON, "bare") == CAPTURED
    assert marks(ground, tmp_path, PYTHON, "other") == DIRECT
    in_force(ground, rules, direct, kept)
    assert marks(ground, tmp_path, PYTHON, "bare") == DIRECT


def test_a_rule_for_everything_is_one_too(ground: Watched, rules: DirectRules, tmp_path: Path) -> None:
    in_force(ground, rules, Rule("kept", Subject(commands=("bare",))), Rule("", Subject()), direct=("",))
    assert marks(ground, tmp_path, PYTHON) == DIRECT
    assert marks(ground, tmp_path, PYTHON, "bare") == CAPTURED


def test_a_rule_that_asks_for_a_port_too_is_not_direct_and_keeps_its_program(
    ground: Watched, rules: DirectRules, tmp_path: Path
) -> None:
    port = Rule("port", Subject(commands=("bare",), match=(parse("-p tcp --dport 443"),)))
    in_force(ground, rules, port, Rule("direct", Subject(users=(0,))))
    assert marks(ground, tmp_path, PYTHON, "bare") == CAPTURED
    assert marks(ground, tmp_path, PYTHON, "other") == DIRECT


def test_a_pattern_is_decided_when_the_program_is_first_seen(
    ground: Watched, rules: DirectRules, tmp_path: Path
) -> None:
    in_force(ground, rules, Rule("direct", Subject(commands=("b?re",), users=(0,))))
    ring = BpfRing(ground.programs.maps["seen"], SEEN_BYTES)
    list(ring.read())
    code = f"""
import os, socket, time
open("/proc/self/comm", "w").write("bare")
first = socket.socket(2, 2).getsockopt(1, 36)
while not os.path.exists("{tmp_path}/go"): time.sleep(0.01)
open("{tmp_path}/marks", "w").write("%d %d" % (first, socket.socket(2, 2).getsockopt(1, 36)))
"""
    pid = ground.run(PYTHON, "-c", code)
    seen: list[User] = []

    def has_come() -> bool:
        seen.extend(map(user_of, ring.read()))
        return any(user.command == "bare" for user in seen)

    ground.read(has_come)
    for user in seen:
        rules.see(ground.maps.origin(user))
    (tmp_path / "go").touch()
    os.waitpid(pid, 0)
    assert (tmp_path / "marks").read_text() == f"0 {MARK}"
    ring.close()


def test_verdicts_about_programs_that_are_long_gone_make_room(
    ground: Watched, rules: DirectRules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "MOST_SEEN", 3)
    in_force(ground, rules, Rule("direct", Subject(commands=("b?re",))))
    for owner in (1, 2, 3, 1, 4):
        rules.see(Origin(owner, command="bare"))
    verdicts = ground.programs.map("verdicts")
    assert [verdicts.look_up(verdict_key(BY_OWNER, owner)) is not None for owner in (1, 2, 3, 4)] == [
        True, False, True, True,
    ]  # fmt: skip


def test_a_name_that_was_pinned_is_direct(ground: Watched, rules: DirectRules, tmp_path: Path) -> None:
    in_force(ground, rules, Rule("direct", Subject(applications=("errands",))))
    names, processes = ground.programs.map("names"), ground.programs.map("processes")
    code = f"""
import os, sys
sys.stdin.readline()
code = "import socket; open('{tmp_path}/mark', 'w').write(str(socket.socket(2, 2).getsockopt(1, 36)))"
os.execv("{PYTHON}", ["x", "-c", code])
"""
    with subprocess.Popen([PYTHON, "-c", code], stdin=subprocess.PIPE) as child:
        names.update(number(99), b"errands")
        key = child.pid.to_bytes(4, "little")
        record = processes.look_up(key)
        assert record is not None
        owner, start, _ = process_of(record)
        processes.update(key, pack_process(owner, start, 99))
        rules.pinned(99, "errands")
        child.communicate(b"\n", 10)
    assert (tmp_path / "mark").read_text() == str(MARK)
    names.delete(number(99))


def test_a_socket_that_changes_hands_loses_a_mark_that_was_ours(
    ground: Watched, rules: DirectRules, tmp_path: Path
) -> None:
    in_force(ground, rules, Rule("direct", Subject(commands=("bare",))))
    code = f"""
import os, socket
open("/proc/self/comm", "w").write("bare")
sock = socket.socket(2, 2)
sock.connect(("{REMOTE}", 9))
before = sock.getsockopt(1, 36)
open("/proc/self/comm", "w").write("other")
sock.connect(("{REMOTE}", 10))
open("{tmp_path}/marks", "w").write("%d %d" % (before, sock.getsockopt(1, 36)))
"""
    os.waitpid(ground.run(PYTHON, "-c", code), 0)
    assert re.fullmatch(rf"{MARK} 0", (tmp_path / "marks").read_text())
