"""Each route is one verb, with its arguments, and errors come through with what to do."""

from pathlib import Path
from typing import Any

import pytest

from sojourn.api.messages import ApiError, ErrorKind
from sojourn.window import qr
from sojourn.window.answers import STATUS
from sojourn.window.routes import ORDERS, STATIC, TYPES
from tests.harness.control_socket import answers
from tests.window.served import window


def test_arguments_of_questions_are_typed_and_of_orders_are_the_body(tmp_path: Path) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    with window(tmp_path, answers({"history": {"version": 1}, "handover": {"moved": 2}}, asked)) as served:
        assert served.ask("/api/history?from=1.5&until=9&points=100&network=wifi") == (200, {"version": 1})
        assert served.ask("/api/handover", {"app": "curl", "to": "wifi"}) == (200, {"moved": 2})
        assert served.ask("/api/history?from=x")[0] == 400
        assert served.ask("/api/history?verb=revoke")[0] == 400
        assert served.ask("/api/handover", b"[1]")[0] == 400
        assert served.ask("/api/handover", b"{")[0] == 400
        assert served.ask("/api/handover", b'{"a":' * 50_000)[0] == 400
    assert asked == [
        ("history", {"from": 1.5, "until": 9.0, "points": 100, "network": "wifi"}),
        ("handover", {"app": "curl", "to": "wifi"}),
    ]


@pytest.mark.parametrize("kind", ErrorKind)
def test_an_error_of_the_daemon_comes_through_with_its_remedy(tmp_path: Path, kind: ErrorKind) -> None:
    with window(tmp_path, answers({"undo": ApiError("it does not go", "Do this.", kind)})) as served:
        status, told = served.ask("/api/undo", {})
    assert status == STATUS[kind]
    assert told == {"error": {"kind": str(kind), "message": "it does not go", "remedy": "Do this."}}


def test_a_verb_that_this_daemon_has_not_is_said_to_be_unknown(tmp_path: Path) -> None:
    with window(tmp_path, answers({})) as served:
        assert served.ask("/api/anchor/revoke", {"name": "laptop"})[0] == 404
        assert served.ask("/api/about")[1]["role"] == "host"


def test_a_join_token_comes_with_its_picture(tmp_path: Path) -> None:
    with window(tmp_path, answers({"token": {"version": 1, "name": "phone", "token": "sojourn1:abc"}})) as served:
        _, told = served.ask("/api/anchor/token", {"name": "phone"})
    assert told["qr_svg"] == qr.svg("sojourn1:abc")
    assert told["qr_svg"].startswith("<svg")
    assert "script" not in told["qr_svg"]


def test_every_file_of_the_page_is_served_with_its_type(tmp_path: Path) -> None:
    files = [path for path in STATIC.rglob("*") if path.is_file()]
    assert STATIC / "index.html" in files
    with window(tmp_path, answers({})) as served:
        for path in files:
            if path.suffix not in TYPES:
                continue
            connection, answer = served.open(f"/static/{path.relative_to(STATIC)}")
            assert (answer.status, answer.getheader("content-type")) == (200, TYPES[path.suffix])
            assert answer.read() == path.read_bytes()
            connection.close()
        assert served.ask("/")[1] == (STATIC / "index.html").read_text()


def test_orders_are_not_answered_to_a_get(tmp_path: Path) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    with window(tmp_path, answers({verb: {} for verb in ORDERS.values()}, asked)) as served:
        for path in ORDERS:
            assert served.ask(f"/api/{path}")[0] in (404, 405)
    assert asked == []
