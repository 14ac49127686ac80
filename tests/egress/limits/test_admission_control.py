"""The gate: nothing beyond a limit is admitted, what crosses one in the middle ends, and all of it is remembered."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from budget.limits.input_bound import Contents
from budget.tokens import Tokens
from budget.windows import window_boundaries
from egress.ledger.model import LedgerUnwritable
from egress.limits.admission_interface import AdmissionRefused, Ending
from egress.limits.agent_counter_index import SettingsRefused
from tests import waiting
from tests.egress.ledger.rows import Clock, under_way
from tests.egress.limits.gate import House, allowance, asked, completed, heard, house, pool, registration

TOGETHER = 64


async def refusal(home: House, agent: str = "coder0", **changes: object) -> AdmissionRefused:
    with pytest.raises(AdmissionRefused) as refused:
        await home.gate.admit(asked(agent, **changes))
    return refused.value


# --- reserve and settle -----------------------------------------------------------------------------------------------


async def test_a_request_is_durable_before_it_leaves_and_counted_when_it_ends(tmp_path: Path) -> None:
    async with house(tmp_path, pool(10_000)) as home:
        lease = await home.gate.admit(asked(session="s1", turn="t1", task="k1", attempt=2))
        assert under_way(tmp_path / "ledger.db") == [lease.id]
        assert (home.limit()["used"], home.limit()["reserved"]) == (0, 200)
        assert home.agent()["streams"] == 1
        await lease.settle(completed(120, 30, first_byte_s=0.5))
        assert (home.limit()["used"], home.limit()["reserved"], home.limit()["streaming"]) == (150, 0, 0)
        (entry,) = await home.entries()
        assert (entry.id, entry.agent, entry.session, entry.turn, entry.task, entry.attempt) == (
            lease.id,
            "coder0",
            "s1",
            "t1",
            "k1",
            2,
        )
        assert (entry.tokens, entry.reported, entry.ended, entry.status, entry.first_byte_s) == (
            Tokens(input=120, output=30),
            True,
            "completed",
            200,
            0.5,
        )
        # 3 and 15 USD per million.
        assert entry.usd == pytest.approx(120 * 3e-6 + 30 * 15e-6)
        assert home.agent() | {"denied": None} == {
            "governing": [0],
            "streams": 0,
            "tokens_today": 150,
            "usd_today": 0.00081,
            "requests_today": 1,
            "denied": None,
        }


async def test_a_second_settlement_does_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, pool(10_000)) as home:
        lease = await home.gate.admit(asked())
        await lease.settle(completed(1, 1))
        await lease.settle(completed(1000, 1000))
        lease.progress(Tokens(input=9_999_999))
        assert lease.cut is None
        assert home.limit()["used"] == 2
        assert len(await home.entries()) == 1


@pytest.mark.parametrize("limit", [pool(2000), allowance(2000), pool(2000, "profile:base")])
async def test_of_64_requests_at_once_as_many_are_admitted_as_there_is_room_for(tmp_path: Path, limit: object) -> None:
    async with house(tmp_path, limit) as home:  # type: ignore[arg-type]
        results = await asyncio.gather(*(home.gate.admit(asked()) for _ in range(TOGETHER)), return_exceptions=True)
        admitted = [result for result in results if not isinstance(result, BaseException)]
        refused = [result for result in results if isinstance(result, AdmissionRefused)]
        assert (len(admitted), len(refused)) == (10, 54)
        assert {each.retry_after_s for each in refused} == {2}
        for lease in admitted:
            await lease.settle(completed())
        spent = await refusal(home)
        assert spent.retry_after_s is None
        assert "2,000 of 2,000 tokens" in str(spent)
        assert len(await home.entries()) == 10


async def test_room_that_was_not_used_is_given_back(tmp_path: Path) -> None:
    async with house(tmp_path, pool(300)) as home:
        first = await home.gate.admit(asked())
        assert (await refusal(home)).retry_after_s == 2
        await first.settle(completed(50, 0))
        second = await home.gate.admit(asked())
        # Refused by its provider: that costs nothing.
        await second.settle(Ending(ended="error", status=529))
        assert (home.limit()["used"], home.limit()["reserved"]) == (50, 0)


async def test_output_is_bounded_by_what_is_left(tmp_path: Path) -> None:
    async with house(tmp_path, pool(250)) as home:
        lease = await home.gate.admit(asked(max_tokens=4000))
        assert lease.max_tokens == 150
        await lease.settle(completed(100, 150))
        assert home.limit()["state"] == "spent"


async def test_nobody_else_than_who_is_registered_is_admitted(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        assert "knows no account main of anthropic for stranger" in str(await refusal(home, "stranger"))
        assert "knows no account other" in str(await refusal(home, account="other"))
        await home.gate.unregister("coder0")
        await refusal(home)


async def test_who_hangs_up_while_being_settled_is_charged(tmp_path: Path) -> None:
    async with house(tmp_path, pool(300)) as home:
        lease = await home.gate.admit(asked())
        waiting = asyncio.ensure_future(lease.settle(completed(70, 7)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert home.limit()["used"] == 77
        await home.actions()
        assert [entry.tokens.total for entry in await home.entries()] == [77]


async def test_while_the_ledger_cannot_be_written_nothing_is_admitted_and_nothing_is_held(tmp_path: Path) -> None:
    async with house(tmp_path, pool(300)) as home:
        lease = await home.gate.admit(asked())
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerUnwritable):
                await lease.settle(completed(100, 50))
            with pytest.raises(LedgerUnwritable):
                await home.gate.admit(asked())
            assert "locked" in home.gate.standing()["unwritable"]
            other.execute("ROLLBACK")
        # It counts all the same, and its row follows.
        assert (home.limit()["used"], home.limit()["reserved"]) == (150, 0)
        await waiting.until(lambda: home.ledger.unwritable is None)
        assert [entry.id for entry in await home.entries()] == [lease.id]


# --- in the middle of a stream ----------------------------------------------------------------------------------------


async def test_a_crossing_ends_the_stream_in_the_same_step(tmp_path: Path) -> None:
    async with house(tmp_path, allowance(500)) as home:
        lease = await home.gate.admit(asked())
        cuts = heard(lease)
        lease.progress(Tokens(input=100, output=400))
        assert cuts == []
        lease.progress(Tokens(input=100, output=401))
        assert [cut.scope for cut in cuts] == ["agent:coder0"]
        assert "501 of 500 tokens" in cuts[0].reason
        assert "muster budget set agent:coder0" in cuts[0].reason
        assert lease.cut == cuts[0]
        assert heard(lease) == cuts
        await lease.settle(Ending(ended="cut", status=200, tokens=Tokens(input=100, output=401)))
        (entry,) = await home.entries()
        assert (entry.ended, entry.reported, entry.tokens) == ("cut", False, Tokens(input=100, output=401))
        assert (await refusal(home)).scope == "agent:coder0"


async def test_an_allowance_ends_its_agents_streams_and_a_pool_everybodys(tmp_path: Path) -> None:
    async with house(tmp_path, pool(2000), allowance(600, "profile:base")) as home:
        mine, also_mine, other = [await home.gate.admit(asked(name)) for name in ("coder0", "coder0", "coder1")]
        mine.progress(Tokens(input=100, output=450))
        assert [lease.cut is not None for lease in (mine, also_mine, other)] == [True, True, False]
        await mine.settle(Ending(ended="cut", status=200))
        await also_mine.settle(Ending(ended="cut", status=200))
        await home.limits(pool(975))
        third = await home.gate.admit(asked("coder0"))
        assert third.cut is None
        other.progress(Tokens(input=100, output=201))
        assert [lease.cut is not None for lease in (third, other)] == [True, True]
        assert {cut.scope for lease in (third, other) for cut in heard(lease)} == {"host"}


async def test_what_is_read_counts_as_soon_as_it_has_left(tmp_path: Path) -> None:
    async with house(tmp_path, pool(1000)) as home:
        leases = [await home.gate.admit(asked()) for _ in range(4)]
        assert home.limit()["streaming"] == 400
        # Most of it came from a cache, which weighs a tenth.
        leases[0].progress(Tokens(input=10, cache_read=90))
        assert home.limit()["streaming"] == 319
        leases[0].progress(Tokens(input=10, cache_read=90, output=681))
        assert not any(lease.cut for lease in leases)
        leases[0].progress(Tokens(input=10, cache_read=90, output=682))
        assert all(lease.cut for lease in leases)


async def test_a_crossing_is_in_the_audit_once_with_who_was_ended(tmp_path: Path) -> None:
    async with house(tmp_path, pool(1000)) as home:
        leases = [await home.gate.admit(asked(f"coder{number % 2}")) for number in range(4)]
        for lease in leases:
            lease.progress(Tokens(input=100, output=1000))
        for lease in leases:
            await lease.settle(Ending(ended="cut", status=200))
        for _ in range(50):
            await refusal(home)
        actions = await home.actions()
        assert [(each.agent, each.action, each.result) for each in actions] == [
            ("*", "limit", "4 streams ended"),
            ("coder0", "refused", "refused"),
        ]
        assert actions[0].detail["agents"] == ["coder0", "coder1"]
        assert actions[0].detail["scope"] == "host"
        assert home.enforced == []


@pytest.mark.parametrize("policy", ["freeze", "kill"])
async def test_a_limits_policy_meets_each_agent_once_when_it_has_to_do_with_it(tmp_path: Path, policy: str) -> None:
    async with house(tmp_path, pool(1000, policy=policy), agents=3) as home:
        first = await home.gate.admit(asked("coder0"))
        first.progress(Tokens(input=100, output=1000))
        await first.settle(Ending(ended="cut", status=200))
        await home.gate.close()
        assert [(agent, action) for agent, action, _ in home.enforced] == [("coder0", policy)]
        for _ in range(3):
            await refusal(home, "coder1")
            await refusal(home, "coder0")
        await home.gate.close()
        assert [(agent, action) for agent, action, _ in home.enforced] == [("coder0", policy), ("coder1", policy)]
        done = [each for each in await home.actions() if each.action == policy]
        assert [(each.agent, each.result) for each in done] == [("coder0", "done"), ("coder1", "done")]
        assert "1,100 of 1,000 tokens" in done[0].cause


@pytest.mark.parametrize(("policy", "ended"), [("freeze", ["coder0"]), ("kill", []), ("cutoff", [])])
async def test_who_needs_more_than_is_left_is_frozen_once_and_never_killed(
    tmp_path: Path, policy: str, ended: list[str]
) -> None:
    async with house(tmp_path, pool(1000, policy=policy)) as home:
        await home.use(written=850)
        for _ in range(2):
            assert "too little left" in str(await refusal(home, "coder0"))
        await home.gate.close()
        assert [agent for agent, _, _ in home.enforced] == ended


async def test_a_limit_that_is_lowered_below_what_was_used_speaks_of_no_response(tmp_path: Path) -> None:
    async with house(tmp_path, pool(1000)) as home:
        await home.use(written=850)
        await home.limits(pool(900))
        await refusal(home)
        (crossing,) = [each.cause for each in await home.actions() if each.action == "limit"]
        assert crossing.startswith("The shared budget of host is used up: 950 of 900 tokens")


async def test_a_response_that_crosses_a_limit_with_its_last_word_is_whole(tmp_path: Path) -> None:
    async with house(tmp_path, pool(250, policy="freeze")) as home:
        lease = await home.gate.admit(asked())
        await lease.settle(completed(100, 200))
        assert lease.cut is None
        await refusal(home)
        await home.gate.close()
        assert [agent for agent, _, _ in home.enforced] == ["coder0"]


# --- limits that change -----------------------------------------------------------------------------------------------


async def test_a_limit_that_is_lowered_cuts_what_is_beyond_and_one_that_is_raised_opens(tmp_path: Path) -> None:
    async with house(tmp_path, pool(10_000)) as home:
        await home.use(read=300, written=200)
        lease = await home.gate.admit(asked())
        lease.progress(Tokens(input=100, output=50))
        await home.limits(pool(650))
        assert lease.cut is None
        await home.limits(pool(600))
        assert lease.cut is not None
        await lease.settle(Ending(ended="cut", status=200))
        await refusal(home)
        await home.limits(pool(1000))
        await home.use()
        await home.limits()
        assert home.gate.standing()["limits"] == []
        await home.use(read=10**6)


async def test_a_new_limit_counts_what_was_used_before_and_what_is_under_way(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.use("coder0", 1000, 0)
        await home.use("coder1", 100, 0)
        lease = await home.gate.admit(asked("coder0"))
        lease.progress(Tokens(input=100, output=10))
        settled = asyncio.ensure_future(lease.settle(completed(100, 20)))
        changed = asyncio.ensure_future(
            home.limits(pool(5000), allowance(3000, "profile:strict"), pool(1, "account:x"))
        )
        other = await home.gate.admit(asked("coder1"))
        await asyncio.gather(settled, changed)
        assert home.limit("host")["used"] == 1220
        assert home.limit("profile:strict", "launch:coder0-1")["used"] == 1120
        assert home.limit("profile:strict", "launch:coder1-1")["used"] == 100
        assert home.limit("host")["streaming"] == 100
        other.progress(Tokens(input=100, output=3681))
        assert other.cut is not None
        await other.settle(Ending(ended="cut", status=200))
        assert home.limit("host")["streaming"] == 0


async def test_a_new_limit_counts_what_an_earlier_launch_has_under_way(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        lease = await home.gate.admit(asked())
        await home.gate.register(registration(launch_id="coder0-2", limits=(allowance(50, "launch:coder0-2"),)))
        await home.limits(pool(300))
        lease.progress(Tokens(input=100, output=200))
        assert (home.limit("host")["streaming"], home.limit("launch:coder0-2")["streaming"]) == (300, 0)
        assert lease.cut is None
        lease.progress(Tokens(input=100, output=201))
        assert lease.cut is not None


async def test_other_weights_count_at_once(tmp_path: Path) -> None:
    async with house(tmp_path, pool(1000)) as home:
        lease = await home.gate.admit(asked())
        await lease.settle(completed(tokens=Tokens(input=100, cache_read=1000, output=10)))
        assert home.limit()["used"] == 210
        await home.limits(pool(1000), weights={"cache_read": 1.0, "output": 5})
        assert home.limit()["used"] == 1150
        await refusal(home)


@pytest.mark.parametrize(
    "limit", [pool(1, "planet:earth"), pool(1, window="5y"), allowance(1, "account:main"), pool(0.5)]
)
async def test_settings_that_cannot_hold_change_nothing(tmp_path: Path, limit: object) -> None:
    async with house(tmp_path, pool(300)) as home:
        with pytest.raises(SettingsRefused, match=r"A limit on .* cannot hold"):
            await home.limits(limit)  # type: ignore[arg-type]
        with pytest.raises(SettingsRefused):
            await home.gate.register(registration(limits=(limit,)))
        assert home.limit()["limit"] == 300
        await home.use()


async def test_an_agents_own_allowance_governs_and_a_new_launch_begins_anew(tmp_path: Path) -> None:
    async with house(tmp_path, allowance(5000, "profile:base")) as home:
        mine = allowance(400, "launch:coder0-1")
        await home.gate.register(registration(limits=(mine,)))
        await home.use()
        await home.use()
        assert "coder0" in str(await refusal(home))
        await home.use("coder1")
        await home.gate.register(registration(launch_id="coder0-2", limits=(allowance(400, "launch:coder0-2"),)))
        await home.use()
        assert home.limit("launch:coder0-2")["used"] == 200


async def test_a_window_that_ends_opens_the_limit(tmp_path: Path) -> None:
    clock = Clock()
    async with house(tmp_path, pool(300, window="day"), clock=clock) as home:
        await home.use(read=200, written=100)
        first = await refusal(home)
        assert "begins anew at" in str(first)
        reset = home.limit()["reset_at"]
        clock.now = reset - 30
        assert (await refusal(home)).retry_after_s == 30
        clock.now = reset
        await home.use()
        assert home.limit()["used"] == 200
        assert home.agent()["tokens_today"] == 200


async def test_money_is_counted_exactly_and_what_has_no_price_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path, pool(0.01, unit="usd")) as home:
        assert "no price is known" in str(await refusal(home, model="home-grown"))
        await home.use(read=1000, written=100)
        assert home.limit()["used"] == 0.0045
        lease = await home.gate.admit(asked(max_tokens=None))
        # Its input may be written into the cache for an hour, at 6 USD a million.
        assert lease.max_tokens == (5_500_000 - 100 * 6_000) // 15_000
        lease.progress(Tokens(input=100, output=lease.max_tokens))
        assert lease.cut is None
        # A provider that does not keep to the bound.
        lease.progress(Tokens(input=100, output=2 * lease.max_tokens))
        assert lease.cut is not None


# --- restarts ---------------------------------------------------------------------------------------------------------


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    limits = pool(1000, window="day"), allowance(600, "profile:base"), pool(1, "account:main", unit="usd")
    async with house(tmp_path, *limits) as home:
        await home.use("coder0", 300, 50)
        await home.use("coder1", 10, 5)
        await home.gate.admit(asked("coder0"))
        before = home.gate.standing()
    async with house(tmp_path, *limits, agents=0) as home:
        after = home.gate.standing()
        # What was under way is charged with what was reserved for it.
        assert [(row["scope"], row["counted_on"], row["used"]) for row in after["limits"]] == [
            (row["scope"], row["counted_on"], row["used"] + row["reserved"]) for row in before["limits"]
        ]
        assert {name: each["tokens_today"] for name, each in after["agents"].items()} == {"coder0": 550, "coder1": 15}
        assert after["streams"] == 0


async def test_settings_that_no_longer_hold_admit_nobody_until_they_are_told_anew(tmp_path: Path) -> None:
    async with house(tmp_path):
        pass
    async with house(tmp_path, pool(1, "planet:earth"), agents=0) as home:
        await refusal(home)
        await home.limits(pool(300))
        await home.gate.register(registration())
        await home.use()


async def test_what_requests_use_is_learned_and_still_known_after_a_restart(tmp_path: Path) -> None:
    for agents in (2, 0):
        async with house(tmp_path, pool(10**6), agents=agents) as home:
            if agents:
                for _ in range(25):
                    await home.use(read=5000, written=3000, max_tokens=4000)
            lease = await home.gate.admit(asked(max_tokens=4000))
            assert home.limit()["reserved"] >= 3000
            await lease.settle(Ending(ended="error", sent=False))


async def test_a_pool_of_a_role_counts_all_its_agents_and_no_others(tmp_path: Path) -> None:
    async with house(tmp_path, agents=0) as home:
        for name, role in (("coder0", "coder"), ("coder1", "coder"), ("board0", "board")):
            await home.gate.register(registration(name, role=role))
        await home.use("coder0")
        await home.use("board0")
        # What was used before there was a limit counts, from the ledger.
        await home.limits(pool(400, "role:coder", window="day"))
        assert home.limit("role:coder")["used"] == 200
        await home.use("coder1")
        assert "The shared budget of role:coder is used up" in str(await refusal(home, "coder0"))
        await home.use("board0")
    async with house(tmp_path, pool(400, "role:coder", window="day"), agents=0) as home:
        await home.gate.register(registration("coder2", role="coder"))
        assert home.limit("role:coder")["used"] == 400


async def test_a_lifted_limit_is_low_again_when_its_time_is_over_though_nobody_says_so(tmp_path: Path) -> None:
    clock = Clock()
    lifted = pool(200, lift=200.0, lift_until=clock.now + 1000)
    async with house(tmp_path, lifted, clock=clock) as home:
        await home.use()
        await home.use()
        assert (home.limit()["used"], home.limit()["limit"], home.limit()["lift"]) == (400, 400, 200)
        assert "400 of 400" in str(await refusal(home))
    # An egress that comes back has it from its own file, with the time at which it ends.
    clock.now += 1000
    async with house(tmp_path, lifted, clock=clock) as home:
        assert (home.limit()["limit"], home.limit()["lift"]) == (200, 0)
        assert "400 of 200" in str(await refusal(home))


async def test_what_streams_when_a_lift_is_over_is_cut_though_the_clock_was_set_back(tmp_path: Path) -> None:
    clock = Clock()
    async with house(tmp_path, pool(200, lift=800.0, lift_until=clock.now + 0.2), clock=clock) as home:
        lease = await home.gate.admit(asked(max_tokens=500))
        cuts = heard(lease)
        lease.progress(Tokens(input=100, output=150))
        assert cuts == []
        clock.now -= 3600
        await waiting.until(lambda: cuts, limit=10)
        assert home.limit()["limit"] == 200


async def test_a_clock_that_is_set_back_gives_no_more_of_a_lift_whoever_comes_meanwhile(tmp_path: Path) -> None:
    clock = Clock()
    lifted = pool(200, lift=800.0, lift_until=clock.now + 0.2)
    async with house(tmp_path, lifted, clock=clock) as home:
        clock.now -= 366 * 86_400
        await home.gate.register(registration("coder7"))
        await home.limits(lifted)
        await waiting.until(lambda: not home.limit()["lift"], limit=10)
        # It is over, and stays so.
        await home.gate.register(registration("coder8"))
        await home.limits(lifted, revision="told anew")
        assert (home.limit()["limit"], home.limit()["lift"]) == (200, 0)
        # Another one is another.
        await home.limits(pool(200, lift=800.0, lift_until=clock.now + 1000))
        assert home.limit()["limit"] == 1000


async def test_a_lift_without_an_end_lifts_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, pool(200, lift=800.0)) as home:
        assert (home.limit()["limit"], home.limit()["lift"]) == (200, 0)


async def test_a_lift_that_cannot_be_counted_lifts_nothing_and_no_limit_is_refused_for_it(tmp_path: Path) -> None:
    clock = Clock()
    async with house(tmp_path, clock=clock) as home:
        for lift in (0.4, 1e30):
            await home.limits(pool(200, lift=lift, lift_until=clock.now + 1000))
            assert (home.limit()["limit"], home.limit()["lift"]) == (200, 0)


async def test_windows_from_a_moment_on_begin_when_a_providers_do(tmp_path: Path) -> None:
    clock = Clock()
    begins = clock.now - 100
    async with house(tmp_path, pool(300, window=window_boundaries.from_moment(begins, 18_000)), clock=clock) as home:
        await home.use()
        assert (home.limit()["window_start"], home.limit()["reset_at"]) == (begins, begins + 18_000)
        clock.now = begins + 17_999
        assert "per 5h" in str(await refusal(home))
        clock.now = begins + 18_000
        await home.use()
        assert home.limit()["used"] == 200


@pytest.mark.parametrize("scope", ["role:coder", "agent:coder0", "profile:base", "host"])
async def test_a_limit_of_one_account_leaves_the_others_alone(tmp_path: Path, scope: str) -> None:
    async with house(tmp_path) as home:
        await home.use()
        await home.use(provider="openai", account="spare", api="responses")
        await home.limits(pool(400, scope, account="main", window="day"))
        assert home.limit(scope)["used"] == 200
        await home.use(provider="openai", account="spare", api="responses")
        await home.use()
        assert home.limit(scope)["used"] == 400
        await refusal(home)
        await home.use(provider="openai", account="spare", api="responses")


async def test_what_a_stream_told_of_its_input_is_not_kept_where_the_provider_reads_it_again(tmp_path: Path) -> None:
    for rereads, read in ((False, 5), (True, None)):
        folder = tmp_path / str(rereads)
        folder.mkdir()
        async with house(folder) as home:
            lease = await home.gate.admit(asked(contents=Contents(rereads=rereads)))
            bound = lease.reservation.input
            lease.told(Tokens(input=5, output=1))
            assert lease.reservation.input == (bound if read is None else read)
            await lease.settle(completed())
