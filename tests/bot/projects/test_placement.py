"""Where words go is what the room says, or the project that they name."""

from __future__ import annotations

import pytest

from bot.config.projects import ProjectBlock, RoomBlock
from bot.projects.placement import OpenTopic, Placement, Placements, ToAgent

PLACEMENTS = Placements(
    projects={"web": ProjectBlock(repo="/web", room="matrix:#web:x"), "api": ProjectBlock(repo="/api")},
    rooms={
        "matrix:!lead:x": RoomBlock(words="orchestrator"),
        "matrix:!coder:x": RoomBlock(words="coder0"),
        "matrix:!api:x": RoomBlock(words="topic", project="api"),
    },
    locate=lambda _, room: "!web:x" if room == "#web:x" else room,
)


@pytest.mark.parametrize(
    ("room", "text", "place"),
    [
        ("!web:x", "mend it", OpenTopic("web", "mend it")),
        ("!web:x", "@api mend it", OpenTopic("api", "mend it")),
        ("!main:x", "mend it", None),
        ("!main:x", "@web: mend\nit", OpenTopic("web", "mend\nit")),
        ("!main:x", "@Web, mend it", OpenTopic("web", "mend it")),
        ("!main:x", "@webs mend it", None),
        ("!main:x", "@nobody mend it", None),
        ("!main:x", "mail me@web mend it", None),
        ("!lead:x", "mend it", None),
        ("!coder:x", "mend it", ToAgent("coder0")),
        ("!api:x", "mend it", OpenTopic("api", "mend it")),
    ],
)
def test_words_go_where_the_room_says(room: str, text: str, place: Placement) -> None:
    assert PLACEMENTS.of("matrix", room, text) == place


def test_a_room_of_the_same_name_on_another_chat_system_is_another_room() -> None:
    assert PLACEMENTS.of("discord", "!web:x", "mend it") is None
