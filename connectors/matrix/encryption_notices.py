"""What a connector has to say of encrypted rooms itself; each thing once, whatever happens in between."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from connectors.contract.messages import Inbound, Remark
from connectors.matrix.message_conversion import conversation_of, sent_at

Json: TypeAlias = dict[str, Any]

_ID = re.compile(r"[A-Za-z0-9@:/._=~+-]{1,255}")


@dataclass(kw_only=True)
class EncryptionNotices:
    """Those that are not durable yet. Their ids are made from what they are about."""

    connector: str
    _waiting: dict[str, Inbound] = field(default_factory=dict, init=False)
    _handed: frozenset[str] = field(default=frozenset(), init=False)

    def add(self, room: str, event: Json, identity: str, text: str) -> None:
        """Say something where an event stands.

        Args:
            room: its room.
            event: the event; of none, whose name the remark bears, and when.
            identity: what it is about: said once.
            text: Markdown.
        """
        conversation = conversation_of(event, room)
        digest = hashlib.blake2s(identity.encode("utf-8", "replace"), digest_size=16).hexdigest()
        self._waiting.setdefault(
            digest,
            Inbound(
                connector=self.connector,
                event_id=f"remark:{digest}",
                conversation=conversation,
                parent=room if conversation != room else None,
                sender=str(event.get("sender")),
                sent_at=sent_at(event),
                body=Remark(text=text),
            ),
        )

    def hand_on(self) -> list[Inbound]:
        """Return all of them; `settle` once they are durable."""
        self._handed = frozenset(self._waiting)
        return list(self._waiting.values())

    def settle(self) -> None:
        """Let go of those that were handed on."""
        for each in self._handed:
            self._waiting.pop(each, None)
        self._handed = frozenset()


def quoted(name: object) -> str:
    """Return an id in a sentence; ids that could be taken for something else are not shown."""
    return f"`{name}`" if isinstance(name, str) and _ID.fullmatch(name) else "somebody"
