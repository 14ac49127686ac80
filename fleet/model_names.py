"""Names of models: whose a model is, and whether two names mean the same one. Pure.

Providers name a model by its family, its version and often a date (``claude-sonnet-4-5-20250929``,
``gpt-5.1-2025-11-13``). Runtimes put the provider before it (``openai/gpt-5.1``) or know an alias (``sonnet``).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

#: How names of each provider's models begin, where nothing is before them.
_FAMILIES: Final = {
    "anthropic": re.compile(r"(claude|sonnet|opus|haiku)\b"),
    "openai": re.compile(r"(gpt|chatgpt|codex)\b|o[1-9]\b"),
}
PROVIDERS: Final = tuple(_FAMILIES)
#: What may differ in two names of one model: a date or ``latest`` at its end, and what a runtime or a cloud adds.
_SUFFIX: Final = re.compile(r"(-(\d{8}|\d{4}-\d{2}-\d{2}|latest)|@\d{8}|\[\d+[km]\]|-v\d+:\d+)$")
#: Aliases of Claude Code, by what is in the names of the models that they can mean; empty: any.
_ALIASES: Final = {
    "sonnet": ("sonnet",),
    "opus": ("opus",),
    "haiku": ("haiku",),
    "opusplan": ("opus", "sonnet"),
    "best": ("",),
    "default": ("",),
}


def provider_of(model: str, known: Collection[str]) -> str | None:
    """Return the provider that a model's name says.

    Args:
        model: as a runtime takes it.
        known: the providers that the runtime can speak to.

    Returns:
        The word before its slash, or the one of the `known` providers whose models have such names; None: it says none.
    """
    prefix, slash, _ = model.partition("/")
    if slash:
        return prefix.casefold()
    name = model.casefold()
    return next((each for each in known if each in _FAMILIES and _FAMILIES[each].match(name)), None)


def is_same(asked: str, answered: str) -> bool:
    """Return whether the model that answered is the one that was asked for, under whatever name."""
    wanted, given = _bare(asked), _bare(answered)
    if wanted in _ALIASES:
        return any(part in given for part in _ALIASES[wanted])
    return wanted == given


def _bare(model: str) -> str:
    """Return a name without its provider, and without what may differ."""
    name = model.casefold().rpartition("/")[2]
    while (shorter := _SUFFIX.sub("", name)) != name:
        name = shorter
    # Clouds put the maker before it: anthropic.claude-..., us.anthropic.claude-...
    return re.sub(r"^(?:[a-z]+\.)+(?=claude|gpt)", "", name)
