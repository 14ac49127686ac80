"""What is written to the register reads back as it was, also after an upgrade and a roll-back."""

from __future__ import annotations

import json

import pytest

from connectors import codec
from connectors.messages import (
    Attachment,
    Edit,
    Emphasis,
    File,
    InboundBody,
    Message,
    OpenThread,
    OutboundContent,
    React,
    Reaction,
    Redaction,
    Replace,
    Text,
)

MESSAGE = Message(text="hi", html="<b>hi</b>", emphasis=Emphasis.TEXT, reply_to="$1")
PICTURE = Attachment(ref="mxc://x/y", name="a.png", media_type="image/png", size=3)


@pytest.mark.parametrize(
    "body",
    [
        Text(text="hi", attachments=(PICTURE, PICTURE), mentions_us=True),
        Text(text=""),
        Reaction(target="$1", key="+1"),
        Redaction(target="$1"),
        Edit(target="$1", text="ho"),
    ],
)
def test_what_comes_in_reads_back_as_it_was(body: InboundBody) -> None:
    assert codec.decode_inbound(json.loads(json.dumps(codec.encode(body)))) == body


@pytest.mark.parametrize(
    "content",
    [
        MESSAGE,
        Message(text=""),
        OpenThread(title="coder0", message=MESSAGE),
        Replace(target="key", message=MESSAGE, final=True),
        React(target="key", key="+1", own=True),
        File(path="/tmp/f", name="f", media_type="text/plain", caption="see f"),
    ],
)
def test_what_goes_out_reads_back_as_it_was(content: OutboundContent) -> None:
    assert codec.decode_outbound(json.loads(json.dumps(codec.encode(content)))) == content


def test_what_a_newer_version_added_is_left_out() -> None:
    assert codec.decode_inbound({"type": "redaction", "target": "$1", "reason": "spam"}) == Redaction(target="$1")


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (None, "does not know"),
        ([], "does not know"),
        ({"type": "hologram"}, "'hologram'"),
        ({"type": "redaction"}, "incomplete"),
        ({"type": "text", "text": "x", "attachments": [{"ref": "r"}]}, "incomplete"),
    ],
)
def test_an_unknown_or_incomplete_body_is_refused(stored: object, words: str) -> None:
    with pytest.raises(codec.CodecError, match=words):
        codec.decode_inbound(stored)


@pytest.mark.parametrize("stored", [{"type": "replace", "target": "k"}, {"type": "message"}, {"type": "text"}])
def test_an_unknown_or_incomplete_content_is_refused(stored: object) -> None:
    with pytest.raises(codec.CodecError):
        codec.decode_outbound(stored)
