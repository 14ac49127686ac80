"""A window has a chart where it has a beginning, an end and a known use, and always a table with its numbers."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bot.interfaces.web.charts import window_shown
from bot.interfaces.web.stream import part
from bot.interfaces.web.views import view_of
from bot.read_models.documents import Document
from bot.read_models.limits import (
    AccountModel,
    AccountWindow,
    Authorization,
    GovernedBy,
    LimitLine,
    LimitsModel,
    WindowPace,
    WindowProjection,
)
from tests.bot.interfaces.web.test_hostile import templates, visitor

NOW = 1_800_000_000.0
DAY = 86_400.0
WEEK = WindowPace(
    key="account:main/7d", scope="account:main", unit="share", limit=1.0, used=0.4, line=0.5, may_use_now=0.1,
    begins_at=NOW - 3 * DAY, resets_at=NOW + 4 * DAY, drawn_at=NOW - 3 * DAY, use=((NOW - 2 * DAY, 0.2), (NOW, 0.4)),
    even=((NOW - 3 * DAY, 0.0), (NOW + 4 * DAY, 1.0)), projection=WindowProjection(expected=0.9, low=0.7, high=1.1),
)  # fmt: skip
LIMITS = LimitsModel(at=NOW, windows=(WEEK,), zone="Europe/Vienna")


@pytest.mark.parametrize("length", [3600.0, 5 * 3600.0, DAY, 7 * DAY, 31 * DAY])
def test_a_window_is_drawn_whatever_its_length(length: float) -> None:
    window = replace(WEEK, begins_at=NOW - length / 2, resets_at=NOW + length / 2)
    chart = window_shown(window, LIMITS).chart
    assert chart is not None
    words = [each.text for each in ElementTree.fromstring(chart).iter() if each.text]
    assert "40% used, line 50%" in words


@pytest.mark.parametrize(
    "window",
    [replace(WEEK, used=None, outdated_at=None, limit=0.0), replace(WEEK, begins_at=None),
     replace(WEEK, resets_at=None), replace(WEEK, resets_at=NOW - 1)],
)  # fmt: skip
def test_what_is_not_known_is_not_drawn(window: WindowPace) -> None:
    assert window_shown(window, LIMITS).chart is None


def test_the_table_says_what_the_chart_shows() -> None:
    document = Document(name="limits", revision=1, epoch="e", made_at=NOW, value=LIMITS)
    html = part(templates(), view_of("limits"), {"limits": document}, visitor("ana"))
    assert "<svg" in html
    for number in ("<td>40%</td>", "<td>100%</td>", "<td>50%</td>", "<td>10%</td>", "<td>90%</td>"):
        assert number in html


def test_the_page_says_which_limit_governs_what_was_authorized_and_what_providers_reported() -> None:
    lines = (
        LimitLine(
            scope="role:coder", agent=None, kind="allowance", limit=100.0, unit="tokens", used=1.0, policy="cutoff",
            state="open", governed_by=(GovernedBy(scope="agent:web-1", agents=("web-1", "web-2"), everybody=False),),
        ),
        LimitLine(
            scope="fleet", agent=None, kind="allowance", limit=100.0, unit="tokens", policy="cutoff", state="overruled",
            governed_by=(GovernedBy(scope="role:coder", agents=("web-1",), everybody=True),),
        ),
    )  # fmt: skip
    limits = replace(
        LIMITS,
        lines=lines,
        authorizations=(
            Authorization(id="1", scope="agent:web-1", unit="tokens", amount=900.0, left=300.0, granted_at=NOW,
                          granted_by="matrix:@ana:x", until=NOW + DAY),
        ),
        accounts=(
            AccountModel(name="main", provider="anthropic", state="open",
                         windows=(AccountWindow(name="5h", used=0.25, seen_at=NOW),)),
        ),
    )  # fmt: skip
    document = Document(name="limits", revision=1, epoch="e", made_at=NOW, value=limits)
    html = part(templates(), view_of("limits"), {"limits": document}, visitor("ana"))
    for words in (
        "agent:web-1 governs web-1, web-2",
        "role:coder governs instead",
        "300 tokens of 900 tokens left",
        "by matrix:@ana:x",
        "5h: 25% used",
    ):
        assert words in html
