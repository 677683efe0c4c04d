"""`sojourn window` in a lab, and requests to it that no browser makes."""

import http.client
import json
import re
import sys
from pathlib import Path
from typing import Any

from sojourn.lab import namespaces
from sojourn.lab.processes import Child
from sojourn.lab.topology import Lab

READY = 15.0


class Window:
    """One that runs. `address` is where the user's browser is opened."""

    def __init__(self, lab: Lab, role: str, control_socket: Path, *options: str) -> None:
        self.lab, self.role = lab, role
        self.child: Child = lab.start(role, "window", [
            sys.executable, "-m", "sojourn", "window", "--no-browser", "--no-notices", "--socket", str(control_socket),
            *options,
        ])  # fmt: skip
        self.child.wait_for("ready", READY)
        found = re.search(r"http://127\.0\.0\.1:(\d+)/#token=(\S+)", self.child.output())
        assert found, self.child.output()
        self.address, self.port, self.token = found[0], int(found[1]), found[2]

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self.child.stop(10.0)

    def ask(
        self,
        path: str,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        token: str | None = "",
        method: str | None = None,
        raw: bytes | None = None,
    ) -> tuple[int, Any, dict[str, str]]:
        """Send one request from the window's own namespace; return status, JSON (or text) and headers.

        `token`: empty for the right one, None for none at all.
        """
        sent = {"Host": f"127.0.0.1:{self.port}", "Content-Type": "application/json", **(headers or {})}
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token or self.token}")
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        namespaces.inside(self.lab.namespace(self.role), connection.connect)
        try:
            connection.putrequest(method or ("GET" if data is None else "POST"), path, skip_host=True)
            for name, value in {**sent, "Content-Length": str(len(data or b""))}.items():
                connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            text = answer.read()
            told = {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()
        is_json = told.get("content-type", "").startswith("application/json")
        return answer.status, json.loads(text) if is_json else text.decode(), told
