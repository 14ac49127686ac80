"""A connector that somebody else wrote: what the contract asks of its author is little."""

from __future__ import annotations

from tests.acceptance.linechat import PLUGIN


def test_a_connector_of_ones_own_is_short() -> None:
    assert len(PLUGIN.read_text().splitlines()) < 120
