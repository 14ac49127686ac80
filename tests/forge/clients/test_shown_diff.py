"""A diff that is too long is cut after a whole line."""

from __future__ import annotations

from forge.clients.shown_diff import shown_diff


def test_a_whole_diff_is_shown_as_it_is() -> None:
    assert shown_diff("+é\n".encode(), is_cut=False) == "+é\n"
    assert shown_diff(b"+\xff\n", is_cut=False) == "+\N{REPLACEMENT CHARACTER}\n"


def test_a_cut_diff_ends_with_a_whole_line_and_says_so() -> None:
    assert shown_diff(b"+one\n+tw", is_cut=True) == "+one\n[Cut after 8 bytes. Read the rest with git.]\n"
    assert shown_diff(b"+one", is_cut=True) == "+one\n[Cut after 4 bytes. Read the rest with git.]\n"
