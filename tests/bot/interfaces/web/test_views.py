"""Lists of any length are shown in pages, and keys of views come from browsers."""

from __future__ import annotations

import pytest

from bot.interfaces.web.stream import part
from bot.interfaces.web.views import PAGE, NoSuchView, page_of, view_of, view_with
from bot.read_models.documents import Document
from bot.read_models.fleet import FleetAgent, FleetModel
from bot.read_models.provenance import Provenance
from bot.read_models.runs import RunLine, RunsModel
from tests.bot.interfaces.web.test_hostile import templates, visitor


def fleet(count: int) -> Document:
    agents = tuple(
        FleetAgent(
            name=f"coder{number:03}", role="coder", runtime="sim", wanted="running", seen=Provenance(),
            state="waiting" if number == count - 1 else "idle", sandbox="bubblewrap", workspace="/w", host="h",
            tenant_id="t",
        )
        for number in range(count)
    )  # fmt: skip
    return Document(name="fleet", revision=1, epoch="e", made_at=1.0, value=FleetModel(agents=agents))


def shown(count: int, **parameters: str) -> str:
    return part(templates(), view_of("fleet", parameters), {"fleet": fleet(count)}, visitor("ana"))


def test_a_thousand_agents_are_twenty_pages_and_those_that_wait_come_first() -> None:
    first, last = shown(1000), shown(1000, page="20")
    assert first.count("<tr data-key") == last.count("<tr data-key") == PAGE
    assert 'data-key="coder999"' in first
    assert "Page 1 of 20, 1000 in all" in first
    assert 'rel="prev"' not in first
    assert 'rel="next"' not in last
    assert len(first) < 60_000
    assert "pager" not in shown(PAGE)


@pytest.mark.parametrize(
    ("wanted", "number"), [(None, 1), ("0", 1), ("2", 2), ("99", 3), ("-1", 1), ("x", 1), ("9" * 99, 1)]
)
def test_there_is_always_a_page(wanted: str | None, number: int) -> None:
    assert page_of(range(PAGE * 2 + 1), wanted).number == number
    assert page_of([], wanted).items == []


def test_a_view_is_known_by_its_key() -> None:
    for key in ("fleet", "fleet?all=1&page=2", "agent?name=coder0", "nav"):
        assert view_with(key).key == key
    assert view_with("agent?name=coder0").documents == ("agents/coder0", "waiting")


@pytest.mark.parametrize(
    "key",
    ["", "x", "fleet?x=1", "fleet?page=1&page=2&all=1&all=2&page=3", "agent", "agent?name=", "agent?name=../x",
     "agent?name=a/b", "agent?name=a%00", "fleet?page", "fleet?" + "page=1" * 99],
)  # fmt: skip
def test_other_keys_are_none(key: str) -> None:
    with pytest.raises(NoSuchView):
        view_with(key)


def test_a_run_shows_its_color_as_a_word_and_escapes_what_an_agent_said() -> None:
    run = RunLine(
        id="1a2b3c4d", agent="coder-2", role="coder", state="failed", prompt="<b>mend</b>", detail="<i>no</i>",
        color="bright-red", source="github.com", reference="owner/repo#17", asked_by="ana", created_at=1.0,
    )  # fmt: skip
    document = Document(name="runs", revision=1, epoch="e", made_at=1.0, value=RunsModel(ended=(run,)))
    page = part(templates(), view_of("runs"), {"runs": document}, visitor("ana"))
    assert 'class="mark color-bright-red">bright-red<' in page
    assert "owner/repo#17" in page
    assert "<b>" not in page
    assert "<i>" not in page
