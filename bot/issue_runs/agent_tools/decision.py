"""Whether a write that an agent asks for is allowed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from bot.issue_runs.agent_tools import write_limits
from bot.issue_runs.agent_tools.offers import LONGEST_BODY, MOST_PEOPLE, SignalStatus
from bot.issue_runs.agent_tools.write_order import WriteOrder
from bot.text import markdown
from bot.text.errors import UserError
from database.queries.forge.issue_runs import IssueRun
from forge.model.references import IssueReference, RepositoryName
from forge.scope import IssueScope, OutsideScope

#: Above what a forge counts to, a number is none.
_LARGEST: Final = 10**15
_LONGEST_LOGIN: Final = 100


class WriteRefused(UserError):
    """An agent may not write this.

    Attributes:
        short: The reason in a few words, for the run's log.
    """

    code = "forge.write_refused"

    def __init__(self, message: str, short: str) -> None:
        super().__init__(message)
        self.short = short


def scope_of(run: IssueRun) -> IssueScope:
    """Return what a run's agent may read and write."""
    scope = IssueScope(IssueReference(RepositoryName.parse(run.repository), run.number))
    return scope if run.pull_request is None else scope.with_pull_request(run.pull_request)


def number_of(arguments: Mapping[str, Any], name: str = "number", *, least: int = 1) -> int:
    """Return a number that an agent gave.

    Raises:
        UserError: it is none.
    """
    given = arguments.get(name)
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= _LARGEST:
        raise UserError(f"{name} must be a whole number from {least} on, without #.", code="tool.usage")
    return given


def text_of(arguments: Mapping[str, Any], name: str, longest: int) -> str:
    """Return a text that an agent gave.

    Raises:
        UserError: it is none, empty or too long.
    """
    given = arguments.get(name)
    if not isinstance(given, str) or not given.strip():
        raise UserError(f"{name} is missing, or no text.", code="tool.usage")
    if len(given) > longest:
        raise UserError(
            f"{name} has {len(given):,} characters, and {longest:,} are allowed. Nothing was done; shorten it.",
            code="tool.usage",
        )
    return given


def status_of(arguments: Mapping[str, Any]) -> SignalStatus:
    """Return the status that an agent signals.

    Raises:
        UserError: it is none.
    """
    given = arguments.get("status")
    found: SignalStatus | None = next((each for each in get_args(SignalStatus) if each == given), None)
    if found is None:
        raise UserError(
            f"status must be one of {', '.join(get_args(SignalStatus))}. Nothing was signalled.", code="tool.usage"
        )
    return found


def decided(
    run: IssueRun, call: str, tool: str, arguments: Mapping[str, Any], written_at: Sequence[float], now: float
) -> WriteOrder:
    """Return the write that a call orders.

    Args:
        run: whose agent calls.
        call: the call's id.
        tool: post_comment, update_description or request_review.
        arguments: as the agent gave them; untrusted.
        written_at: when the run wrote so far.
        now: the time.

    Raises:
        WriteRefused: the agent may not, or not now.
        UserError: the arguments make no sense.
    """
    number = number_of(arguments)
    target = IssueReference(RepositoryName.parse(run.repository), number)
    scope = scope_of(run)
    try:
        scope.check_write(target)
    except OutsideScope:
        allowed = " and ".join(f"#{each}" for each in scope.writable)
        raise WriteRefused(
            f"#{number} cannot be written to: it is out of scope. This run can write to {allowed}. Nothing was done.",
            "out of scope",
        ) from None
    if tool != "post_comment" and number == run.number and run.pull_request is not None:
        # The text of an issue is its author's, and nobody reviews one.
        raise WriteRefused(
            f"#{number} is the issue. Give the number of your pull request, #{run.pull_request}. Nothing was done.",
            "it is the issue",
        )
    if run.signal is not None:
        raise WriteRefused(
            "You have signalled that your work is over for now. Nothing was done; end your turn.", "after signal_done"
        )
    if run.state != "running":
        raise WriteRefused("This run is not at work now. Nothing was done; end your turn.", "the run is not at work")
    body, people = "", tuple[str, ...]()
    if tool == "request_review":
        people = _people(arguments)
    else:
        body = text_of(arguments, "body", LONGEST_BODY)
    if (too_much := write_limits.refusal(written_at, now)) is not None:
        raise WriteRefused(too_much, "too many writes")
    return WriteOrder(call=call, agent=run.agent, tool=tool, number=number, body=body, people=people)


def _people(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    given = arguments.get("people")
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_PEOPLE:
        raise UserError(f"people must be a list of 1 to {MOST_PEOPLE} names.", code="tool.usage")
    names = tuple(dict.fromkeys(each.removeprefix("@") if isinstance(each, str) else "" for each in given))
    for name in names:
        plain = name.replace("-", "").replace("_", "").replace(".", "")
        if not (plain.isascii() and plain.isalnum() and len(name) <= _LONGEST_LOGIN):
            raise UserError(
                f"{markdown.one_line(name, 40)!r} is no name of an account. Give names as read_comments shows them.",
                code="tool.usage",
            )
    return names
