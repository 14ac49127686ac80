"""Output of text and answers in a shell, and the exit status.

Printed text never contains control sequences for the terminal.
"""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bot.commands.syntax import SHELL, written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bot.api_client import GatewayResponse

DONE, FAILED, WRONG_USAGE, NOT_RUNNING = range(4)


_silenced = False


@contextmanager
def silenced() -> Iterator[None]:
    """Print nothing in the block about what was done (`muster --quiet`)."""
    global _silenced
    before, _silenced = _silenced, True
    try:
        yield
    finally:
        _silenced = before


def is_silenced() -> bool:
    """Return whether only answers and errors are wanted."""
    return _silenced


def say(text: str, *, error: bool = False) -> None:
    """Print text for people: rendered on a terminal, else with plain tables. Control sequences are made visible."""
    from bot.text.markdown import shown

    stream = sys.stderr if error else sys.stdout
    text = _without_links_in_tables(shown(written(text, SHELL)).rstrip())
    if error or not stream.isatty():
        from core.text_columns import aligned

        print(aligned(text, rules=False), file=stream)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console(file=stream, highlight=False).print(Markdown(text, hyperlinks=False))


#: A link in Markdown.
_LINK = re.compile(r"\[([^\[\]]*)\]\(https?://[^\s()]*\)")


def _without_links_in_tables(text: str) -> str:
    """Return the text without the addresses of links in tables, which make a column wider than a terminal."""
    if "](http" not in text:
        return text
    return "\n".join(_LINK.sub(r"\1", line) if line.startswith("|") else line for line in text.split("\n"))


#: How a line of a diff is colored, by its beginning (ECMA-48, SGR).
_COLORS = (
    ("diff ", "1"), ("index ", "1"), ("--- ", "1"), ("+++ ", "1"), ("@@ ", "36"), ("+", "32"), ("-", "31"),
)  # fmt: skip


def say_diff(diff: str, environ: Mapping[str, str]) -> None:
    """Print a diff in git's format: colored on a terminal, unless NO_COLOR is set (no-color.org)."""
    from bot.text.markdown import shown

    lines = shown(diff).splitlines()
    if sys.stdout.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb":
        lines = [_colored(line) for line in lines]
    print("\n".join(["", *lines]))


def _colored(line: str) -> str:
    color = next((color for begin, color in _COLORS if line.startswith(begin)), None)
    return line if color is None else f"\x1b[{color}m{line}\x1b[m"


def refuse(
    text: str, *, as_json: bool, state: str = "refused", reason: str | None = None, code: str | None = None
) -> None:
    """Print a refusal for people on standard error, and with `as_json` for programs as well."""
    say(text, error=True)
    if as_json:
        tell_programs(text, state=state, reason=reason, code=code)


def tell_programs(text: str, *, state: str = "refused", reason: str | None = None, code: str | None = None) -> None:
    """Print a refusal as JSON on standard output; the text for people is on standard error."""
    import json

    print(
        json.dumps({"state": state, "reason": reason, "code": code or state, "error": written(text, SHELL)}, indent=2)
    )


def show(answer: GatewayResponse, *, as_json: bool, tells_what_was_done: bool = False) -> int:
    """Print an answer, and return the exit status.

    Args:
        answer: what the gateway answered.
        as_json: print it for programs.
        tells_what_was_done: whether it only confirms a change, which `muster --quiet` does not print.
    """
    body = answer.body if isinstance(answer.body, dict) else {}
    if "state" not in body:
        sentence = str(body.get("error") or f"The gateway answered with status {answer.status}.")
        refuse(sentence, as_json=as_json, state="failed")
        return FAILED
    done = body["state"] == "done"
    if as_json and (done or body["data"] is not None):
        import json

        # ASCII, so that control sequences in an agent's data cannot reach the terminal.
        print(json.dumps(body["data"], indent=2))
    elif done and not (_silenced and tells_what_was_done):
        say(body["text"])
    if done:
        return DONE
    told = as_json and body["data"] is not None
    refuse(
        body["text"], as_json=as_json and not told, state=body["state"], reason=body["reason"], code=body.get("code")
    )
    return WRONG_USAGE if body["reason"] == "usage" else FAILED


class Ticker:
    """A line on the terminal that shows a command's progress, and is cleared before the answer."""

    _BLANK = "\r\x1b[K"

    def __init__(self) -> None:
        self._shown = False

    def show(self, text: str) -> None:
        from shutil import get_terminal_size

        from bot.text.markdown import one_line

        self._shown = True
        print(self._BLANK + one_line(text, get_terminal_size().columns - 1), end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print(self._BLANK, end="", file=sys.stderr, flush=True)
