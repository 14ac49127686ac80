"""What a request is charged, depending on how it ended. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from budget.costs.request_usage_from_history import Estimate
from budget.tokens import Tokens
from egress.limits.admission_interface import Ending

#: The assumed output rate of a model whose response is broken off before any output, in tokens a second. Hidden
#: reasoning streams nothing, and current models write 30 to 100 tokens a second.
SILENT_TOKENS_S: Final = 50
#: The first event of a stream reports a few tokens of output before the model has written any; no bill is that low
#: (Anthropic API reference, "Streaming messages": 1 to 8 in ``message_start``).
PLACEHOLDER: Final = 16
#: A stream's output is saved in steps, in case the egress ends. The first step, in tokens.
FIRST_STEP: Final = 512
#: Each further step, as a share of the output so far.
STEP: Final = 1 / 2


def charge(ending: Ending, *, so_far: Tokens, estimate: Estimate, bound: Tokens, elapsed_s: float) -> Tokens:
    """Return what a request is charged, in the ledger and against limits.

    - If the provider reported the usage: that usage.
    - If the request never reached the provider, or the provider refused it (a status of 400 or above): nothing.
    - If the connection broke before there was a status: nothing.
    - If the egress broke off before there was a status, because the client left or was cut: the input, and what a
      silent model may have written. The provider continues to read and bill; otherwise asking and hanging up at once
      would be free.
    - If the client had left a document, and the connection broke while the egress read the rest: the whole reservation.
    - If the response was broken off midway: the input as reported, or else as estimated, and the output that streamed.
      If next to none streamed: what a silent model may have written.
    - If the response is complete but does not report its usage: at least the estimate.

    Args:
        ending: how the request ended.
        so_far: the usage that was counted while it streamed.
        estimate: the estimate at its admission.
        bound: its reservation.
        elapsed_s: seconds since its admission.
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
    """Return what a stream is charged if the egress ends before the stream reports more.

    The input is what the stream has reported. The output is that of the next step, because up to that much may have
    streamed since. It is at most the reservation, unless more has streamed.

    Args:
        so_far: what the stream has reported, including its input.
        reserved: the request's reservation.
    """
    written = so_far.output + so_far.reasoning
    most = max(written, min(next_step(so_far), reserved.output + reserved.reasoning))
    return replace(so_far, output=most - so_far.reasoning)


def next_step(so_far: Tokens) -> int:
    """Return the number of output tokens at which to save the output again."""
    written = so_far.output + so_far.reasoning
    return max(FIRST_STEP, written + int(written * STEP))


def has_input(tokens: Tokens) -> bool:
    """Return whether the provider has reported the input."""
    return bool(tokens.input or tokens.cache_read or tokens.cache_write)


def _with_input(known: Tokens, estimate: Tokens) -> Tokens:
    if has_input(known):
        return known
    return known + Tokens(input=estimate.input, cache_read=estimate.cache_read, cache_write=estimate.cache_write)


def _output(estimate: Tokens) -> Tokens:
    return Tokens(output=estimate.output, reasoning=estimate.reasoning)
