"""What stands in for what a chat system cannot do."""

from __future__ import annotations

from dataclasses import replace
from html import escape

from connectors.contract.messages import (
    Capabilities,
    File,
    Message,
    OpenThread,
    OutboundContent,
    React,
    Replace,
    Retitle,
)


def adapt(content: OutboundContent, capabilities: Capabilities) -> OutboundContent | None:
    """Return the nearest thing that the chat system can show; None when it is better to say nothing."""
    match content:
        case React() if not capabilities.reactions:
            return None
        case Retitle() if not (capabilities.titles and capabilities.threads):
            return None
        case Replace(final=final, message=message) if not capabilities.edits:
            return _fitting(message, capabilities) if final else None
        case OpenThread(message=message) if not capabilities.threads:
            return _fitting(message, capabilities)
        case File(caption=caption, reply_to=to, private=private) if not capabilities.files:
            return Message(text=caption, reply_to=to, private=private)
        case Message():
            return _fitting(content, capabilities)
        case OpenThread(message=message) | Replace(message=message):
            return replace(content, message=_fitting(message, capabilities))
        case _:
            return content


def signed(content: OutboundContent) -> OutboundContent:
    """Return the same, beginning with the name of whose words they are."""
    match content:
        case Message(byline=str(name), text=text, html=html):
            rich = None if html is None else _byline_html(name) + html
            return replace(content, text=_byline(name) + text, html=rich)
        case Replace(message=message):
            named = signed(message)
            assert isinstance(named, Message)
            return replace(content, message=named)
        case _:
            return content


def beside_byline(capabilities: Capabilities, name: str) -> Capabilities:
    """Return what can be said of someone so that `signed` still fits."""
    taken = len(_byline(name).encode()) + (len(_byline_html(name)) if capabilities.html else 0)
    return replace(capabilities, max_text=max(1, capabilities.max_text - taken))


def _byline(name: str) -> str:
    return f"**{name}**:\n\n"


def _byline_html(name: str) -> str:
    return f"<p><strong>{escape(name)}</strong>:</p>\n"


def _fitting(message: Message, capabilities: Capabilities) -> Message:
    return replace(message, buttons=()) if message.buttons and not capabilities.buttons else message
