from __future__ import annotations

from bot.issue_runs.agent_tools.write_limits import WRITES_A_MINUTE, WRITES_IN_ALL, refusal


def test_a_refusal_says_when_again() -> None:
    written = [100.0 + each for each in range(WRITES_A_MINUTE)]
    said = refusal(written, 110.0)
    assert said is not None
    assert "in 50 seconds" in said
    assert refusal(written, 160.0) is None
    assert refusal(written[1:], 110.0) is None


def test_a_run_writes_a_bounded_number_of_times() -> None:
    assert refusal([0.0] * (WRITES_IN_ALL - 1), 1e9) is None
    assert refusal([0.0] * WRITES_IN_ALL, 1e9) is not None
