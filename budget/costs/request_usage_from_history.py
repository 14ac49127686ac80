"""The expected usage of requests, learned from earlier requests by role and model. Pure, in memory, bounded.

The expected usage counts for the pace and for projections, and is charged if a response breaks off. It never admits a
request: worst cases decide that (budget.limits.request_admission).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from dataclasses import dataclass

from budget.tokens import Tokens, Weights

#: The number of requests to remember for each role and model.
REMEMBERED = 500
#: The minimum number of requests to learn from; with fewer, the request's size decides.
ENOUGH = 20
#: The number of pairs of role and model to remember, which is bounded because agents may name any model.
PAIRS = 256
#: The approximate number of bytes per token of English text and code, in the tokenizers of both providers.
BYTES_PER_TOKEN = 4
#: The expected output tokens of a request before anything was learned.
ANSWER = 1024
#: More tokens than any current model writes in one response (128,000: OpenAI's model pages since GPT-5, Anthropic's
#: since Claude Sonnet 3.7).
LONGEST_ANSWER = 131_072


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The expected usage of a request."""

    expected: Tokens
    """The usage that most such requests stay within. The pace counts it while the request is open."""
    input: Tokens
    """The likely input tokens."""


class History:
    """The usage of earlier requests."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[tuple[str, str], _Pair] = OrderedDict()
        self._ratios: OrderedDict[tuple[str, str], float] = OrderedDict()

    def add_ratio(self, agent: str, model: str, input_tokens: int, body_bytes: int) -> None:
        """Learn the number of tokens per byte of a body."""
        if body_bytes <= 0:
            return
        self._ratios[agent, model] = max(self._ratios.pop((agent, model), 0.0), input_tokens / body_bytes)
        if len(self._ratios) > PAIRS:
            self._ratios.popitem(last=False)

    def ratio(self, agent: str, model: str) -> float | None:
        """Return the most tokens per byte that this agent was billed with this model, or None if it never was."""
        return self._ratios.get((agent, model))

    def add(self, role: str, model: str, tokens: Tokens, body_bytes: int | None = None) -> None:
        """Learn from a request whose usage the provider has reported.

        Args:
            role: the role of the agent.
            model: the model that the request named.
            tokens: the usage.
            body_bytes: the size of its body, if known.
        """
        pair = self._pairs.get((role, model))
        if pair is None:
            pair = self._pairs[role, model] = _Pair()
            if len(self._pairs) > PAIRS:
                self._pairs.popitem(last=False)
        else:
            self._pairs.move_to_end((role, model))
        pair.add(tokens, body_bytes)

    def estimate(
        self, role: str, model: str, body_bytes: int, max_tokens: int | None, *, most_input: int | None = None
    ) -> Estimate:
        """Return the expected usage of a request.

        Args:
            role: the role of the agent.
            model: the model that the request names.
            body_bytes: the size of its body.
            max_tokens: the bound on output.
            most_input: the bound on input in tokens; None for the bytes of the body.
        """
        most_input = body_bytes if most_input is None else most_input
        most = min(LONGEST_ANSWER, LONGEST_ANSWER if max_tokens is None else max(0, max_tokens))
        pair = self._pairs.get((role, model))
        if pair is None or pair.count < ENOUGH:
            likely = Tokens(input=min(-(-body_bytes // BYTES_PER_TOKEN), most_input))
            return Estimate(expected=likely + Tokens(output=min(ANSWER, most)), input=likely)
        _, *read = pair.usual_input
        _, *written = pair.usual_output
        fresh, cache_read, cache_write = _scaled(read, most_input)
        output, reasoning = _scaled(written, most)
        expected = Tokens(
            input=fresh, output=output, cache_read=cache_read, cache_write=cache_write, reasoning=reasoning
        )
        return Estimate(expected=expected, input=pair.likely_input(body_bytes, most_input))


# The input and the output of a request, as tuples that sort by their first item, the weighted total.
_Input = tuple[int, int, int, int]
_Output = tuple[int, int, int]

_WEIGHTS = Weights()


class _Pair:
    """The last requests of one role with one model.

    Inputs and outputs are ranked separately by their total weight. So the 95th of 100 inputs is a real one, read from a
    cache or written into one. The 95th of each kind of tokens would count a context twice.
    """

    def __init__(self) -> None:
        self._requests: deque[tuple[_Input, _Output, int]] = deque()
        self._inputs: list[_Input] = []
        self._outputs: list[_Output] = []
        # Sums over the remembered requests: the input by kind, and the requests of known size.
        self._input = self._cache_read = self._cache_write = 0
        self._sized = self._sized_bytes = self._sized_tokens = 0

    @property
    def count(self) -> int:
        return len(self._requests)

    def add(self, tokens: Tokens, body_bytes: int | None) -> None:
        reading = Tokens(input=tokens.input, cache_read=tokens.cache_read, cache_write=tokens.cache_write)
        read = (_WEIGHTS.weigh(reading), tokens.input, tokens.cache_read, tokens.cache_write)
        written = (tokens.output + tokens.reasoning, tokens.output, tokens.reasoning)
        if len(self._requests) == REMEMBERED:
            self._forget()
        self._requests.append((read, written, body_bytes or 0))
        insort(self._inputs, read)
        insort(self._outputs, written)
        self._sum(read, body_bytes or 0, 1)

    def _forget(self) -> None:
        read, written, body_bytes = self._requests.popleft()
        del self._inputs[bisect_left(self._inputs, read)]
        del self._outputs[bisect_left(self._outputs, written)]
        self._sum(read, body_bytes, -1)

    def _sum(self, read: _Input, body_bytes: int, sign: int) -> None:
        _, fresh, cache_read, cache_write = read
        self._input += sign * fresh
        self._cache_read += sign * cache_read
        self._cache_write += sign * cache_write
        if body_bytes:
            self._sized += sign
            self._sized_bytes += sign * body_bytes
            self._sized_tokens += sign * (fresh + cache_read + cache_write)

    @property
    def usual_input(self) -> _Input:
        return self._inputs[_rank(self.count)]

    @property
    def usual_output(self) -> _Output:
        return self._outputs[_rank(self.count)]

    def likely_input(self, body_bytes: int, most: int) -> Tokens:
        """Return the average input tokens of requests of this size, by kind; at most `most`."""
        tokens = -(-body_bytes // BYTES_PER_TOKEN)
        if self._sized >= ENOUGH:
            tokens = -(-body_bytes * self._sized_tokens // self._sized_bytes)
        tokens = min(tokens, most)
        total = self._input + self._cache_read + self._cache_write
        if not total:
            return Tokens(input=tokens)
        cache_read, cache_write = tokens * self._cache_read // total, tokens * self._cache_write // total
        return Tokens(input=tokens - cache_read - cache_write, cache_read=cache_read, cache_write=cache_write)


def _rank(count: int) -> int:
    """Return the index of the 95th percentile among `count` sorted values."""
    return -(-95 * count // 100) - 1


def _scaled(kinds: list[int], most: int) -> list[int]:
    """Reduce the kinds proportionally to at most `most` tokens in total."""
    total = sum(kinds)
    return kinds if total <= most else [tokens * most // total for tokens in kinds]
