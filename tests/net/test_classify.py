"""Real programs, and who the kernel's programs say that they are: exactly, from a flow's first packet.

    program --socket--> bp0 (TUN, read by the test)        the owner programs are attached to the root cgroup

The device is all of the namespace's way out, so that the first packet of every flow is seen here as the data path
would see it. The daemon itself is in test_classify_daemon.py.
"""

import array
import contextlib
import itertools
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.linux import cgroups
from sojourn.linux.processes import flatpak_name, numbers_are_the_kernels
from sojourn.model import Origin
from sojourn.policy.names import application_name
from tests.harness.watched import LOCAL, REMOTE, REMOTE6, Watched, program_at, script_at, watched
from tests.net.hand_made import Caller

pytestmark = pytest.mark.net

_ports = itertools.count(7000)
PYTHON = "/usr/bin/python3"
"""The system's: what is first in PATH may be a script."""
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@pytest.fixture(scope="module")
def ground() -> Iterator[Watched]:
    with watched() as place:
        yield place


@pytest.fixture
def port() -> int:
    return next(_ports)


def origin(ground: Watched, port: int) -> Origin:
    found = ground.origin_to(port)
    assert found is not None, "nobody saw who made the flow"
    assert found.exact
    return found


@pytest.mark.parametrize("remote", [REMOTE, f"[{REMOTE6}]"])
def test_curl_is_curl(ground: Watched, port: int, remote: str) -> None:
    pid = ground.run("curl", "-m", "5", f"http://{remote}:{port}/")
    found = origin(ground, port)
    assert (found.executable, found.command, found.pid, found.uid) == ("/usr/bin/curl", "curl", pid, 0)


def test_ssh_is_ssh(ground: Watched, port: int) -> None:
    ground.run("ssh", "-o", "ConnectTimeout=5", "-p", str(port), REMOTE)
    assert origin(ground, port).executable == "/usr/bin/ssh"


def test_dig_is_dig_and_its_socket_is_not_connected(ground: Watched, port: int) -> None:
    ground.run("dig", "+time=1", "+tries=1", "-p", str(port), f"@{REMOTE}", "example.org")
    assert origin(ground, port).command == "dig"


def test_iperf3_is_iperf3(ground: Watched, port: int) -> None:
    ground.run("iperf3", "-c", REMOTE, "-p", str(port), "--connect-timeout", "500", "-t", "1")
    assert origin(ground, port).command == "iperf3"


@pytest.mark.parametrize("shell", ["./backup.sh", "bin/../bin/backup.sh", None])
def test_a_script_is_itself_and_not_its_shell(ground: Watched, port: int, tmp_path: Path, shell: str | None) -> None:
    folder = tmp_path / "bin"
    script = script_at(folder / "backup.sh", f"#!/bin/bash\necho > /dev/udp/{REMOTE}/{port}\n")
    if shell is None:
        ground.run(script)
    else:
        ground.run(shell, cwd=folder if shell.startswith("./") else tmp_path)
    found = origin(ground, port)
    assert (found.script, Path(found.executable).name, found.command) == (str(script), "bash", "backup.sh")
    assert application_name(found) == "backup.sh"


def test_a_script_that_env_finds_the_interpreter_for_is_itself_too(ground: Watched, port: int, tmp_path: Path) -> None:
    text = f"import socket\nsocket.socket(2, 2).sendto(b'x', ('{REMOTE}', {port}))\n"
    script = script_at(tmp_path / "weather", f"#!/usr/bin/env -S {PYTHON} -u\n{text}")
    ground.run(script)
    found = origin(ground, port)
    assert (found.script, Path(found.executable).name.startswith("python3")) == (str(script), True)


def test_a_script_that_an_interpreter_is_given_is_itself_too(ground: Watched, port: int, tmp_path: Path) -> None:
    script_at(tmp_path / "nightly.py", f"import socket\nsocket.create_connection(('{REMOTE}', {port}), 3)\n")
    ground.run(PYTHON, "nightly.py", cwd=tmp_path)
    assert origin(ground, port).script == str(tmp_path / "nightly.py")


def test_a_script_that_is_executed_by_its_descriptor_is_itself(ground: Watched, port: int, tmp_path: Path) -> None:
    script = script_at(tmp_path / "by-descriptor", f"#!/bin/bash\necho > /dev/udp/{REMOTE}/{port}\n")
    code = f"import os; fd = os.open('{script}', os.O_RDONLY); os.set_inheritable(fd, True); os.execve(fd, ['x'], {{}})"
    ground.run(PYTHON, "-c", code)
    assert origin(ground, port).script == str(script)


def test_children_are_their_parents_program_until_they_become_another(ground: Watched, port: int) -> None:
    later, third = next(_ports), next(_ports)
    ground.run(
        "bash", "-c",
        f"(echo > /dev/udp/{REMOTE}/{port}); (exec -a other dash -c ':'; true); (exec 3<>/dev/udp/{REMOTE}/{later};"
        f" (echo x >&3)); curl -sm1 http://{REMOTE}:{third}/; true",
    )  # fmt: skip
    first, second, other = origin(ground, port), origin(ground, later), origin(ground, third)
    assert first.owner == second.owner
    assert first.pid != second.pid
    assert (first.command, other.command) == ("bash", "curl")
    assert other.owner > first.owner


