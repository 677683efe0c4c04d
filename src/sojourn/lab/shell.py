"""A real SSH session: Debian's sshd with throw-away keys, and a client in whose session somebody types steadily.

`python -m sojourn.lab.shell FOLDER ADDRESS SECONDS JOURNAL` opens the session and types a numbered line every 50 ms;
a remote shell loop sends each back with its time. `prepare` makes keys and configuration in FOLDER.
"""

import sys
from pathlib import Path

from sojourn.lab import namespaces
from sojourn.lab.echo import converse
from sojourn.lab.journal import Journal
from sojourn.lab.processes import Piped

PORT = 2222
PRIVILEGE_SEPARATION = Path("/run/sshd")
"""sshd insists on this empty folder, which Debian's service makes at boot."""
REMOTE_LOOP = 'while read -r line; do echo "$line $EPOCHREALTIME"; done'
SERVER = """\
Port {port}
ListenAddress ::
ListenAddress 0.0.0.0
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""


def prepare(folder: Path, namespace: str) -> list[str]:
    """Make keys and configuration, and return the command line of the server.

    Inside `namespace` root's password field is "*": sshd without PAM takes "!" (a locked account, as
    on many cloud images) for a reason to refuse keys, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for key in ("host_key", "user_key"):
        if not (folder / key).exists():
            namespaces.execute(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", str(folder / key)])
    (folder / "sshd_config").write_text(SERVER.format(port=PORT, folder=folder))
    etc = namespaces.ETC_NETNS / namespace
    etc.mkdir(parents=True, exist_ok=True)
    (etc / "shadow").write_text("root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n")
    PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    return ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")]


def client(folder: Path, address: str) -> list[str]:
    """Return the command line of the session. No keep-alives and no time-outs of its own: only TCP decides."""
    options = {
        "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "IdentitiesOnly": "yes", "LogLevel": "ERROR",
        "BatchMode": "yes", "ServerAliveInterval": "0", "TCPKeepAlive": "no", "GlobalKnownHostsFile": "/dev/null",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    key = str(folder / "user_key")
    return [
        "ssh",
        "-F",
        "none",
        "-T",
        "-i",
        key,
        "-p",
        str(PORT),
        *words,
        f"root@{address}",
        f"bash -c '{REMOTE_LOOP}'",
    ]


class Session(Piped):
    """A pipe (echo.Pipe) that is a running ssh client."""

    def fileno(self) -> int:
        """Return the descriptor on which its output comes."""
        return self.stdout.fileno()

    def send(self, line: bytes) -> None:
        """Type a line."""
        self.stdin.write(line)
        self.stdin.flush()

    def receive(self) -> bytes:
        """Return what it has shown."""
        return self.read()

    def finish(self) -> None:
        """Close the keyboard: the remote loop ends, and with it the session."""
        self.stdin.close()


def main(arguments: list[str]) -> None:
    """Run from the command line, as the module's docstring says."""
    folder, address, seconds, path = arguments
    journal = Journal(Path(path))
    session = Session(client(Path(folder), address))
    try:
        wrong = converse(session, journal, float(seconds))
    except OSError as error:
        wrong = str(error)
    if wrong:
        session.process.terminate()
    code, said = session.end()
    if code and not wrong:
        wrong = f"ssh ended with {code}"
    journal.end(not wrong, f"{wrong}: {said}" if wrong else "every line came back once, in order")


if __name__ == "__main__":
    main(sys.argv[1:])
