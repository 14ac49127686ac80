"""What comes from elsewhere is refused: other names, other sites, other paths, and everything of the gateway."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from bot.interfaces.web.server import LONGEST_BODY
from tests.bot.interfaces.web.browser import Browser, browser
from tests.bot.orchestrator import House


@pytest.fixture
async def it(home: House) -> AsyncIterator[Browser]:
    async with browser(home) as made:
        await made.log_in()
        yield made


ROUTES_OF_THE_GATEWAY = (
    ("GET", "/v1/commands"), ("POST", "/v1/commands/ps"), ("POST", "/v1/commands/task/add"),
    ("POST", "/v1/commands/approvals/rule/add"), ("GET", "/v1/openapi.json"), ("GET", "/v1/complete?source=agents"),
    ("GET", "/v1/health"), ("GET", "/v1/events"), ("GET", "/v1/terminal"), ("GET", "/v1/documents/fleet"),
    ("GET", "/v1/stream?documents=fleet"), ("GET", "/static/../v1/health"), ("GET", "//v1/commands"),
)  # fmt: skip


async def test_no_route_of_the_gateway_answers_here(it: Browser) -> None:
    for method, path in ROUTES_OF_THE_GATEWAY:
        answer = await (it.get(path) if method == "GET" else it.post(path, {}))
        assert answer.status == 404, path
        assert "There is no such page" in answer.text


async def test_other_names_are_refused(it: Browser) -> None:
    port = it.origin.rpartition(":")[2]
    others = (
        "evil.example",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost",
        f"127.0.0.1.evil.example:{port}",
        f"x@127.0.0.1:{port}",
        "",
    )
    for host in others:
        assert (await it.get("/", Host=host)).status == 421, host
    assert (await it.get("/", Host=f"LOCALHOST:{port}")).status == 200


async def test_a_request_has_one_name(it: Browser) -> None:
    """Two Host headers, or an address in the first line, get no page of another name."""
    port = it.origin.rpartition(":")[2]
    for lines in (
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(lines.encode())
        status = (await reader.readline()).decode()
        writer.close()
        await writer.wait_closed()
        assert re.match(r"HTTP/1\.[01] (400|421) ", status), lines


async def test_forms_of_other_sites_are_refused(it: Browser) -> None:
    fields = {"csrf": (await it.get("/")).field("csrf")}
    async with it.client.post(f"{it.origin}/logout", data=fields) as answer:
        assert answer.status == 403, "it had no origin"
    for origin in ("null", "https://evil.example", "http://127.0.0.1", "http://127.0.0.1:1", ""):
        assert (await it.post("/logout", fields, Origin=origin)).status == 403, origin
        assert (await it.post("/login", {"to": "/"}, Origin=origin)).status == 403, origin
    assert (await it.get("/")).status == 200


async def test_other_sites_read_nothing(it: Browser) -> None:
    assert (
        await it.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image")
    ).status == 403
    assert (await it.get("/events?part=fleet", Sec_Fetch_Site="same-site", Sec_Fetch_Mode="cors")).status == 403
    assert (await it.get("/", Origin="https://evil.example")).status == 403
    framed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}
    assert (await it.get("/", **framed)).status == 403


async def test_a_link_in_a_chat_room_leads_in_though_its_first_request_has_no_cookie(home: House, it: Browser) -> None:
    followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    async with browser(home) as stranger:
        page = await stranger.get("/waiting/abc?x=1", **followed)
    assert page.status == 200
    assert 'content="0;url=/waiting/abc?x=1"' in page.text


@pytest.mark.parametrize("token", ["", "0" * 80, None])
async def test_a_form_has_the_token_of_its_session(home: House, it: Browser, token: str | None) -> None:
    if token is None:
        async with browser(home) as other:
            await other.log_in()
            token = (await other.get("/")).field("csrf")
    fields = {"csrf": token, "a.text": "steal", "a.role": "coder"}
    assert (await it.post("/commands/task/add", fields)).status == 403
    assert "steal" not in (await it.get("/tasks")).text


NO_PAGES = (
    "/../etc/passwd", "/static/..%2f..%2fserver.py", "/static/x/..%2fguard.py", "/agents/..%2f..%2fetc", "/agents/%00",
    "/agents/" + "a" * 300, "/commands/", "/commands/ps/", "/commands/PS", "/done/" + "0" * 32, "/waiting/%2e%2e%2f",
    "/audit?before=x", "/agents/coder0?before=../../x", "/nothing", "/agents/nobody", "/done/x", "/login/state/x",
)  # fmt: skip


async def test_what_is_no_page_is_said_to_be_none(it: Browser) -> None:
    for path in NO_PAGES:
        answer = await it.get(path)
        assert answer.status in (400, 404), path
        assert "root:" not in answer.text


async def test_every_answer_is_guarded(it: Browser) -> None:
    style = re.search(r"/static/\w+/muster\.css", (await it.get("/")).text)
    assert style is not None
    for path in ("/", "/login/state", style[0], "/nothing", "/manifest.webmanifest", "/agents/nobody"):
        headers = (await it.get(path)).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert ("immutable" in headers["Cache-Control"]) == path.startswith("/static/")


async def test_no_page_has_scripts_or_styles_in_it(it: Browser) -> None:
    for path in ("/", "/waiting", "/tasks", "/audit", "/health", "/commands", "/commands/launch", "/sessions"):
        text = (await it.get(path)).text
        assert not re.search(
            r"<script(?! type=\"module\" src=\"/static/)|<style|\sstyle=|\son[a-z]+=|javascript:", text
        ), path


async def test_large_and_strange_bodies_are_refused(it: Browser) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await it.post("/commands/send", b"a=" + b"x" * LONGEST_BODY, **form)).status == 413
    for body, kind in (
        (b"{}", "application/json"), (b"", "text/plain"), (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x"),
    ):  # fmt: skip
        assert (await it.post("/commands/send", body, **{"Content-Type": kind})).status == 415
    assert (await it.post("/commands/send", b"csrf=1&csrf=2", **form)).status == 400


async def test_pages_are_light(it: Browser) -> None:
    """Everything that the first page loads, as it is transferred."""
    total = 0
    found = {"/"}
    done = set[str]()
    while found - done:
        path = (found - done).pop()
        done.add(path)
        async with it.client.get(
            f"{it.origin}{path}", auto_decompress=False, headers={"Accept-Encoding": "gzip"}
        ) as answer:
            assert answer.headers["Content-Encoding"] == "gzip", path
            total += len(await answer.read())
        if path.endswith(".png"):
            continue
        text = (await it.get(path)).text
        found |= set(re.findall(r'(?:href|src)="(/static/[^"]+)"', text))
        if path.endswith(".js"):
            found |= {f"{path.rpartition('/')[0]}/{name}" for name in re.findall(r'from "\./([\w.]+)"', text)}
    assert len(done) >= 7
    assert total < 150_000
