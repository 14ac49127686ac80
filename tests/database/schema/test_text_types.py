"""Every text can be stored, and what cannot be is replaced sign by sign."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database.schema.text_types import storable


@given(st.text(alphabet=st.characters()))
def test_every_text_can_be_stored(text: str) -> None:
    stored = storable(text)
    assert len(stored) == len(text)
    assert "\x00" not in stored
    stored.encode()
    assert storable(stored) == stored


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "\udfff\U0001f600"])
def test_what_no_database_takes_is_replaced(text: str) -> None:
    assert "\ufffd" in storable(text)
