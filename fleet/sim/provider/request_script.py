"""Orders to the simulated model by the number of the request, from a YAML or JSON file.

requests:
  3: "[[error: 529]]"          the third request
  "5-8": "[[delay: 2]]"        the fifth to the eighth
  "*": "[[say: Hello.]]"       every other
limits:
  tokens_per_five_hours: 100000
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import MusterError
from fleet.sim.provider.quota_headers import SimQuota


class ScriptError(MusterError):
    """The script of the simulated provider is not valid."""


@dataclass(frozen=True, slots=True)
class Script:
    orders: tuple[tuple[int, int, str], ...] = ()
    """First request, last request, directives."""
    otherwise: str | None = None
    limits: SimQuota = field(default_factory=SimQuota)
    phrases: tuple[tuple[str, str], ...] = ()
    """A text, and the directives for messages that contain it."""

    def order(self, number: int, said: str = "") -> str | None:
        """Return the directives for this request, or None: the person's own count.

        Args:
            number: the request's number.
            said: what the person said in it.
        """
        for first, last, text in self.orders:
            if first <= number <= last:
                return text
        for phrase, text in self.phrases:
            if phrase in said:
                return text
        return self.otherwise


def read(path: Path) -> Script:
    """Read a script.

    Raises:
        ScriptError: the file cannot be read, or is not a script.
    """
    import yaml

    try:
        source = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ScriptError(f"{path}: cannot be read: {error}") from None
    if not isinstance(source, dict) or set(source) - {"requests", "limits"}:
        raise ScriptError(f"{path}: a mapping with the keys requests and limits is expected")
    requests, limits = source.get("requests") or {}, source.get("limits") or {}
    if not isinstance(requests, dict) or not isinstance(limits, dict):
        raise ScriptError(f"{path}: requests and limits are mappings")
    orders, otherwise = _orders(path, requests)
    return Script(orders=orders, otherwise=otherwise, limits=_limits(path, limits))


def _orders(path: Path, requests: dict[Any, Any]) -> tuple[tuple[tuple[int, int, str], ...], str | None]:
    orders: list[tuple[int, int, str]] = []
    otherwise = None
    for key, text in requests.items():
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", str(key))
        if not isinstance(text, str):
            raise ScriptError(f"{path}: requests.{key}: text with directives is expected, such as '[[error: 529]]'")
        if key == "*":
            otherwise = text
        elif match:
            orders.append((int(match[1]), int(match[2] or match[1]), text))
        else:
            raise ScriptError(f"{path}: requests.{key}: a number, a range such as '5-8', or '*' is expected")
    return tuple(orders), otherwise


def _limits(path: Path, source: dict[Any, Any]) -> SimQuota:
    names = {f.name for f in dataclasses.fields(SimQuota)} - {"families", "refuses"}
    for key, value in source.items():
        if key not in names or not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ScriptError(
                f"{path}: limits.{key}: one of {', '.join(sorted(names))} with a whole number is expected"
            )
    return SimQuota(**source)
