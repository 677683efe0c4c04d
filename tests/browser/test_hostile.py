"""Hostile pages in the browser that has the window open: DNS rebinding, forged requests, frames, theft of the token.

The pages are served in the mobile host's own namespace, as another local user's server would be; `evil.example` is
rebound to 127.0.0.1 by the browser's own resolver rules.
"""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright

from sojourn.lab import namespaces, topology
from sojourn.lab.daemons import Daemons
from sojourn.lab.topology import Lab
from tests.browser.conftest import launch
from tests.browser.window import Window

pytestmark = pytest.mark.net


class Evil:
    """A web server of somebody else's; it writes down what it is asked with which headers."""

    def __init__(self, namespace: str, port: int = 0) -> None:
        seen: list[tuple[str, dict[str, str]]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                body = b"<!doctype html><title>evil</title><body>"
                if self.path.startswith("/api/hello"):
                    body = b'{"version": 1, "proof": "' + b"0" * 64 + b'"}'
                self.send_response(200)
                self.send_header("Content-Type", "application/json" if b"proof" in body else "text/html")
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_arguments: object) -> None:
                pass

        self.seen = seen
        http.server.ThreadingHTTPServer.allow_reuse_address = True
        self._server = namespaces.inside(
            namespace, lambda: http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        )
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def evil(lab: Lab) -> Iterator[Evil]:
    evil = Evil(lab.namespace(topology.MOBILE_HOST))
    yield evil
    evil.close()


@pytest.fixture
def attack(context: BrowserContext, page: Page, evil: Evil) -> Page:
    """A page of another origin in the browser that has the window open."""
    attack = context.new_page()
    attack.goto(f"http://127.0.0.1:{evil.port}/")
    return attack


def state(daemons: Daemons) -> Any:  # noqa: ANN401
    """Return all that an order could change."""
    rows = [(row["name"], row["use"], row["default"]) for row in daemons.call("networks")]
    return rows, daemons.call("policy_list")[0]["name"], (daemons.host_folder / "host.toml").read_text()


READ = """async ([url, options]) => {
  try { const answer = await fetch(url, options); return [answer.type, answer.status, await answer.text()]; }
  catch (error) { return ["refused", 0, String(error)]; }
}"""


def test_another_origin_can_read_nothing(attack: Page, window: Window) -> None:
    for path in ("/", "/api/about", "/api/events", "/static/app.js", "/api/hello?nonce=" + "0" * 32):
        for mode in ("cors", "no-cors"):
            kind, _, text = attack.evaluate(READ, [f"http://127.0.0.1:{window.port}{path}", {"mode": mode}])
            assert kind == "refused" or (kind == "opaque" and text == ""), (path, mode, kind)
    files = {"script": "app.js", "img": "icon.svg", "link": "style.css"}
    for element, source in (("script", "src"), ("img", "src"), ("link", "href")):
        loaded = attack.evaluate(
            """([element, source, url]) => new Promise((done) => {
              const one = document.createElement(element);
              one.rel = "stylesheet"; one.onload = () => done(true); one.onerror = () => done(false);
              one[source] = url; document.head.append(one);
            })""",
            [element, source, f"http://127.0.0.1:{window.port}/static/{files[element]}"],
        )
        assert loaded is False, element


def test_another_origin_can_change_nothing(attack: Page, window: Window, daemons: Daemons, lab: Lab) -> None:
    before = state(daemons)
    url = f"http://127.0.0.1:{window.port}/api/network"
    body = json.dumps({"network": next(iter(lab.links)), "use": "excluded"})
    for kind in ("text/plain", "application/json", "application/x-www-form-urlencoded"):
        for mode in ("cors", "no-cors"):
            options = {"method": "POST", "mode": mode, "body": body, "headers": {"Content-Type": kind},
                       "credentials": "include"}  # fmt: skip
            attack.evaluate(READ, [url, options])
    guess = {
        "method": "POST",
        "body": body,
        "headers": {"Content-Type": "application/json", "Authorization": "Bearer x"},
    }
    attack.evaluate(READ, [url, guess])
    attack.evaluate("([url, body]) => navigator.sendBeacon(url, body)", [url, body])
    attack.evaluate(
        """([url, body]) => { const form = document.createElement("form");
           form.method = "POST"; form.enctype = "text/plain"; form.action = url;
           const field = document.createElement("input");
           field.name = body.slice(0, -1) + ', "x":"'; field.value = '"}';
           form.append(field); document.body.append(form); form.submit(); }""",
        [url, body],
    )
    attack.wait_for_url(url)
    assert "no_permission" in attack.content()
    assert state(daemons) == before


