"""Who is let in: the right address, the own page, the token, JSON; and what every answer carries."""

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest

from sojourn.window.guard import HEADERS, MAX_BODY, is_nonce, proof
from sojourn.window.routes import ORDERS, QUESTIONS
from tests.harness.control_socket import answers
from tests.window.served import TOKEN, Served, window


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    verbs = {verb for verb, _ in QUESTIONS.values()} | set(ORDERS.values()) - {"token"}
    with window(tmp_path_factory.mktemp("guard"), answers({verb: {"version": 1} for verb in verbs})) as served:
        yield served


EVERY: list[tuple[str, object]] = [(f"/api/{path}", None) for path in (*QUESTIONS, "about", "events")]
EVERY += [(f"/api/{path}", {}) for path in ORDERS]
WRONG = [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN]
HOSTS = ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", None, ""]


@pytest.mark.parametrize(("path", "body"), EVERY)
@pytest.mark.parametrize("token", WRONG)
def test_nothing_is_answered_without_the_token(served: Served, path: str, body: object, token: str | None) -> None:
    status, told = served.ask(path, body, headers={"Authorization": token})
    assert (status, told["error"]["kind"]) == (401, "token")


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/about", "/api/hello?nonce=" + "0" * 32])
def test_a_name_that_was_rebound_to_this_address_gets_nothing(served: Served, host: str | None, path: str) -> None:
    name = host.format(port=served.port) if host is not None else None
    status, told = served.ask(path, headers={"Host": name})
    assert status in (400, 403), told


@pytest.mark.parametrize("path", ["/", "/api/about", "/static/app.js"])
def test_another_origin_gets_nothing(served: Served, path: str) -> None:
    for origin in (
        "http://evil.example",
        "null",
        f"http://127.0.0.1:{served.port + 1}",
        f"https://127.0.0.1:{served.port}",
    ):
        status, told = served.ask(path, headers={"Origin": origin})
        assert (status, told["error"]["kind"]) == (403, "no_permission")


def test_another_site_may_lead_here_and_load_nothing(served: Served) -> None:
    crossing: dict[str, str | None] = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert served.ask("/", headers=crossing)[0] == 200
    assert served.ask("/static/app.js", headers={**crossing, "Sec-Fetch-Mode": "no-cors"})[0] == 403
    assert served.ask("/api/about", headers=crossing)[0] == 403


def test_the_own_page_is_let_in_by_either_name(served: Served) -> None:
    for host in ("127.0.0.1", "localhost"):
        name = f"{host}:{served.port}"
        headers: dict[str, str | None] = {"Host": name, "Origin": f"http://{name}", "Sec-Fetch-Site": "same-origin"}
        assert served.ask("/api/undo", {}, headers=headers) == (200, {"version": 1})


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"]
)
def test_an_order_that_a_form_could_send_is_refused(served: Served, kind: str | None) -> None:
    status, _ = served.ask("/api/handover", {"all": True, "to": "wifi"}, headers={"Content-Type": kind})
    assert status == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused_and_no_preflight_is_answered(served: Served, method: str) -> None:
    headers: dict[str, str | None] = {"Access-Control-Request-Method": "POST"}
    connection, answer = served.open("/api/handover", method=method, headers=headers)
    assert answer.status == 405
    assert not [name for name, _ in answer.getheaders() if name.lower().startswith("access-control")]
    connection.close()


def test_a_long_body_is_refused_whatever_its_head_says(served: Served) -> None:
    assert served.ask("/api/undo", b'{"a": "' + b"x" * MAX_BODY + b'"}')[0] == 413
    chunks = b"".join(b"10000\r\n" + b" " * 0x10000 + b"\r\n" for _ in range(5)) + b"2\r\n{}\r\n0\r\n\r\n"
    headers: dict[str, str | None] = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    connection, answer = served.open("/api/undo", chunks, headers=headers)
    assert answer.status == 400
    connection.close()


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/undo", "/nothing", "/api/about"])
def test_every_answer_carries_the_headers(served: Served, path: str) -> None:
    for token in (TOKEN, "wrong"):
        connection, answer = served.open(path, headers={"Authorization": f"Bearer {token}"})
        told = {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        assert HEADERS.items() <= told.items()
        assert "set-cookie" not in told
        assert "server" not in told


def test_the_proof_is_an_hmac_of_the_nonce_with_the_token(served: Served) -> None:
    nonce = "0123456789abcdef" * 2
    status, told = served.ask(f"/api/hello?nonce={nonce}", headers={"Authorization": None})
    assert status == 200
    assert told["proof"] == hmac.new(TOKEN.encode(), b"sojourn window " + nonce.encode(), hashlib.sha256).hexdigest()
    assert told["proof"] == proof(TOKEN, nonce) != proof("another", nonce)
    for wrong in ("", "0" * 31, "0" * 65, "G" * 32):
        assert not is_nonce(wrong)
        assert served.ask(f"/api/hello?nonce={wrong}", headers={"Authorization": None})[0] == 400


def test_nothing_of_the_file_system_is_served_but_the_page(served: Served, tmp_path: Path) -> None:
    for path in (
        "/static/../guard.py", "/static/%2e%2e/guard.py", "/static//etc/passwd", "/static/..%2fguard.py", "/static/",
        "/static/vendor", "/static/%00.js", "/etc/passwd", "/static/....//guard.py", "/static/x.py",
    ):  # fmt: skip
        assert served.ask(path)[0] == 404, path
