"""The way to the providers: how long it waits for one that says nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import pytest
from multidict import CIMultiDict

from egress import upstream
from egress.upstream import Upstream, UpstreamGone

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


@pytest.mark.parametrize("said", [b"", _HEAD, _HEAD + b"and then"], ids=["nothing", "head", "part"])
async def test_a_provider_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(upstream, "SILENCE_S", 0.2)

    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        over.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    way = Upstream()
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/models"
    try:
        async with asyncio.timeout(20):
            if said:
                response = await way.send("GET", url, CIMultiDict(), None)
                with pytest.raises(aiohttp.SocketTimeoutError):
                    await response.content.read()
                upstream.abort(response)
            else:
                with pytest.raises(UpstreamGone, match="the time for it is over"):
                    await way.send("GET", url, CIMultiDict(), None)
            await way.close()
            await over.wait()
    finally:
        server.close()
        await server.wait_closed()


class _Clock:
    """In the place of the loop: the time is what it is set to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.alarms: list[_Alarm] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, act: Callable[[], None]) -> _Alarm:
        self.alarms.append(_Alarm(when, act))
        return self.alarms[-1]

    def until(self, now: float) -> None:
        """Let the time pass."""
        while due := [alarm for alarm in self.alarms if alarm.when <= now]:
            self.alarms.remove(due[0])
            self.now = due[0].when
            due[0].act()
        self.now = now


class _Alarm:
    def __init__(self, when: float, act: Callable[[], None]) -> None:
        self.when, self.act = when, act


def test_the_clock_begins_anew_with_every_piece_and_stands_still_between_requests() -> None:
    clock = _Clock()
    connection = upstream._Connection(loop=cast("Any", clock))
    connection.read_timeout = 10.0
    connection.start_timeout()
    for now in range(1, 100):
        clock.until(now)
        # Nothing was asked for that a piece would complete: it is kept, and was heard.
        connection.data_received(b"piece")
        assert len(clock.alarms) == 1
    connection.eof_received()
    clock.until(500)
    assert connection.exception() is None
    connection.start_timeout()
    clock.until(509)
    assert connection.exception() is None
    clock.until(511)
    assert isinstance(connection.exception(), aiohttp.SocketTimeoutError)
