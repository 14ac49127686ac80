"""Reading what is in a room already (Client-Server API, "GET /rooms/{roomId}/messages")."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

from connectors.matrix.homeserver_client import CLIENT, HomeserverClient, MatrixRefusal
from connectors.matrix.message_conversion import KEY, sealed_key

Json: TypeAlias = dict[str, Any]

#: The events that mean something to us.
TYPES = (
    "m.room.message",
    "m.reaction",
    "m.room.redaction",
    "m.room.member",
    "m.room.encrypted",
    "m.room.encryption",
    "m.room.tombstone",
    "m.room.power_levels",
)

_PAGE = 100
#: How many events back a message of ours is looked for. Homeservers that can filter by sender give only our own.
_SEARCHED = 1_000


async def between(wire: HomeserverClient, room: str, since: str, known: Sequence[str]) -> AsyncIterator[list[Json]]:
    """Yield what came after the sync token `since` and is not among `known`, the ids of the timeline that came with the
    sync.

    Page by page, oldest first, forward from where the last sync ended: so whatever its size, a gap is read in bounded
    memory, and nothing before it is touched. A timeline has what came last, the history what was said last, and these
    differ where other homeservers take part, some of which are late or lie about when something was said. So it is read
    until all that is known has come by, and no part of that alone tells how far the gap goes.
    """
    token = since
    missing = set(known)
    while True:
        query = {"dir": "f", "from": token, "limit": str(_PAGE), "filter": json.dumps({"types": TYPES})}
        answer = await wire.call("GET", "rooms", room, "messages", query=query)
        page = events_of(answer.get("chunk"))
        seen = [place for place, event in enumerate(page) if event.get("event_id") in missing]
        missing -= {page[place]["event_id"] for place in seen}
        at_end = bool(seen) and not missing
        if at_end:
            # What was said after that comes with the next sync, in its turn.
            page = page[: seen[-1]]
        fresh = [event for event in page if event.get("event_id") not in known]
        if fresh:
            yield fresh
        following = answer.get("end")
        # An empty page with an `end` is one whose events we may not see; without, it is the end of the room.
        if at_end or not isinstance(following, str) or following == token:
            return
        token = following


async def own_event(wire: HomeserverClient, room: str, user: str, key: str) -> str | None:
    """Return the id of the event that we sent under an outbox key, if it is among the newest."""
    token: str | None = None
    searched = 0
    wanted = {"senders": [user], "types": ["m.room.message", "m.reaction", "m.room.encrypted"]}
    # An encrypted one shows no word of its key.
    keys = (key, sealed_key(key))
    while searched < _SEARCHED:
        query = {"dir": "b", "limit": str(_PAGE), "filter": json.dumps(wanted)} | ({"from": token} if token else {})
        answer = await wire.call("GET", "rooms", room, "messages", query=query)
        page = events_of(answer.get("chunk"))
        for event in page:
            content = event.get("content")
            if event.get("sender") == user and isinstance(content, dict) and content.get(KEY) in keys:
                return _event_id(event)
        searched += max(len(page), 1)
        following = answer.get("end")
        if not isinstance(following, str) or following == token:
            return None
        token = following
    return None


async def own_reaction(wire: HomeserverClient, room: str, user: str, target: str, key: str) -> str | None:
    """Return the id of our reaction `key` to `target`, if there is one."""
    token: str | None = None
    for _ in range(_SEARCHED // _PAGE):
        query = {"limit": str(_PAGE)} | ({"from": token} if token else {})
        path = ("rooms", room, "relations", target, "m.annotation", "m.reaction")
        try:
            answer = await wire.call("GET", *path, base=f"{CLIENT}/v1", query=query)
        except MatrixRefusal as error:
            if error.passes:
                raise
            return None
        for event in events_of(answer.get("chunk")):
            content = event.get("content")
            relation = content.get("m.relates_to") if isinstance(content, dict) else None
            if event.get("sender") == user and isinstance(relation, dict) and relation.get("key") == key:
                return _event_id(event)
        following = answer.get("next_batch")
        if not isinstance(following, str) or following == token:
            return None
        token = following
    return None


def events_of(value: object) -> list[Json]:
    """Return the events in a list that a homeserver gave."""
    return [event for event in value if isinstance(event, dict)] if isinstance(value, list) else []


def _event_id(event: Json) -> str | None:
    found = event.get("event_id")
    return found if isinstance(found, str) else None
