"""A job that fails is told once, again ever less often, and once when it is well."""

from __future__ import annotations

from dataclasses import dataclass, field

from scheduler.job_alert_policy import CALM_S, FORGET_S, judged
from scheduler.jobs import JobRecord

HOUR = 3600.0


@dataclass
class Desk:
    """What stands, as the register holds it; and what was said."""

    now: float = 1_000_000.0
    standing: object = None
    failed_at: float | None = None
    said: list[tuple[float, str]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def run(self, error: str | None, *, every: float, times: int = 1, away: bool = False) -> None:
        for _ in range(times):
            self.now += every
            record = JobRecord(name="sweep", last_error=error, away=away)
            verdict = judged(record, self.standing, failed_at=self.failed_at, now=self.now)  # type: ignore[arg-type]
            self.standing = verdict.row
            if error is not None and not away:
                self.failed_at = self.now
            if verdict.piece is not None:
                self.said.append((self.now - 1_000_000.0, verdict.piece.news))
                self.keys.append(verdict.piece.key)

    @property
    def words(self) -> list[str]:
        return [word for _, word in self.said]


def test_it_is_told_at_once_after_one_hour_after_four_more_and_then_daily() -> None:
    desk = Desk()
    desk.run("boom", every=60.0, times=60 * 24 * 4)
    hours = [round(at / HOUR) for at, _ in desk.said]
    assert hours == [0, 1, 5, 29, 53, 77]
    assert desk.words == ["fails"] + ["still"] * 5
    assert len(set(desk.keys)) == len(desk.keys)


def test_its_end_is_told_once_when_it_has_been_well_for_a_while() -> None:
    desk = Desk()
    desk.run("boom", every=30.0)
    desk.run(None, every=30.0, times=2000)
    assert desk.words == ["fails", "well"]
    assert desk.said[1][0] - desk.said[0][0] == CALM_S


def test_one_that_runs_daily_is_well_with_its_next_run() -> None:
    desk = Desk()
    desk.run("boom", every=24 * HOUR)
    desk.run(None, every=24 * HOUR, times=5)
    assert desk.words == ["fails", "well"]
    assert desk.standing is None


def test_one_that_comes_and_goes_is_not_told_every_time() -> None:
    desk = Desk()
    for _ in range(1000):
        desk.run("boom", every=30.0)
        desk.run(None, every=30.0)
    assert desk.words == ["fails", *["still"] * (len(desk.words) - 1)]
    assert len(desk.words) <= 4
    # The same with long spells between.
    desk = Desk()
    for _ in range(24 * 4):
        desk.run("boom", every=900.0)
        desk.run(None, every=900.0)
    assert len(desk.words) <= 10, desk.said


def test_what_was_told_is_forgotten_after_a_day_that_was_well() -> None:
    desk = Desk()
    desk.run("boom", every=60.0)
    desk.run(None, every=600.0, times=2)
    assert desk.standing is not None
    desk.run(None, every=FORGET_S)
    assert desk.standing is None
    desk.run("boom", every=60.0)
    assert desk.words == ["fails", "well", "fails"]


def test_a_register_that_is_away_is_told_elsewhere() -> None:
    desk = Desk()
    desk.run("away", every=60.0, times=100, away=True)
    assert desk.said == []


def test_a_clock_that_is_set_back_by_a_year_does_not_silence_it() -> None:
    desk = Desk()
    desk.run("boom", every=60.0)
    desk.now -= 366 * 24 * HOUR
    desk.run("boom", every=60.0, times=2)
    assert desk.words == ["fails", "still"]
