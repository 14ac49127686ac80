"""What a request is charged with, from how it ended. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from budget.tokens import Tokens

if TYPE_CHECKING:
    from budget.costs.request_usage_from_history import Estimate
    from egress.limits.admission_interface import Ending

#: Reasoning that is not shown streams nothing; so of a response that was broken off before anything came, it is
#: assumed that the model wrote at about this pace (current models write 30 to 100 tokens a second).
SILENT_TOKENS_S: Final = 50
#: The first event of a stream tells of some tokens of output before the model has written any: no bill says so few.
#: (Anthropic API reference, "Streaming messages": 1 to 8 in ``message_start``.)
PLACEHOLDER: Final = 16
#: A stream's output is kept in steps, for the case that the egress ends: the first step in tokens,
FIRST_STEP: Final = 512
#: and each further one as a share of all that has streamed by then.
STEP: Final = 1 / 2


def charge(ending: Ending, *, so_far: Tokens, estimate: Estimate, bound: Tokens, elapsed_s: float) -> Tokens:
    """Return what goes into the ledger, and counts against limits.

    - What the provider reported, as it reported it.
    - Nothing, when the request never reached the provider, when the provider refused it (a status of 400 or above), or
      when the connection broke before there was a status.
    - When it was we who broke off before there was a status, since the client left or was cut: the input, since the
      provider reads on and bills, and what a silent model may have written meanwhile. (Asking and hanging up at once
      would otherwise be free.)
    - When its client had left a document, and the connection broke while we read it to its end: all that was reserved.
    - When the response was broken off in the middle: the input as it was reported, or else as it was estimated; and of
      output what streamed, or, when next to nothing did, what a silent model may have written.
    - When the response is complete and still does not tell: what was expected of it, at least.

    Args:
        ending: how it ended.
        so_far: what was counted while it streamed.
        estimate: what was expected of it when it was admitted.
        bound: what was reserved for it.
        elapsed_s: since it was admitted.
    """
    if ending.reported:
        return ending.tokens
    if not ending.sent:
        return Tokens()
    if ending.status is None and not ending.lost:
        if ending.ended not in ("client_gone", "cut"):
            return Tokens()
    elif ending.status is not None and ending.status >= 400:
        return Tokens()
    known = ending.tokens.at_least(so_far)
    if ending.lost:
        return _with_input(known, bound).at_least(Tokens(output=max(0, bound.output - known.reasoning)))
    if ending.ended == "completed":
        return _with_input(known, estimate.expected).at_least(_output(estimate.expected))
    known = _with_input(known, estimate.input)
    if known.output + known.reasoning > PLACEHOLDER:
        return known
    silent = min(estimate.expected.output + estimate.expected.reasoning, int(elapsed_s * SILENT_TOKENS_S))
    return known.at_least(Tokens(output=silent - known.reasoning))


def at_an_end(so_far: Tokens, reserved: Tokens) -> Tokens:
    """Return what a stream is charged with, should the egress end before the stream tells more.

    The input is what the stream has told. The output is what the next step would tell, for less than that may have
    streamed since; but not more than was reserved, unless more has streamed.

    Args:
        so_far: what the stream has told, its input included.
        reserved: what was reserved for the request.
    """
    written = so_far.output + so_far.reasoning
    most = max(written, min(next_step(so_far), reserved.output + reserved.reasoning))
    return replace(so_far, output=most - so_far.reasoning)


def next_step(so_far: Tokens) -> int:
    """Return the output, in tokens, from which on it is kept again."""
    written = so_far.output + so_far.reasoning
    return max(FIRST_STEP, written + int(written * STEP))


def has_input(tokens: Tokens) -> bool:
    """Return whether the provider has told what was read."""
    return bool(tokens.input or tokens.cache_read or tokens.cache_write)


def _with_input(known: Tokens, estimate: Tokens) -> Tokens:
    if has_input(known):
        return known
    return known + Tokens(input=estimate.input, cache_read=estimate.cache_read, cache_write=estimate.cache_write)


def _output(estimate: Tokens) -> Tokens:
    return Tokens(output=estimate.output, reasoning=estimate.reasoning)
