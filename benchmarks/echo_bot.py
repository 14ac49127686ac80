"""The bare thing to compare with: a bot on matrix-nio, as its documentation writes it, that repeats what it is told.

A program: it joins MATRIX_ROOM at MATRIX_HOMESERVER as MATRIX_USER with MATRIX_TOKEN, prints a line when it listens,
and runs until it is killed.
"""

from __future__ import annotations

import asyncio
import os

from nio import AsyncClient, MatrixRoom, RoomMessageText  # type: ignore[import-untyped]


async def main() -> None:
    """Run the bot."""
    client = AsyncClient(os.environ["MATRIX_HOMESERVER"], os.environ["MATRIX_USER"])
    client.access_token = os.environ["MATRIX_TOKEN"]
    client.user_id = os.environ["MATRIX_USER"]

    async def echo(room: MatrixRoom, event: RoomMessageText) -> None:
        if event.sender == client.user_id:
            return
        content = {
            "msgtype": "m.text",
            "body": event.body,
            "m.relates_to": {"m.in_reply_to": {"event_id": event.event_id}},
        }
        await client.room_send(room.room_id, "m.room.message", content)

    await client.join(os.environ["MATRIX_ROOM"])
    await client.sync(timeout=0)
    client.add_event_callback(echo, RoomMessageText)
    print("listening", flush=True)
    await client.sync_forever(timeout=30_000)


if __name__ == "__main__":
    asyncio.run(main())