def test_a_thread_is_its_program_whatever_it_calls_itself(ground: Watched, port: int) -> None:
    code = f"""
import socket, threading
def work():
    open("/proc/thread-self/comm", "w").write("DNS Resolver #3")
    socket.create_connection(("{REMOTE}", {port}), 3)
open("/proc/self/comm", "w").write("browser")
threading.Thread(target=work).start()
"""
    ground.run(PYTHON, "-c", code)
    assert origin(ground, port).command == "browser"


def test_the_user_is_the_one_who_connects_not_the_one_who_started(ground: Watched, port: int) -> None:
    code = f"import os, socket; os.setresuid(1234, 1234, 1234); socket.create_connection(('{REMOTE}', {port}), 3)"
    ground.run(PYTHON, "-c", code)
    assert origin(ground, port).uid == 1234


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_connected_socket_that_is_passed_is_its_new_owners(ground: Watched, port: int, kind: int) -> None:
    """SCM_RIGHTS: one program connects, another one, which got the socket, sends."""
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_INET, kind) as sock:
        caller = Caller(ground, port) if kind == socket.SOCK_STREAM else None
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect((REMOTE, port))
        if caller is not None:
            assert origin(ground, port).pid == os.getpid()
            caller.accept(sock.getsockname()[1])
        theirs.set_inheritable(True)
        code = f"""
import os, socket
_, (fd,), _, _ = socket.recv_fds(socket.socket(fileno={theirs.fileno()}), 1, 1)
open("/proc/self/comm", "w").write("receiver")
os.write(fd, b"hello")
"""
        child = subprocess.Popen([PYTHON, "-c", code], pass_fds=[theirs.fileno()])
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock.fileno()]))])
        child.wait(10)
        ground.seen.clear()
        found = origin(ground, port)
    assert (found.pid, found.command) == (child.pid, "receiver")


def test_a_socket_that_was_connected_before_the_program_became_another_is_the_other_ones(
    ground: Watched, port: int, tmp_path: Path
) -> None:
    """The same process, the same socket: connected by one program, used by the one that it executes."""
    second = program_at(tmp_path / "second")
    code = f"""
import os, socket
sock = socket.socket(2, 2)
sock.connect(("{REMOTE}", {port}))
os.dup2(sock.fileno(), 17)
os.execv("{second}", ["second", "-c", "echo x >&17"])
"""
    pid = ground.run(PYTHON, "-c", code)
    found = origin(ground, port)
    assert (found.executable, found.pid) == (str(second), pid)


def test_an_accepted_connection_is_its_acceptors_even_if_another_one_listened(ground: Watched, port: int) -> None:
    """A forking server, socket activation: who listened answers the handshake, who serves sends."""
    code = f"""
import os, socket
listener = socket.create_server(("{LOCAL}", {port}))
print("ready", flush=True)
if os.fork() == 0:
    os.execv("{PYTHON}", ["python3", "-c", '''
import os, socket
open("/proc/self/comm", "w").write("served")
connection, _ = socket.socket(fileno=%d).accept()
connection.sendall(b"hello")
connection.recv(1)
''' % (os.dup2(listener.fileno(), 17),)])
os.wait()
"""
    server = subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        caller = Caller.to(ground, port)
        caller.handshake()
        user = caller.wait_for_data()
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
    assert user is not None
    assert user.command == "served"
    assert user.pid != server.pid


def test_a_process_id_that_is_used_again_is_another_program(ground: Watched, port: int, tmp_path: Path) -> None:
    if not LAST_PID.exists() or not numbers_are_the_kernels():
        pytest.skip("process ids can't be chosen here (CONFIG_CHECKPOINT_RESTORE)")
    first, second = (program_at(tmp_path / name) for name in ("first", "second"))
    for _ in range(50):
        pid = ground.run(first, "-c", f"echo > /dev/udp/{REMOTE}/{port}")
        before = origin(ground, port)
        os.waitpid(pid, 0)
        LAST_PID.write_text(str(pid - 1))
        later = next(_ports)
        if ground.run(second, "-c", f"echo > /dev/udp/{REMOTE}/{later}") == pid:
            break
        ground.seen.clear()
    else:
        pytest.fail("the machine is too busy: a process id was never used again")
    after = origin(ground, later)
    assert (before.pid, after.pid) == (pid, pid)
    assert (before.executable, after.executable) == (str(first), str(second))
    assert before.owner < after.owner


@contextlib.contextmanager
def control_group(path: str) -> Iterator[Path]:
    """Make a cgroup below the root, with those above it."""
    root = cgroups.open_root()
    made = []
    try:
        place = Path(cgroups.path_of(root))
        for name in path.strip("/").split("/"):
            place /= name
            with contextlib.suppress(FileExistsError):
                place.mkdir()
                made.append(place)
        yield place
    finally:
        for each in reversed(made):
            _remove(each)
        os.close(root)


