"""What goes out as an event, and files both ways: in the clear, or encrypted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, TypeAlias

from connectors.contract.connector_protocol import MessageRefused
from connectors.contract.messages import Attachment, File, Message, OpenThread, Outbound, React, Replace, Retitle
from connectors.matrix import message_conversion
from connectors.matrix.encrypted_files import FileSecrets, Tampered, open_file, seal_file
from connectors.matrix.homeserver_client import CLIENT, MEDIA, HomeserverClient, MatrixRefusal

Json: TypeAlias = dict[str, Any]

_MESSAGE = "m.room.message"


async def event(
    wire: HomeserverClient,
    outbound: Outbound,
    *,
    root: str | None,
    latest: str | None,
    target: str | None,
    sealed: bool,
) -> tuple[str, Json]:
    """Return the type and the content of the event that says it; its file is uploaded.

    Args:
        wire: to the homeserver.
        outbound: what is to be said.
        root: the event that opens the thread in which it is said.
        latest: the newest event there.
        target: what it replaces or reacts to.
        sealed: whether the event is going to be encrypted, and so is the file.

    Raises:
        MessageRefused: it can never be said.
        HomeserverRequestError: the file was not taken.
    """
    limit = message_conversion.SEALED_LIMIT if sealed else message_conversion.CONTENT_LIMIT
    match outbound.content:
        case Message() as message:
            return _MESSAGE, message_conversion.spoken(message, key=outbound.key, root=root, latest=latest, limit=limit)
        case OpenThread(message=message):
            return _MESSAGE, message_conversion.spoken(message, key=outbound.key, limit=limit)
        case Replace(message=message):
            if target is None:
                raise MessageRefused("the message that is to be replaced was never sent.")
            return _MESSAGE, message_conversion.replacement(message, key=outbound.key, target=target, limit=limit)
        case React(target=given, key=key):
            # Reactions stand in the clear.
            ours = message_conversion.sealed_key(outbound.key) if sealed else outbound.key
            return "m.reaction", message_conversion.reaction(key, outbox_key=ours, target=target or given)
        case File() as file:
            address, length, secrets = await _upload(wire, file, sealed=sealed)
            return _MESSAGE, message_conversion.uploaded(
                address=address,
                name=file.name,
                media_type=file.media_type,
                length=length,
                caption=file.caption,
                key=outbound.key,
                root=root,
                latest=latest,
                secrets=secrets,
            )
        case Retitle():
            raise MessageRefused("threads on Matrix have no names.")


async def _upload(wire: HomeserverClient, file: File, *, sealed: bool) -> tuple[str, int, FileSecrets | None]:
    try:
        raw = await asyncio.to_thread(Path(file.path).read_bytes)
    except OSError as error:
        raise MessageRefused(f"the file {file.name} cannot be read any more: {error.strerror}.") from error
    if not sealed:
        return await wire.upload(raw, file.name, file.media_type), len(raw), None
    ciphertext, secrets = await asyncio.to_thread(seal_file, raw)
    # The homeserver learns how long it is, and no more.
    return await wire.upload(ciphertext, "file", "application/octet-stream"), len(raw), secrets


async def fetch(wire: HomeserverClient, attachment: Attachment, limit: int) -> bytes:
    """Return the content of an attachment.

    Raises:
        MessageRefused: it has no address, is larger than `limit` bytes, or is not what was encrypted.
        HomeserverRequestError: the homeserver did not give it.
    """
    place = message_conversion.media(attachment.ref)
    if place is None:
        raise MessageRefused(f"{attachment.name} has no address in a media repository.")
    try:
        found = await wire.read("media", "download", *place, base=f"{CLIENT}/v1", limit=limit)
    except MatrixRefusal as error:
        if error.code != "M_UNRECOGNIZED":
            raise
        # Homeservers from before Matrix 1.11 give media to anybody.
        found = await wire.read("download", *place, base=f"{MEDIA}/v3", limit=limit)
    if found is None:
        raise MessageRefused(f"{attachment.name} is larger than the {limit:,} bytes that are taken.")
    secrets = FileSecrets.of(attachment.ref)
    if secrets is None:
        return found
    try:
        return await asyncio.to_thread(open_file, found, secrets)
    except Tampered as error:
        raise MessageRefused(f"{attachment.name} is not what its sender encrypted: {error}") from error
