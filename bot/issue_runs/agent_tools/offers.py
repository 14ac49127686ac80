"""The tools of an agent that works on an issue, the same for each forge."""

from __future__ import annotations

from typing import Final, Literal, get_args

from fleet.tools import Tool, arguments

SignalStatus = Literal["done", "blocked", "failed"]

#: Characters of a comment or a description. A call as a whole has a limit of its own (`fleet.tools.ARGUMENTS_LIMIT`).
LONGEST_BODY: Final = 20_000
#: Characters of the summary of `signal_done`.
LONGEST_SUMMARY: Final = 4_000
#: How many people can be asked for a review at once.
MOST_PEOPLE: Final = 10

_NUMBER: Final = {"type": "integer", "minimum": 1, "description": "The number of an issue or a pull request."}
_OFFSET: Final = {
    "type": "integer",
    "minimum": 0,
    "description": "Where to read on, in characters, as a cut answer says. Leave it out to begin.",
}
_BODY: Final = {
    "type": "string",
    "maxLength": LONGEST_BODY,
    "description": "Markdown. Mentions, closing keywords, images and HTML have no effect.",
}
_PEOPLE: Final = {
    "type": "array",
    "items": {"type": "string"},
    "minItems": 1,
    "maxItems": MOST_PEOPLE,
    "description": "The names of members of the organization, as read_comments shows them.",
}
_STATUS: Final = {
    "type": "string",
    "enum": list(get_args(SignalStatus)),
    "description": (
        "done: all of your work is committed. blocked: you need an answer. failed: it cannot be done. With blocked and "
        "failed, what you committed becomes a draft."
    ),
}
_SUMMARY: Final = {"type": "string", "description": "What was done, or why not, in a few sentences for people."}


TOOLS: Final = (
    Tool(
        name="read_issue",
        description="Read an issue or a pull request: title, state, author and text.",
        input_schema=arguments(("number",), number=_NUMBER, offset=_OFFSET),
    ),
    Tool(
        name="read_comments",
        description=(
            "Read the comments on an issue or a pull request, oldest first; of a pull request also the reviews and the "
            "comments on lines of the diff, with the line and what it says."
        ),
        input_schema=arguments(("number",), number=_NUMBER, offset=_OFFSET),
    ),
    Tool(
        name="read_diff",
        description="Read the diff of a pull request.",
        input_schema=arguments(("number",), number=_NUMBER, offset=_OFFSET),
    ),
    Tool(
        name="post_comment",
        description="Write a comment on your issue or on its pull request.",
        input_schema=arguments(("number", "body"), number=_NUMBER, body=_BODY),
        queued=True,
    ),
    Tool(
        name="update_description",
        description=(
            "Set the text of your pull request. While there is none, give the number of your issue: the text is kept "
            "for the pull request. The text of the issue itself stays."
        ),
        input_schema=arguments(("number", "body"), number=_NUMBER, body=_BODY),
        queued=True,
    ),
    Tool(
        name="request_review",
        description=(
            "Ask people to review your pull request. While there is none, give the number of your issue: they are "
            "asked when there is one."
        ),
        input_schema=arguments(("number", "people"), number=_NUMBER, people=_PEOPLE),
        queued=True,
    ),
    Tool(
        name="signal_done",
        description=(
            "Say that your work on the issue is over for now. Only this counts, and only the first time; no comment "
            "does. Then end your turn."
        ),
        input_schema=arguments(("status", "summary"), status=_STATUS, summary=_SUMMARY),
        queued=True,
    ),
)
NAMES: Final = frozenset(tool.name for tool in TOOLS)
READS: Final = frozenset({"read_issue", "read_comments", "read_diff"})
