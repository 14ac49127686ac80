"""A diff as it is shown to agents: cut after whole lines, and with a line that says so."""

from __future__ import annotations


def shown_diff(content: bytes, *, is_cut: bool) -> str:
    """Return a diff as text.

    Args:
        content: the beginning of the diff; other encodings than UTF-8 are shown as replacement characters.
        is_cut: whether the diff goes on after it.
    """
    if not is_cut:
        return content.decode("utf-8", "replace")
    whole = content[: content.rfind(b"\n") + 1] or content + b"\n"
    return f"{whole.decode('utf-8', 'replace')}[Cut after {len(content):,} bytes. Read the rest with git.]\n"
