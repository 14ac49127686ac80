"""The next and the previous due time of a crontab expression in a time zone. No clock, no I/O.

The five fields (minute, hour, day of the month, month, day of the week) follow crontab(5): `*`, numbers, names
(``mon``, ``jan``), ranges, steps and lists; both 0 and 7 are Sunday. If both a day of the month and a day of the week
are given, either one matches. Extensions to crontab(5): ``L`` is the last day of the month, and ranges of weekdays may
span the weekend (``fri-mon``). APScheduler's own parser is not used: it counts 0 as Monday. `cronsim` finds the
matching times of a wall clock; this module has the messages about mistakes, and the changes of the clock.

Each matching minute of the wall clock is due once. If the clock is put forward over it, it is due at that moment. If
the clock is put back over it, only the first occurrence is due.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from core.errors import MusterError

_SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * sun",
    "@monthly": "0 0 1 * *",
}

#: The maximum length of an expression in characters.
_LONGEST = 200

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_EXAMPLE = 'Write five fields, such as "0 9 * * mon-fri": minute, hour, day of the month, month, day of the week.'


class CronError(MusterError):
    """A schedule cannot be read."""

    code = "schedule.invalid"


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    first: int
    last: int
    names: Mapping[str, int] = field(default_factory=dict)
    #: Whether a range may wrap around: begin after its end and continue from the first value.
    circular: bool = False

    @property
    def allowed(self) -> str:
        names = f" and {', '.join(self.names)}" if self.names else ""
        of_this = f"{self.first} to {self.last}{names}"
        return f"{of_this}, *, a range such as {self._range}, steps such as */2, and lists with commas"

    @property
    def _range(self) -> str:
        return {"month": "mar-oct", "day of the week": "mon-fri"}.get(self.name, f"{self.first}-{self.first + 4}")


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Field("day of the week", 0, 7, {name: number for number, name in enumerate(_DAYS)}, circular=True),
)

_PART = re.compile(r"(?:(?P<all>\*)|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d{1,4}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule.

    Raises:
        CronError: the expression cannot be read, or names a day that never occurs.
    """

    expression: str
    zone: ZoneInfo
    #: The five fields as cronsim reads them.
    _line: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        words = zip(_words(self.expression), _FIELDS, strict=True)
        line = " ".join(_plain(word, each, self.expression) for word, each in words)
        try:
            CronSim(line, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise CronError(
                f"{_shown(self.expression)} is no schedule: there is no such day of the month in that month, in no "
                "year. L is the last day of a month."
            ) from error
        object.__setattr__(self, "_line", line)

    def __str__(self) -> str:
        """Return the schedule in short words if possible: ``09:00, mon-fri (Europe/Berlin)``."""
        minute, hour, day, month, weekday = _words(self.expression)
        if not (minute.isdigit() and hour.isdigit() and (day, month) == ("*", "*")):
            return f"{self.expression} ({self.zone.key})"
        which = "daily" if weekday == "*" else re.sub(r"(?<!/)\b\d\b", lambda day: _DAYS[int(day[0]) % 7], weekday)
        return f"{int(hour):02}:{int(minute):02}, {which} ({self.zone.key})"


def next_after(cron: Cron, at: float) -> float:
    """Return the first due time after `at`; both in seconds since the epoch."""
    shown = datetime.fromtimestamp(at, cron.zone).replace(tzinfo=None)
    walls = CronSim(cron._line, shown - timedelta(minutes=1))
    return next(moment for wall in walls if (moment := _moment(wall, cron.zone)) > at)


def previous_before(cron: Cron, at: float) -> float:
    """Return the last due time before `at`; both in seconds since the epoch."""
    shown = datetime.fromtimestamp(at, cron.zone)
    # If the clock was put back, it has shown later times before.
    latest = shown.replace(tzinfo=None) + timedelta(days=shown.fold, minutes=1)
    walls = CronSim(cron._line, latest, reverse=True)
    return next(moment for wall in walls if (moment := _moment(wall, cron.zone)) < at)


# --- clock changes -----------------------------------------------------------------------------------------------


def _moment(wall: datetime, zone: ZoneInfo) -> float:
    """Return the moment at which a clock in `zone` first shows `wall` or is put forward over it."""
    first, second = (wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    before, after = first.utcoffset(), second.utcoffset()
    assert before is not None
    assert after is not None
    if before >= after:
        return first.timestamp()
    # `first` uses the offset from before the change and is later than the change; `second` is earlier.
    low, high = int(second.timestamp()), int(first.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, UTC).astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return float(high)


# --- reading -----------------------------------------------------------------------------------------------------


def _words(expression: str) -> list[str]:
    if len(expression) > _LONGEST:
        raise CronError(
            f"{_shown(expression)} is no schedule: it has {len(expression):,} characters, and {_LONGEST} are allowed. "
            f"{_EXAMPLE}"
        )
    folded = expression.strip().casefold()
    words = _SHORT.get(folded, folded).split()
    if len(words) != len(_FIELDS):
        found = f"{len(words)} field{'s' if len(words) != 1 else ''}"
        short = f" Short forms: {', '.join(_SHORT)}." if folded.startswith("@") else ""
        raise CronError(f"{_shown(expression)} is no schedule: it has {found}. {_EXAMPLE}{short}")
    return words


def _plain(word: str, what: _Field, expression: str) -> str:
    """Return a field with its ranges as lists of numbers, since cronsim reads `5-5/2` and `fri-mon` otherwise."""
    return ",".join(_part(part, what, expression) for part in word.split(","))


def _part(part: str, what: _Field, expression: str) -> str:
    def wrong(why: str) -> CronError:
        return CronError(
            f"{_shown(expression)} is no schedule: the {what.name} {_shown(part)} {why}. Allowed are {what.allowed}."
        )

    if part == "l" and what.name == "day of the month":
        return part
    match = _PART.fullmatch(part)
    if match is None:
        raise wrong("cannot be read")
    step = int(match["step"] or 1)
    if step == 0:
        raise wrong("has a step of 0")
    if match["all"]:
        return part
    low = _number(match["low"], what)
    high = low if match["high"] is None else _number(match["high"], what)
    if low is None or high is None:
        raise wrong("is out of range")
    if match["step"] and match["high"] is None:
        raise wrong(f"has a step and no end; write {match['low']}-{what.last}/{step}")
    if high < low and not what.circular:
        raise wrong(f"runs backwards; write {match['low']}-{what.last},{what.first}-{match['high']}")
    if high < low:
        high += what.last
    return ",".join(str(each if each <= what.last else each - what.last) for each in range(low, high + 1, step))


def _number(word: str, what: _Field) -> int | None:
    if word in what.names:
        return what.names[word]
    if not word.isdecimal() or len(word) > 4 or not what.first <= int(word) <= what.last:
        return None
    return int(word)


def _shown(word: str) -> str:
    return repr(word if len(word) <= 60 else f"{word[:60]}...")
