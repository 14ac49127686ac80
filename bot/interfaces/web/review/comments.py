"""Comments on lines of a diff, and the message that they become. Pure.

The quoted lines are the agent's. It must not be able to write words there that look like the person's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from bot.interfaces.web.diff_lines import DiffLine
from bot.tasks.service import LONGEST
from bot.text import markdown
from bot.text.errors import UserError

#: Maximum number of comments that a browser collects, of lines that one quotes, and of characters of its words.
MOST_COMMENTS: Final = 50
MOST_QUOTED: Final = 40
LONGEST_WORDS: Final = 4_000
#: Characters of a file's path in a message.
_LONGEST_PATH: Final = 300
_ID: Final = re.compile(r"[0-9a-f]{32}")


class CommentRefused(UserError):
    """This comment cannot be collected."""

    code = "web.comment"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineComment:
    """One comment, with the lines as they were when it was written."""

    id: str
    agent: str
    file: str
    where: str
    """The numbers of its lines, in words."""
    quoted: str
    """Its lines, each with the sign that it has in the diff."""
    words: str
    at: float

    @property
    def lines(self) -> Sequence[str]:
        return self.quoted.split("\n")


def comment_on(
    lines: Sequence[DiffLine], place: int, count: int, words: str, *, id: str, agent: str, at: float
) -> LineComment:
    """Return a comment on `count` lines of a diff, the first one at `place`, counted from 0.

    Raises:
        CommentRefused: there are no such lines, or the words are missing or too long.
    """
    if not _ID.fullmatch(id):
        raise CommentRefused("The form of this comment is not complete. Load the page again.")
    words = words.replace("\r\n", "\n").strip()
    if not words:
        raise CommentRefused("The comment has no words. Write what the agent should know of these lines.")
    if len(words) > LONGEST_WORDS:
        raise CommentRefused(
            f"The comment has {len(words):,} characters, and {LONGEST_WORDS:,} are allowed. Shorten it, or write it to "
            "the agent as a message."
        )
    quoted = lines_from(lines, place, count)
    return LineComment(
        id=id,
        agent=agent,
        file=quoted[0].file or "a file without a name",
        where=numbers(quoted),
        quoted="\n".join(each.text for each in quoted),
        words=words,
        at=at,
    )


def lines_from(lines: Sequence[DiffLine], place: int, count: int) -> Sequence[DiffLine]:
    """Return `count` lines from `place` on, or fewer at the end of their part of the diff.

    Raises:
        CommentRefused: the first one is no line of a file, or there are too many.
    """
    if not 1 <= count <= MOST_QUOTED:
        raise CommentRefused(f"A comment is on 1 to {MOST_QUOTED} lines, not on {count}.")
    if not 0 <= place < len(lines) or not lines[place].is_of_file:
        raise CommentRefused("There is no such line in these changes. Choose one of a file.")
    found: list[DiffLine] = []
    for each in lines[place : place + count]:
        if not each.is_of_file:
            break
        found.append(each)
    return found


def numbers(lines: Sequence[DiffLine]) -> str:
    """Return the numbers of lines in words: those that the file has now, else those that it had."""
    now = [each.new for each in lines if each.new is not None]
    before = [each.old for each in lines if each.old is not None]
    return _range("line", now) if now else f"removed {_range('line', before)}"


def _range(noun: str, of: Sequence[int]) -> str:
    return f"{noun} {of[0]}" if len(of) == 1 else f"{noun}s {of[0]} to {of[-1]}"


def with_comment(collected: Sequence[LineComment], new: LineComment) -> tuple[LineComment, ...]:
    """Return the comments with a new one. One that is there already, because a form was sent twice, stays as it is.

    Raises:
        CommentRefused: there are too many, or the message to the agent would be too long.
    """
    if any(each.id == new.id for each in collected):
        return tuple(collected)
    if len(collected) >= MOST_COMMENTS:
        raise CommentRefused(f"{MOST_COMMENTS} comments are collected, and no more fit. Send or remove some first.")
    made = (*collected, new)
    if len(message(of_agent(made, new.agent))) > LONGEST:
        raise CommentRefused(
            f"With this comment the message to {new.agent} would have more than {LONGEST:,} characters. Send the "
            "others first."
        )
    return made


def of_agent(collected: Sequence[LineComment], agent: str) -> tuple[LineComment, ...]:
    """Return the comments for one agent."""
    return tuple(each for each in collected if each.agent == agent)


def message(comments: Sequence[LineComment]) -> str:
    """Return the message to the agent.

    Each quoted line begins with ``>``, and all of them are in a fence. So nothing in a line ends the quote, and neither
    does a fence that a person left open in their words.
    """
    first = "A comment on your changes" if len(comments) == 1 else f"{len(comments)} comments on your changes"
    made = [f"{first}. Quoted are lines of the diff."]
    for number, each in enumerate(comments, 1):
        block = markdown.code_block(each.quoted, "diff")
        quote = "\n".join(f"> {line}" for line in block.split("\n"))
        path = markdown.code(_on_one_line(each.file))
        made.append(f"**{number}. {path}, {each.where}:**\n\n{quote}\n\n{each.words}")
    return "\n\n".join(made)


def _on_one_line(path: str) -> str:
    words = path.replace("\n", "␊").replace("\t", "␉")
    return words if len(words) <= _LONGEST_PATH else f"{words[:_LONGEST_PATH]}…"


def as_rows(collected: Sequence[LineComment]) -> list[dict[str, str | float]] | None:
    """Return the comments as they are kept; None if there are none."""
    return [asdict(each) for each in collected] or None


def from_rows(rows: Sequence[Mapping[str, str | float]] | None) -> tuple[LineComment, ...]:
    """Return the comments that `as_rows` wrote."""
    return tuple(
        LineComment(**{name: str(value) for name, value in row.items() if name != "at"}, at=float(row["at"]))
        for row in rows or ()
    )
