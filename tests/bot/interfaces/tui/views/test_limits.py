"""Limits with numbers that a provider may send, or that nobody knows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bot.interfaces.tui.views.limits import (
    ACCOUNTS,
    LIMITS,
    account_items,
    chart_of,
    limit_items,
    limit_notes,
    limit_text,
)
from bot.read_models.limits import LimitsModel, WindowPace
from bot.read_models.provenance import Provenance
from tests.bot.interfaces.tui.scene import NOW, documents


@pytest.fixture
def model() -> LimitsModel:
    found = documents()["limits"]
    assert isinstance(found, LimitsModel)
    return found


def cells(model: LimitsModel, title: str) -> list[str]:
    column = next(each for each in LIMITS.columns if each.title == title)
    return [column.cell(row, NOW)[0] for row in limit_items(model)]


def test_use_and_pace_are_shown_in_short(model: LimitsModel) -> None:
    assert cells(model, "USED") == ["6.2M", "$5.20"]
    assert cells(model, "%") == ["62", "104"]
    assert cells(model, "PACE") == ["3.1M behind", ""]
    assert cells(model, "RESETS IN") == ["2 h", "2 h"]


def test_unknown_use_is_never_shown_as_nothing(model: LimitsModel) -> None:
    unknown = replace(model, lines=tuple(replace(line, used=None) for line in model.lines))
    assert cells(unknown, "USED") == ["?", "?"]
    least = replace(model, lines=(replace(model.lines[0], used=None, at_least=5_000.0),))
    assert cells(least, "USED") == ["≥5k"]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300])
def test_numbers_of_any_size_are_drawn_or_left_out(model: LimitsModel, number: float) -> None:
    window = model.windows[0]
    odd: list[WindowPace] = [
        replace(window, limit=number),
        replace(window, used=number, use=((number, number),), even=((number, number),)),
        replace(window, begins_at=number),
        replace(window, resets_at=number),
    ]
    for each in odd:
        chart_of(each, NOW, 80)
    line = replace(model.lines[0], used=number, resets_at=number)
    for row in limit_items(replace(model, lines=(line,))):
        limit_text(row, NOW, 80)
        for column in LIMITS.columns:
            column.cell(row, NOW)
            if column.order is not None:
                column.order(row)


def test_a_chart_is_as_wide_as_its_pane(model: LimitsModel) -> None:
    chart = chart_of(model.windows[0], NOW, 70)
    assert chart is not None
    assert max(map(len, chart.splitlines())) <= 70
    assert "62 % used, line 93 %" in chart


def test_where_numbers_come_from_is_said(model: LimitsModel) -> None:
    away = replace(
        model, authorizations=(), counted=Provenance(), pace_known=False, problem="The ledger cannot be read."
    )
    assert [line.text for line in limit_notes(away, NOW)] == [
        "The egress does not answer, so use is unknown.",
        "The pace is unknown while Muster is down.",
        "The ledger cannot be read.",
    ]
    ledger = replace(model, counted=Provenance(source="ledger", at=NOW - 7_200))
    assert limit_notes(ledger, NOW)[0].text == "The egress does not answer. This is its ledger, 2 h old."


def test_an_account_without_a_report_is_listed(model: LimitsModel) -> None:
    rows = account_items(model)
    window = next(each for each in ACCOUNTS.columns if each.title == "WINDOW")
    assert [(row.account.name, window.cell(row, NOW)[0]) for row in rows] == [
        ("main", "5h"),
        ("main", "7d"),
        ("spare", "none reported"),
    ]