def test_a_name_rebound_to_this_computer_reaches_nothing(
    playwright: Playwright, lab: Lab, window: Window, evil: Evil, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rules = f"--host-resolver-rules=MAP evil.example:80 127.0.0.1:{evil.port}, MAP evil.example 127.0.0.1"
    browser = launch(playwright, lab, tmp_path_factory, rules)
    try:
        page = browser.new_page()
        answer = page.goto(f"http://evil.example:{window.port}/")
        assert answer is not None
        assert answer.status == 403
        for path in ("/api/about", "/api/events", "/api/hello?nonce=" + "0" * 32):
            kind, status, text = page.evaluate(READ, [path, {"headers": {"Authorization": "Bearer guess"}}])
            assert (kind, status) == ("basic", 403), "the browser takes it for the same origin, and we do not"
            assert "proof" not in text
        kind, status, _ = page.evaluate(
            READ, ["/api/undo", {"method": "POST", "body": "{}", "headers": {"Content-Type": "application/json"}}]
        )
        assert status == 403
    finally:
        browser.close()


def test_the_window_cannot_be_framed(attack: Page, window: Window) -> None:
    attack.evaluate(
        """(url) => new Promise((done) => { const frame = document.createElement("iframe");
           frame.onload = done; frame.src = url; document.body.append(frame); })""",
        window.address,
    )
    (frame,) = (one for one in attack.frames if one != attack.main_frame)
    assert not frame.url.startswith("http://127.0.0.1")


def test_a_window_that_was_opened_by_another_page_gives_nothing_back(attack: Page, window: Window) -> None:
    with attack.context.expect_page() as opened:
        attack.evaluate("(url) => { window.theirs = window.open(url); }", window.address)
    opened.value.locator("[data-network]").first.wait_for()
    assert attack.evaluate("() => theirs.closed || theirs.window === null"), "COOP cuts the two apart"
    assert opened.value.evaluate("() => window.opener") is None


def test_the_token_is_nowhere_but_in_the_page_s_memory(page: Page, context: BrowserContext, window: Window) -> None:
    assert window.token not in page.url
    assert context.cookies() == []
    kept = page.evaluate("() => JSON.stringify([{...localStorage}, {...sessionStorage}, history.state, location.href])")
    assert window.token not in kept
    assert window.token not in page.content()
    leaked = page.evaluate(
        "(token) => Object.getOwnPropertyNames(window).filter((name) => {"
        " try { return JSON.stringify(window[name])?.includes(token) } catch { return false } })",
        window.token,
    )
    assert leaked == []


def test_after_the_window_has_ended_another_user_s_server_on_its_port_does_not_get_the_token(
    context: BrowserContext, lab: Lab, daemons: Daemons
) -> None:
    own = Window(lab, topology.MOBILE_HOST, daemons.host_socket)
    page = context.new_page()
    page.goto(own.address)
    page.locator("[data-network]").first.wait_for()
    own.stop()
    evil = Evil(lab.namespace(topology.MOBILE_HOST), own.port)
    try:
        for _ in range(100):
            if any(path.startswith("/api/hello") for path, _ in evil.seen):
                break
            page.wait_for_timeout(100)
        page.wait_for_timeout(1500)
        assert any(path.startswith("/api/hello") for path, _ in evil.seen), "the page asks who is there"
        assert all(own.token not in json.dumps(headers) + path for path, headers in evil.seen)
        assert {path.partition("?")[0] for path, _ in evil.seen} <= {"/api/hello"}
    finally:
        evil.close()


def test_nothing_is_loaded_from_elsewhere(context: BrowserContext, window: Window) -> None:
    page, asked, complaints = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(window.address)
    page.locator("[data-network]").first.wait_for()
    page.wait_for_timeout(500)
    assert all(url.startswith((f"http://127.0.0.1:{window.port}/", "data:")) for url in asked)
    assert not [text for text in complaints if "Content Security Policy" in text]


def test_a_page_s_text_is_text(page: Page, browser: Browser) -> None:
    """The policy itself: no inline script runs in the window, whatever finds its way into it."""
    page.evaluate(
        """() => { const place = document.createElement("div"); window.pwned = false;
           place.innerHTML = '<img src=x onerror="window.pwned = true"><a href="javascript:window.pwned=true">x</a>';
           document.body.append(place); place.querySelector("a").click();
           const inline = document.createElement("script"); inline.textContent = "window.pwned = true";
           document.body.append(inline); }"""
    )
    page.wait_for_timeout(300)
    assert page.evaluate("() => window.pwned") is False
