"""How the simulated provider tells what it billed in an odd way that was seen.

What is odd is only the telling, save for three: `sparse` of OpenAI's shapes tells no parts, and bills none; `huge` and
`free` bill what no real answer costs. `Entry.reported` in the ledger says whether what was told is the whole bill.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, get_args

from fleet.sim.provider.anthropic_api import AnthropicWriter
from fleet.sim.provider.api_writer import ResponseEnvelope, Stop, frame
from fleet.sim.provider.completions_api import CompletionsWriter
from fleet.sim.provider.normalized_request import Api
from fleet.sim.provider.prompt_directives import UseTool
from fleet.sim.provider.token_count import BilledTokens, count
from fleet.sim.provider.usage_report import Place, UsageReport

Kind: TypeAlias = Literal[
    "full", "none", "null", "unfinal", "nulls", "zeros", "sparse", "steps", "huge", "free", "garbage"
]
"""full: as documented. none: the key is missing. null: it is null. unfinal: Anthropic's placeholder, and nothing after
it (elsewhere as none). nulls: what is zero, or was told before, is null. zeros: what was told before is 0 later on.
sparse: only what must be there. steps: told again and again, while it grows. huge: a hundred thousand million tokens.
free: nothing at all is billed. garbage: words, fractions, negative numbers and lists for numbers."""

KINDS: tuple[Kind, ...] = get_args(Kind)
#: Told by no kind of these, so that it can only be estimated.
UNTOLD: frozenset[Kind] = frozenset({"none", "null", "unfinal", "garbage"})
HUGE = BilledTokens(input=10**11 + 3, output=10**10 + 7)


class OddUsage(UsageReport):
    """Tells usage in one of the kinds."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.complete = kind not in UNTOLD

    def billed(self, api: Api, usage: BilledTokens) -> BilledTokens:
        match self.kind:
            case "huge":
                return HUGE
            case "free":
                return BilledTokens()
            case "sparse" if api != "anthropic":
                return BilledTokens(input=usage.whole_input, output=usage.output)
        return usage

    def put(self, source: Mapping[str, Any], api: Api, place: Place, usage: BilledTokens) -> dict[str, Any]:
        if self.kind == "none" or (self.kind == "unfinal" and place != "start"):
            return {name: value for name, value in source.items() if name != "usage"}
        return {**source, "usage": None if self.kind == "null" else self.told(api, place, usage)}

    def told(self, api: Api, place: Place, usage: BilledTokens) -> dict[str, Any]:
        shown = super().told(api, place, usage)
        shown = self._anthropic(shown, place) if api == "anthropic" else self._openai(shown)
        if self.kind == "garbage":
            odd = ("many", -7, 1.5, [3], True, 10**40)
            numbers = [name for name, value in shown.items() if isinstance(value, int)]
            shown |= {name: odd[index % len(odd)] for index, name in enumerate(numbers)}
        return shown

    def _anthropic(self, shown: dict[str, Any], place: Place) -> dict[str, Any]:
        if place in {"middle", "end"}:
            before = [name for name in shown if name != "output_tokens"]
        else:
            before = [name for name, value in shown.items() if value == 0 and name != "output_tokens"]
        match self.kind:
            case "sparse":
                return {name: value for name, value in shown.items() if name not in before}
            case "nulls":
                return {**shown, **dict.fromkeys(before)}
            case "zeros":
                return {**shown, **dict.fromkeys(before, 0)}
        return shown

    def _openai(self, shown: dict[str, Any]) -> dict[str, Any]:
        details = [name for name in shown if name.endswith("_details")]
        if self.kind == "sparse":
            return {name: value for name, value in shown.items() if name not in (*details, "total_tokens")}
        if self.kind == "nulls":
            emptied = {name: value if any(value.values()) else None for name, value in shown.items() if name in details}
            return {**shown, **emptied}
        return shown


class SteppingAnthropicWriter(AnthropicWriter):
    """Tells the bill again and again before the end."""

    def __init__(self, envelope: ResponseEnvelope) -> None:
        super().__init__(envelope)
        self._report = envelope.report

    def end(self, stop: Stop, usage: BilledTokens) -> Iterator[bytes]:
        *before, last, stopped = super().end(stop, usage)
        yield from before
        for output in (usage.output // 3, usage.output * 2 // 3):
            part = dataclasses.replace(usage, output=output, reasoning=min(output, usage.reasoning))
            told = self._report.put({"type": "message_delta", "delta": {}}, "anthropic", "middle", part)
            yield frame(told, "message_delta")
        yield last
        yield stopped


class OddCompletionsWriter(CompletionsWriter):
    """Tells the bill in each chunk (steps), in a chunk with null for its choices (nulls), or in no chunk."""

    def __init__(self, envelope: ResponseEnvelope, report: OddUsage) -> None:
        super().__init__(envelope)
        self._report, self._include_usage = report, envelope.include_usage
        self._asked = BilledTokens()
        self._written = ""

    def begin(self, usage: BilledTokens) -> Iterator[bytes]:
        self._asked = usage
        return self._aloud(super().begin(usage))

    def text(self, delta: str) -> Iterator[bytes]:
        self._written += delta
        return self._aloud(super().text(delta))

    def call(self, step: UseTool) -> Iterator[bytes]:
        return self._aloud(super().call(step))

    def end(self, stop: Stop, usage: BilledTokens) -> Iterator[bytes]:
        if not self._include_usage:
            return super().end(stop, usage)
        finish, told, done = super().end(stop, usage)
        if self._report.kind == "nulls":
            told = told.replace(b'"choices":[]', b'"choices":null', 1)
        shown = () if self._report.kind in {"none", "unfinal"} else (told,)
        return iter((*self._aloud(iter((finish,))), *shown, done))

    def _aloud(self, frames: Iterator[bytes]) -> Iterator[bytes]:
        if self._report.kind != "steps":
            yield from frames
            return
        so_far = dataclasses.replace(self._asked, output=count(self._written))
        usage = frame({"usage": self._report.told("chat", "middle", so_far)}).removeprefix(b"data: {")
        for each in frames:
            silent = each.removesuffix(b'"usage":null}\n\n')
            yield each if silent == each else silent + usage
