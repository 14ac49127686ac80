"""What stands in for what a chat system cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.messages import File, Message, OpenThread, React, Replace

if TYPE_CHECKING:
    from connectors.messages import Capabilities, OutboundContent


def adapt(content: OutboundContent, capabilities: Capabilities) -> OutboundContent | None:
    """The nearest thing that the chat system can show; None when it is better to say nothing."""
    match content:
        case React() if not capabilities.reactions:
            return None
        case Replace(final=final, message=message) if not capabilities.edits:
            return message if final else None
        case OpenThread(message=message) if not capabilities.threads:
            return message
        case File(caption=caption) if not capabilities.files:
            return Message(text=caption)
        case _:
            return content