def _remove(group: Path) -> None:
    until = time.monotonic() + 5.0
    while time.monotonic() < until:
        try:
            group.rmdir()
        except OSError:
            for line in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(line), 9)
            time.sleep(0.02)
        else:
            return


def in_group(group: Path, *command: str) -> list[str]:
    return ["bash", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "bash", *command]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/bp-test/app-flatpak-org.example.Call-4242.scope", "org.example.Call"),
        ("/bp-test/snap.example.call-0c1c2d3e.scope", "example"),
        ("/bp-test/backup.service", "curl"),
    ],
)
def test_the_cgroup_is_told_as_it_is_called(ground: Watched, port: int, path: str, name: str) -> None:
    with control_group(path) as group:
        ground.run(*in_group(Path(os.path.realpath(group)), "curl", "-m", "3", f"http://{REMOTE}:{port}/"))
        found = origin(ground, port)
        assert found.cgroup == path
        assert application_name(found) == name


def test_a_program_of_another_file_system_is_told_with_its_own_paths_and_its_flatpak(
    ground: Watched, port: int, tmp_path: Path
) -> None:
    """A root of its own, as bubblewrap makes it: /.flatpak-info says who it is, where no cgroup does."""
    root = tmp_path / "root"
    (root / "app" / "bin").mkdir(parents=True)
    (root / "usr").mkdir()
    (root / "old").mkdir()
    (root / ".flatpak-info").write_text("[Application]\nname=org.example.Maps\nruntime=runtime/org.example/x/1\n")
    script = f"""
mount -t tmpfs none {root}/old && umount {root}/old
mount --bind {root} {root} && mkdir -p {root}/lib {root}/lib64 {root}/dev {root}/proc
mount --rbind /usr {root}/usr; mount --rbind /dev {root}/dev; mount --rbind /proc {root}/proc
for each in lib lib64; do mount --rbind /$each {root}/$each; done
cp /bin/bash {root}/app/bin/maps
cd {root} && pivot_root . old && umount -l /old
exec /app/bin/maps -c "exec 3<>/dev/udp/{REMOTE}/{port}; echo >&3; read -t 5 <&3"
"""
    pid = ground.run("unshare", "--mount", "bash", "-ec", script)
    found = origin(ground, port)
    assert (found.executable, found.pid) == ("/app/bin/maps", pid)
    user = next(user for user in (ground.user(key) for key in ground.keys_to(port)) if user is not None)
    assert user.foreign
    if numbers_are_the_kernels():
        assert flatpak_name(pid) == "org.example.Maps"


def test_a_mount_namespace_with_our_own_files_is_not_foreign(ground: Watched, port: int) -> None:
    ground.run("unshare", "--mount", "bash", "-c", f"mount -t tmpfs none /mnt; echo > /dev/udp/{REMOTE}/{port}")
    origin(ground, port)
    user = next(user for user in (ground.user(key) for key in ground.keys_to(port)) if user is not None)
    assert not user.foreign


def test_fragments_are_their_datagrams(ground: Watched, port: int) -> None:
    """What is longer than the device takes leaves in fragments, which have no ports."""
    ground.seen.clear()
    code = f"import socket; s = socket.socket(2, 2); s.connect(('{REMOTE}', {port})); s.send(b'x'); s.send(bytes(4000))"
    ground.run(PYTHON, "-c", code)
    found = origin(ground, 0)
    assert found.command == "python3"


def test_echo_requests_are_pings(ground: Watched) -> None:
    ground.seen.clear()
    ground.run("ping", "-c", "1", "-W", "1", REMOTE)
    ground.read(lambda: any(flow.protocol == 1 for flow in ground.seen))
    found = next(origin for flow, origin in ground.seen.items() if flow.protocol == 1)
    assert found is not None
    assert found.command == "ping"


def test_another_namespaces_flows_are_not_ours(ground: Watched, port: int) -> None:
    """Its device has the same number as ours: two hosts on one machine do not mix."""
    script = f"""
ip tuntap add bp1 mode tun; ip link set lo up; ip addr add {LOCAL}/24 dev bp1; ip link set bp1 up
until [ "$(cat /sys/class/net/bp1/ifindex 2>/dev/null || ip -o link show bp1 | cut -d: -f1)" = {ground.index} ]; do
  n=$((n+1)); ip link add d$n type ifb 2>/dev/null || ip tuntap add d$n mode tun; ip link del bp1
  ip tuntap add bp1 mode tun; ip addr add {LOCAL}/24 dev bp1; ip link set bp1 up; [ $n -gt 20 ] && break
done
ip route add default dev bp1; python3 -c "
import socket
s = socket.socket(2, 2); s.bind(('{LOCAL}', 45678)); s.sendto(b'x', ('{REMOTE}', {port}))"
"""
    done = subprocess.run(["unshare", "--net", "bash", "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert ground.user(ground.key(17, 45678, port)) is None
