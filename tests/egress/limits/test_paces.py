"""The pace at the gate: who is ahead of it asks for nothing more until it has come there, and nothing is cut for it."""

from __future__ import annotations

import asyncio
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from budget.tokens import Tokens
from budget.windows import window_boundaries
from egress.daemon.startup import running
from egress.ledger.model import FOR_NOW
from egress.limits.admission_interface import AdmissionRefused
from egress.paths import EgressPaths
from egress.settings import AccountSettings, EgressSettings, PaceSettings
from tests import waiting
from tests.egress.ledger.rows import Clock
from tests.egress.limits.gate import House, allowance, asked, completed, heard, house, pool, registration
from tests.egress.limits.test_admission_control import refusal
from tests.egress.whole_egress import anthropic, chat, events, plane, responses

HOUR, DAY = 3_600.0, 86_400.0


def pace(clock: Clock, amount: float = 1_000, limit: float = 100_000, **others: Any) -> PaceSettings:
    """A thousand tokens now, and all at the end of some hours in which each allows another thousand."""
    given = {
        "counted_on": "host",
        "window": "300d",
        "from_at": clock.now,
        "from_amount": amount,
        "until_at": clock.now + (limit - amount) / 1_000 * HOUR,
        "until_amount": limit,
    }
    return PaceSettings.model_validate(given | others)


async def use_up(home: House, agent: str = "coder0", **changes: object) -> tuple[int, AdmissionRefused]:
    """Ask until that is refused; how many were let through."""
    for count in range(100):
        try:
            await home.use(agent, **changes)  # type: ignore[arg-type]
        except AdmissionRefused as refused:
            return count, refused
    raise AssertionError("nothing holds it")


