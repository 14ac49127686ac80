"""Problems in a file as sentences: file, line, key, what was found, what is allowed.

A message repeats the invalid value so that people can find it, unless the value may be a secret.
"""

from __future__ import annotations

import difflib
import functools
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from core.errors import MusterError

#: The maximum number of problems to show; a file with more is probably another kind of file.
MOST_PROBLEMS = 100

#: The number of characters of a word to compare with known words.
_LONGEST_WORD = 60

_SECRETIVE = re.compile(r"token|secret|passw|key|credential", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One problem in a file."""

    file: str
    line: int | None
    """The line, counted from 1; None if the problem concerns the whole file."""
    column: int | None = None
    """The column, counted from 1; None if only the line is known."""
    key: str
    """The key, like ``connectors.matrix.homeserver``; empty if the problem concerns the whole file."""
    message: str
    """The value that was found, and the allowed ones."""

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class FileProblems(MusterError):
    """A file is not valid; the message has one line per problem."""

    code = "config.invalid"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(lines_of(problems)))
        self.problems = tuple(problems)


def lines_of(problems: Sequence[Problem]) -> list[str]:
    """Return a line for each of the first `MOST_PROBLEMS` problems, and one with the number of the others."""
    lines = [str(problem) for problem in problems[:MOST_PROBLEMS]]
    more = len(problems) - MOST_PROBLEMS
    return [*lines, f"... and {more:,} more problems."] if more > 0 else lines


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return `` Did you mean 'x'?`` if one of the `known` words is close, or else an empty string."""
    close = closest(word, known)
    return f" Did you mean {close!r}?" if close is not None else ""


def there_are(known: Sequence[str], more: str = "") -> str:
    """Return ``There is x``, ``There are x, y`` or ``There are none``, followed by `more`."""
    return f"There {'is' if len(known) == 1 and not more else 'are'} {', '.join(known) or 'none'}{more}"


def closest(word: str, known: Sequence[str]) -> str | None:
    """Return the `known` word that was probably meant, or None."""
    return _closest(word[:_LONGEST_WORD], tuple(known))


@functools.lru_cache(256)
def _closest(word: str, known: tuple[str, ...]) -> str | None:
    # A file may repeat the same typing error a thousand times, hence the cache.
    return next(iter(difflib.get_close_matches(word, known, 1, 0.6)), None)


def message(detail: ErrorDetails, model: type[BaseModel] | None) -> str:
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    name = next((part for part in reversed(detail["loc"]) if isinstance(part, str) and part != "[key]"), "")
    found = "found a value that is not shown" if _SECRETIVE.search(name) else f"found {described(given)}"
    match kind:
        case "extra_forbidden":
            known = [] if model is None else _keys(model)
            return f"is not known here.{suggestion(name, known)}" + (f" Known are {_listed(known)}." if known else "")
        case "missing":
            return "is missing."
        case "value_error" | "assertion_error":
            return _sentence(str(context["error"]))
        case "literal_error" | "enum":
            wanted = re.sub(r" or (?='[^']*'$)", ", ", context["expected"])
            known = re.findall(r"'([^']*)'", wanted)
            allowed = f"allowed are {', '.join(known)}" if known else f"only {wanted} is allowed"
            return f"{found}; {allowed}." + suggestion(str(given), known)
        case "string_type":
            quote = " Put it between quotes." if isinstance(given, (bool, int, float)) else ""
            return f"{found}; expected text.{quote}"
        case "string_pattern_mismatch":
            return f"{found}, which does not fit the pattern {context['pattern']}."
        case "bool_type" | "bool_parsing":
            return f"{found}; expected true or false."
        case "int_type" | "int_parsing" | "int_from_float":
            return f"{found}; expected a whole number."
        case "float_type" | "float_parsing" | "finite_number":
            return f"{found}, but expected a number."
        case "list_type" | "tuple_type" | "set_type":
            return f"{found}; expected a list (lines that begin with a dash)."
        case "dict_type" | "model_type" | "mapping_type":
            return f"{found}; expected keys with values."
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            limit = next(iter(context.values()))
            words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
            return f"{found}; {words[next(iter(context))]} {limit} is allowed."
        case "string_too_short":
            return f"{found}; expected at least {context['min_length']} characters."
        case "string_too_long":
            return f"found {len(given)} characters; at most {context['max_length']} are allowed."
        case "too_short":
            return f"found {context['actual_length']} entries; expected at least {context['min_length']}."
        case "too_long":
            return f"found too many entries; the maximum is {context['max_length']}."
    return f"{found}: {_sentence(detail['msg'])}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def plain(text: str) -> str:
    return text if text.isprintable() and len(text) <= 60 else repr(text[:60])


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}...{text[-1] if isinstance(value, str) else ''}"


def described(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {shown(value)}"
        case dict():
            return f"keys with values ({_listed(list(value), 3)})" if value else "keys with values"
        case list() | tuple():
            return "a list"
    return shown(value)


def _listed(words: Sequence[str], limit: int = 30) -> str:
    shown = [plain(str(word)) for word in words[:limit]]
    return ", ".join(shown) + (", ..." if len(words) > limit else "")


def _keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def allowed(model: type[BaseModel]) -> str:
    return f" ({_listed(_keys(model), 8)})" if model.model_fields else ""


def model_at(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model that contains `loc`, or None if the annotations do not show it."""
    here: Any = model
    for part in loc:
        if isinstance(here, type) and issubclass(here, BaseModel):
            fields = {info.alias or name: info.annotation for name, info in here.model_fields.items()}
            here = _inner(fields.get(str(part)))
        else:
            arguments = typing.get_args(here)
            here = _inner(arguments[-1] if len(arguments) == 2 and arguments[1] is not ... else (*arguments, None)[0])
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _inner(annotation: Any) -> Any:
    """Return an annotation without `Annotated` and `| None`."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _inner(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        return _inner(members[0]) if len(members) == 1 else None
    return annotation
