"""What is shown where a chat system lacks something."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connectors.contract.messages import (
    Button,
    Capabilities,
    File,
    Message,
    OpenThread,
    OutboundContent,
    Replace,
    Retitle,
)
from connectors.delivery.capability_fallbacks import adapt, beside_byline, signed
from connectors.memory import ALL_CAPABILITIES

ASKED = Message(text="Really? `!confirm`", buttons=(Button(key="✅", label="Yes"),))
PLAIN = replace(ASKED, buttons=())
WITH_BUTTONS = replace(ALL_CAPABILITIES, buttons=True, titles=True)


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (ASKED, PLAIN),
        (OpenThread(title="t", message=ASKED), OpenThread(title="t", message=PLAIN)),
        (Replace(target="k", message=ASKED), Replace(target="k", message=PLAIN)),
    ],
)
def test_buttons_are_left_out_where_there_are_none(content: OutboundContent, left: OutboundContent) -> None:
    assert adapt(content, WITH_BUTTONS) == content
    assert adapt(content, ALL_CAPABILITIES) == left


def test_a_last_word_or_an_opener_that_becomes_a_message_loses_its_buttons_too() -> None:
    lacking = replace(ALL_CAPABILITIES, edits=False, threads=False)
    assert adapt(Replace(target="k", message=ASKED, final=True), lacking) == PLAIN
    assert adapt(OpenThread(title="t", message=ASKED), lacking) == PLAIN


def test_threads_are_renamed_only_where_they_have_names() -> None:
    name = Retitle(title="coder0", archived=True)
    assert adapt(name, WITH_BUTTONS) == name
    assert adapt(name, ALL_CAPABILITIES) is None
    assert adapt(name, replace(WITH_BUTTONS, threads=False)) is None


def test_words_begin_with_whose_they_are() -> None:
    said = Message(text="hello", html="<p>hello</p>", byline="<coder0>")
    named = signed(said)
    assert named == replace(
        said, text="**<coder0>**:\n\nhello", html="<p><strong>&lt;coder0&gt;</strong>:</p>\n<p>hello</p>"
    )
    assert signed(Replace(target="k", message=said)) == Replace(target="k", message=named)
    nobody = Message(text="hello")
    assert signed(nobody) == nobody


def test_instead_of_a_file_for_one_person_its_caption_is_for_them_alone() -> None:
    file = File(path="/x", name="x", media_type="text/plain", caption="all of it", reply_to="1", private=True)
    lacking = replace(ALL_CAPABILITIES, files=False)
    assert adapt(file, lacking) == Message(text="all of it", reply_to="1", private=True)


@pytest.mark.parametrize("html", [None, "<p>" + "x" * 400 + "</p>"])
def test_beside_a_byline_there_is_room_for_what_fits(html: str | None) -> None:
    can = Capabilities(max_text=1000, html=html is not None)
    left = beside_byline(can, "<cöder>").max_text - len(html or "")
    named = signed(Message(text="x" * left, html=html, byline="<cöder>"))
    assert isinstance(named, Message)
    assert 0 < len(named.text.encode()) + len(named.html or "") <= can.max_text