async def test_a_turn_that_goes_on_and_on_is_refused_ahead_of_its_pace_and_goes_on_when_that_has_caught_up(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with house(tmp_path, pool(100_000, window="300d"), paces=(pace(clock, 900),), clock=clock) as home:
        count, refused = await use_up(home)
        assert (count, refused.retry_after_s) == (5, None)
        assert str(refused) == (
            "The shared budget of host is ahead of its pace, further than work under way may be: 1,000 of 100,000 "
            "tokens per 300d used, where its pace allows 900 tokens so far. It allows more from 2027-01-15 08:06 UTC "
            "on. Opened before that by `muster budget authorize host AMOUNT`."
        )
        assert (home.limit()["paced"], home.limit()["state"]) == (900, "open")
        assert home.gate.denied("coder0") is None, "no route is closed for it"
        assert home.enforced == []
        clock.now += HOUR / 2
        assert (await use_up(home))[0] == 2
        clock.now += 98.6 * HOUR
        await home.use()
        assert home.limit()["paced"] is None, "at its end the limit alone holds"


async def test_nothing_that_streams_is_cut_for_the_pace(tmp_path: Path) -> None:
    clock = Clock()
    async with house(tmp_path, pool(100_000, policy="kill", window="300d"), paces=(pace(clock),), clock=clock) as home:
        lease = await home.gate.admit(asked(max_tokens=50_000))
        cuts = heard(lease)
        lease.progress(Tokens(input=100, output=40_000))
        await lease.settle(completed(100, 40_000))
        await refusal(home)
        assert cuts == []
        assert [action.action for action in await home.actions()] == ["refused"]
        assert home.enforced == []


async def test_however_many_ask_at_once_it_is_not_passed_by_more_than_one_will_likely_use(tmp_path: Path) -> None:
    clock = Clock()
    async with house(tmp_path, pool(100_000, window="300d"), paces=(pace(clock),), clock=clock) as home:
        results = await asyncio.gather(*(home.gate.admit(asked()) for _ in range(64)), return_exceptions=True)
        admitted = [each for each in results if not isinstance(each, BaseException)]
        refused = [each for each in results if isinstance(each, AdmissionRefused)]
        assert (len(admitted), {each.retry_after_s for each in refused}) == (8, {2})
        assert "and about 1,000 tokens for requests under way, where its pace allows 1,000 tokens so far" in str(
            refused[0]
        )
        for lease in admitted:
            await lease.settle(completed(50, 50))
        assert home.limit()["used"] == 800
        await home.use()


async def test_it_is_written_down_what_was_in_the_way_and_until_when(tmp_path: Path) -> None:
    clock = Clock()
    async with house(tmp_path, pool(100_000, window="300d"), paces=(pace(clock, 900),), clock=clock) as home:
        await use_up(home)
        clock.now += 61
        await refusal(home)
        first, second = await home.actions()
        expected = {"scope": "host", "why": "pace", "unit": "tokens", "window": "300d"}
        assert first.detail == expected | {"opens_at": pytest.approx(clock.now - 61 + HOUR / 10)}
        assert first.result != FOR_NOW
        assert (first.result, second.detail["opens_at"]) == ("refused", first.detail["opens_at"])
        clock.now += HOUR / 10 - 61 - 20
        refused = await refusal(home)
        # Who need not wait for long is asked to come again.
        assert refused.retry_after_s == 21
        clock.now += 21
        await home.use()


async def test_what_is_authorized_lets_it_go_on_at_once_and_no_longer_than_it_lasts(tmp_path: Path) -> None:
    clock = Clock()
    limit = pool(100_000, window="300d")
    async with house(tmp_path, limit, paces=(pace(clock, 900),), clock=clock) as home:
        await use_up(home)
        lifted = pace(clock, 900, lift=1_000, lift_until=clock.now + 0.2)
        await home.limits(limit, paces=(lifted,))
        assert home.limit()["paced"] == 1_900
        await home.use()
        # A clock that is set back gives no more of it, whoever comes meanwhile.
        clock.now -= 60
        await home.gate.register(registration("coder7"))
        await waiting.until(lambda: home.limit()["paced"] != 1_900, limit=10)
        await home.limits(limit, paces=(lifted,), revision="told anew")
        assert home.limit()["paced"] == 900
        await refusal(home)


async def test_of_an_allowance_that_many_have_each_has_a_pace_of_its_own(tmp_path: Path) -> None:
    clock = Clock()
    paces = [pace(clock, 900 + 1_000 * number, counted_on=f"agent:coder{number}") for number in range(2)]
    async with house(tmp_path, allowance(100_000, "host", window="300d"), paces=paces, clock=clock) as home:
        for agent, expected in (("coder0", 5), ("coder1", 10)):
            count, refused = await use_up(home, agent)
            assert count == expected
            assert f"The budget of {agent} (by host) is ahead of its pace" in str(refused)
            assert f"`muster budget authorize agent:{agent} AMOUNT`" in str(refused)
        # Who was given another at its launch is not held by the pace of the one that does not govern.
        more = allowance(50_000, "launch:coder0-1", may_raise=True)
        await home.gate.register(registration("coder0", limits=(more,)))
        await home.use("coder0")


async def test_of_a_providers_window_the_pace_alone_is_held(tmp_path: Path) -> None:
    clock = Clock()
    begins = clock.now - HOUR
    async with house(tmp_path, clock=clock) as home:
        await home.use()  # before anybody knew of it
        window = window_boundaries.from_moment(begins, 7 * DAY)
        own = pace(clock, 900, counted_on="account:main", window=window, by_itself=True)
        await home.limits(paces=(own,))
        assert home.gate.standing()["limits"] == []
        (told,) = home.gate.standing()["paces"]
        assert (told["counted_on"], told["used"], told["paced"]) == ("account:main", 200, 900)
        count, refused = await use_up(home)
        assert count == 4
        assert "The window 7d of account:main is ahead of its pace" in str(refused)
        assert "1,000 tokens used here, where its pace allows 900 tokens so far" in str(refused)
        assert "`muster budget authorize account:main AMOUNT`" in str(refused)
        await home.use(provider="openai", account="spare", api="responses")
        # In the next window nothing is known yet, and the provider holds it.
        clock.now = begins + 7 * DAY
        assert home.gate.standing()["paces"][0]["used"] == 0
        await home.use()
        # Others used more of it than there is for us.
        await home.limits(paces=(pace(clock, -500, counted_on="account:main", window=window, by_itself=True),))
        assert "where its pace allows 0 tokens" in str(await refusal(home))
        await home.limits()
        assert home.gate.standing()["paces"] == []
        await home.use()


async def test_of_several_that_hold_it_the_last_to_open_is_told(tmp_path: Path) -> None:
    clock = Clock()
    paces = (pace(clock), pace(clock, counted_on="role:coder", from_amount=0))
    limits = (pool(100_000, window="300d"), pool(100_000, "role:coder", window="300d"))
    async with house(tmp_path, *limits, clock=clock) as home:
        await home.use(read=1_000)
        await home.limits(*limits, paces=paces)
        assert "The shared budget of role:coder" in str(await refusal(home))
        await home.limits(limits[0], pool(1_000, "role:coder"), paces=paces)
        assert "The shared budget of role:coder is used up" in str(await refusal(home))


async def test_what_costs_money_is_paced_in_money(tmp_path: Path) -> None:
    clock = Clock()
    spent = 100 * 3e-6 + 100 * 15e-6
    own = pace(clock, unit="usd", from_amount=2.5 * spent, until_amount=1.0)
    async with house(tmp_path, pool(1.0, unit="usd", window="300d"), paces=(own,), clock=clock) as home:
        assert (await use_up(home))[0] == 3
        assert home.limit()["paced"] == pytest.approx(2.5 * spent)


MAD = (
    {"from_amount": math.nan},
    {"from_amount": "much"},
    {"until_amount": math.inf},
    {"until_amount": 0},
    {"until_at": 0},
    {"lift": -1},
    {"window": "8s"},
    {"counted_on": "everybody"},
    {"unit": "euro"},
)


@pytest.mark.parametrize("mad", MAD, ids=str)
@pytest.mark.parametrize("by_itself", [False, True])
async def test_a_pace_that_makes_no_sense_paces_nothing_and_no_limit_is_refused_for_it(
    tmp_path: Path, mad: dict[str, Any], by_itself: bool
) -> None:
    clock = Clock()
    written = pace(clock).model_dump() | {"by_itself": by_itself, "from_amount": 100.0} | mad
    limits = [pool(1_000, window="300d").model_dump()]
    told = json.dumps({"host": "attic", "limits": limits, "paces": [written, 7, None]})
    async with house(tmp_path, clock=clock) as home:
        await home.gate.set_settings(EgressSettings.model_validate_json(told))
        count, refused = await use_up(home)
        assert count == 5
        assert "is used up: 1,000 of 1,000 tokens" in str(refused)


async def test_while_the_clock_is_set_back_the_limit_holds_alone(tmp_path: Path) -> None:
    clock = Clock()
    async with house(tmp_path, pool(2_000, window="300d"), paces=(pace(clock, 900),), clock=clock) as home:
        await use_up(home)
        clock.now -= DAY
        count, refused = await use_up(home)
        assert count == 5
        assert "is used up" in str(refused)


async def test_an_egress_that_comes_back_holds_it_while_nobody_else_is_there(short_home: Path) -> None:
    paths, clock = EgressPaths(state=short_home, sockets=short_home / "run"), Clock()
    account = AccountSettings(name="main", provider="anthropic", upstream="https://127.0.0.1:9")
    told = EgressSettings(
        host="here",
        accounts=(account,),
        limits=(pool(100_000, window="300d"),),
        paces=(pace(clock, 300, lift=50.0, lift_until=clock.now + HOUR),),
    )
    async with running(paths, clock=clock, control=False) as egress:
        await egress.configure(told)
        await egress.register(registration())
        lease = await egress.gate.admit(asked())
        await lease.settle(completed(400, 0))
    for later, paced in ((60.0, 300 + 1_000 / 60 + 50), (HOUR + 60.0, 1_300 + 1_000 / 60), (-HOUR, None)):
        start = clock.now
        clock.now += later
        async with running(paths, clock=clock, control=False) as egress:
            (limit,) = egress.gate.standing()["limits"]
            assert (limit["used"], limit["paced"]) == (400, None if paced is None else pytest.approx(paced))
            if paced is None or paced > 400:
                await (await egress.gate.admit(asked())).settle(completed(0, 0))
            else:
                with pytest.raises(AdmissionRefused, match="is ahead of its pace"):
                    await egress.gate.admit(asked())
        clock.now = start


async def test_clients_are_told_in_the_way_that_ends_their_turn_or_has_them_come_again(short_home: Path) -> None:
    now = time.time()
    limit = pool(1_000_000, window="300d")

    def paced(amount: float, rise: float) -> PaceSettings:
        until = now + (1_000_000 - amount) / rise
        return pace(Clock(now), amount, 1_000_000, until_at=until)

    async with plane(short_home) as made:
        key = f"file:{short_home / 'key'}"
        url = made.provider.url
        main = AccountSettings(name="main", provider="anthropic", upstream=url, credential=key)
        other = AccountSettings(name="other", provider="openai", upstream=url, credential=key)
        plain = EgressSettings(host="here", accounts=(main, other), limits=(limit,))
        agent = await made.agent()

        async def ask(path: str, body: dict[str, Any]) -> tuple[int, str, str | None]:
            async with agent.post(path, json=body) as response:
                return response.status, await response.text(), response.headers.get("Retry-After")

        await made.egress.configure(plain.model_copy(update={"paces": (paced(1, 0.01),)}))
        async with agent.post("anthropic/v1/messages", json=anthropic("[[stream: 400 word]]", stream=True)) as streamed:
            assert events(await streamed.read())[-1]["type"] == "message_stop", "nothing is cut for it"
        await made.entries(1)
        for path, body, status in (
            ("anthropic/v1/messages", anthropic(), 403),
            ("openai/v1/responses", responses(), 400),
            ("openai/v1/chat/completions", chat(), 403),
        ):
            found, text, after = await ask(path, body)
            assert (found, after) == (status, None), path
            assert "is ahead of its pace" in text
        # A tunnel, or what uses nothing, is not closed.
        async with agent.get("anthropic/v1/models") as listed:
            assert listed.status == 200
        used = made.egress.gate.standing()["limits"][0]["used"]
        soon = paced(used - 50, 1.0)
        await made.egress.configure(plain.model_copy(update={"paces": (soon,)}))
        found, text, after = await ask("anthropic/v1/messages", anthropic())
        assert found == 429
        assert 0 < int(after or 0) <= 60
        await made.egress.configure(plain)
        assert (await ask("anthropic/v1/messages", anthropic()))[0] == 200


async def test_of_a_limit_it_is_written_down_too_what_was_in_the_way_and_until_when(tmp_path: Path) -> None:
    clock = Clock()
    async with house(tmp_path, pool(400, window="5h", policy="freeze"), clock=clock) as home:
        await use_up(home)
        await home.gate.close()
        ends = home.limit()["reset_at"]
        expected = {"scope": "host", "why": "spent", "unit": "tokens", "window": "5h", "opens_at": ends}
        for action in await home.actions():
            assert action.detail.items() >= expected.items(), action.action
        assert {action.action for action in await home.actions()} == {"limit", "freeze", "refused"}
