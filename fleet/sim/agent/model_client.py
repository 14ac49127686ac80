"""Asking a model API over HTTP, streaming: asyncio's streams and h11, since an agent should be light."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11

from fleet.sim.agent.model_api_formats import DIALECTS, ApiFormat, Finished, ModelError, ModelQuestion, Piece, failure
from fleet.sim.agent.session_store import Message
from fleet.sim.agent.tools import OFFERS, OfferedTool

CONNECT_TIMEOUT_S = 15.0
#: A provider sends something, if only a ping, far more often.
SILENCE_TIMEOUT_S = 600.0
LONGEST_ERROR = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where the model is, and how it is asked."""

    dialect: ApiFormat
    base_url: str
    key: str
    model: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Endpoint:
        """MUSTER_SIM_API chooses the API (anthropic, responses, chat), MUSTER_SIM_MODEL the model; address and key are
        in the variables that the API's own clients use.

        Raises:
            ModelError: there is no such API, or the address is none.
        """
        name = environment.get("MUSTER_SIM_API", "anthropic")
        dialect = DIALECTS.get(name)
        if dialect is None:
            raise ModelError(f"MUSTER_SIM_API: there is no API {name!r}; known are {', '.join(DIALECTS)}.")
        base_url = environment.get(f"{dialect.prefix}_BASE_URL") or dialect.base_url
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ModelError(f"{dialect.prefix}_BASE_URL: not a URL: {base_url!r}. Write http:// or https:// first.")
        key = environment.get(f"{dialect.prefix}_API_KEY", "")
        if not key:
            raise ModelError(f"{dialect.prefix}_API_KEY is not set: the model API wants a key.")
        model = environment.get("MUSTER_SIM_MODEL") or dialect.model
        return cls(dialect=dialect, base_url=base_url.rstrip("/"), key=key, model=model)


async def ask(
    endpoint: Endpoint, system: str, messages: Sequence[Message], offers: Sequence[OfferedTool] = OFFERS
) -> AsyncGenerator[Piece, None]:
    """Yield the answer as it comes; its last piece is `Finished`. `offers` are the tools that the model may call.

    Raises:
        ModelError: the API cannot be reached, refuses, or breaks off.
    """
    question = endpoint.dialect.question(endpoint.key, endpoint.model, system, messages, offers)
    finished = False
    try:
        async with contextlib.aclosing(_events(endpoint.base_url, question)) as events:
            async for data in events:
                for piece in question.listener.feed(data):
                    yield piece
                    if isinstance(piece, Finished):
                        finished = True
                if finished:
                    return
    except TimeoutError:
        raise ModelError(f"The model API at {endpoint.base_url} was silent for too long.") from None
    except (OSError, h11.RemoteProtocolError, asyncio.IncompleteReadError) as error:
        raise ModelError(f"The connection to the model API at {endpoint.base_url} failed: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The model API at {endpoint.base_url} sent what is not its protocol: {error!r}") from None
    raise ModelError(f"The model API at {endpoint.base_url} ended its answer in the middle.")


class Events:
    """Server-sent events out of bytes, however they are cut (WHATWG HTML, section 9.2). Only data lines matter here."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[str]:
        """Return the data of the events that end in this piece."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        done: list[str] = []
        for raw in lines:
            line = raw.removesuffix(b"\r").decode("utf-8", "replace")
            if line.startswith("data:"):
                self._data.append(line.removeprefix("data:").removeprefix(" "))
            elif not line and self._data:
                done.append("\n".join(self._data))
                self._data = []
        return done


async def _events(base_url: str, question: ModelQuestion) -> AsyncGenerator[dict[str, Any], None]:
    events = Events()
    async with contextlib.aclosing(_post(base_url, question)) as pieces:
        async for piece in pieces:
            for data in events.feed(piece):
                yield {"done": True} if data == "[DONE]" else json.loads(data)


async def _post(base_url: str, question: ModelQuestion) -> AsyncGenerator[bytes, None]:
    """Yield the body of the response as it comes. The connection is closed when the caller stops listening."""
    parts = urlsplit(base_url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(
            parts.hostname, port, ssl=ssl.create_default_context() if secure else None
        )
    try:
        body = json.dumps(question.body).encode()
        protocol = h11.Connection(h11.CLIENT)
        headers = {
            "host": parts.netloc.rpartition("@")[2],
            "content-type": "application/json",
            "content-length": str(len(body)),
            "accept": "text/event-stream",
            "accept-encoding": "identity",
            "user-agent": "muster-sim",
            **question.headers,
        }
        request = h11.Request(method="POST", target=parts.path + question.path, headers=list(headers.items()))
        for event in (request, h11.Data(data=body), h11.EndOfMessage()):
            writer.write(protocol.send(event) or b"")
        await writer.drain()
        async for piece in _read(protocol, reader):
            yield piece
    finally:
        writer.close()


async def _read(protocol: h11.Connection, reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    status, refusal = 0, b""
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            async with asyncio.timeout(SILENCE_TIMEOUT_S):
                protocol.receive_data(await reader.read(64 * 1024))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            if status == 200:
                yield bytes(event.data)
            else:
                refusal = (refusal + bytes(event.data))[:LONGEST_ERROR]
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            break
    if status != 200:
        try:
            source = json.loads(refusal)
        except ValueError:
            source = {"error": {"message": refusal[:200].decode("utf-8", "replace") or "no reason given"}}
        raise failure(source, status)
