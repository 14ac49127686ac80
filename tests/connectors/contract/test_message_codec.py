"""What is written to the register reads back as it was, also after an upgrade and a roll-back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from connectors.contract import message_codec
from connectors.contract.messages import (
    Attachment,
    Button,
    ButtonStyle,
    CommandReading,
    Edit,
    Emphasis,
    File,
    Inbound,
    InboundBody,
    Message,
    OpenThread,
    OutboundContent,
    React,
    Reaction,
    Redaction,
    Remark,
    Replace,
    Retitle,
    Text,
)

MESSAGE = Message(text="hi", html="<b>hi</b>", emphasis=Emphasis.TEXT, reply_to="$1")
YES = Button(key="+1", label="Yes", style=ButtonStyle.GOOD)
PICTURE = Attachment(ref="mxc://x/y", name="a.png", media_type="image/png", size=3)


@pytest.mark.parametrize(
    "body",
    [
        Text(text="hi", attachments=(PICTURE, PICTURE), mentions_us=True),
        Text(text=""),
        Text(text="ps", reading=CommandReading.COMMAND),
        Reaction(target="$1", key="+1"),
        Reaction(target="$1", key="+1", pressed=True),
        Redaction(target="$1"),
        Edit(target="$1", text="ho"),
        Remark(text="`muster ps`"),
    ],
)
def test_what_comes_in_reads_back_as_it_was(body: InboundBody) -> None:
    assert message_codec.decode_inbound(json.loads(json.dumps(message_codec.encode(body)))) == body


def test_an_authors_groups_stand_beside_what_they_wrote() -> None:
    event = Inbound(connector="d", event_id="1", conversation="2", sender="3", sent_at=4.0, body=Text(text="hi"))
    grouped = replace(event, groups=("role:5", "half \ud800 of a pair"))
    stored = json.loads(json.dumps(message_codec.encode_inbound(grouped)))
    assert message_codec.decode_inbound(stored) == Text(text="hi")
    assert message_codec.decode_groups(stored) == ("role:5", "half \ufffd of a pair")
    # Earlier versions stored none, and nothing is stored where there are none.
    assert message_codec.encode_inbound(event) == message_codec.encode(event.body)
    assert [
        message_codec.decode_groups(each) for each in (message_codec.encode(event.body), None, {"groups": "role:5"})
    ] == [()] * 3


@pytest.mark.parametrize(
    "content",
    [
        MESSAGE,
        Message(text=""),
        OpenThread(title="coder0", message=MESSAGE),
        Replace(target="key", message=MESSAGE, final=True),
        Message(text="?", buttons=(YES, Button(key="-1", label="No")), private=True),
        Replace(target="key", message=Message(text="?", buttons=(YES,))),
        React(target="key", key="+1", own=True),
        Retitle(title="coder0", archived=True),
        File(path="/tmp/f", name="f", media_type="text/plain", caption="see f"),
    ],
)
def test_what_goes_out_reads_back_as_it_was(content: OutboundContent) -> None:
    assert message_codec.decode_outbound(json.loads(json.dumps(message_codec.encode(content)))) == content


def test_what_a_newer_version_added_is_left_out() -> None:
    assert message_codec.decode_inbound({"type": "redaction", "target": "$1", "reason": "spam"}) == Redaction(
        target="$1"
    )


def test_a_button_in_a_style_of_a_newer_version_is_a_plain_one() -> None:
    stored = {"type": "message", "text": "?", "buttons": [{"key": "+1", "label": "Yes", "style": "neon"}]}
    assert message_codec.decode_outbound(stored) == Message(text="?", buttons=(Button(key="+1", label="Yes"),))


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
    with pytest.raises(message_codec.CodecError, match=words):
        message_codec.decode_inbound(stored)


NO_BUTTON = {"type": "message", "text": "?", "buttons": ["yes"]}


@pytest.mark.parametrize(
    "stored", [{"type": "replace", "target": "k"}, {"type": "message"}, {"type": "text"}, NO_BUTTON]
)
def test_an_unknown_or_incomplete_content_is_refused(stored: object) -> None:
    with pytest.raises(message_codec.CodecError):
        message_codec.decode_outbound(stored)
