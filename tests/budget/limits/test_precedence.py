"""Which limits govern, and which do not."""

from __future__ import annotations

from budget.limits.precedence import governing, overruled
from budget.limits.scopes import Draw, Limit

DRAW = Draw(agent="coder0", launch_id="l1", profiles=("rust", "base"), provider="anthropic", account="team")


def _allowance(scope: str, amount: int = 100, window: str | None = None, may_raise: bool = False) -> Limit:
    return Limit(kind="allowance", scope=scope, amount=amount, window=window, may_raise=may_raise)


def _pool(scope: str, window: str | None = None) -> Limit:
    return Limit(kind="pool", scope=scope, amount=1000, window=window)


def test_the_most_specific_allowance_governs_alone() -> None:
    limits = [_allowance(scope) for scope in ("host", "profile:base", "profile:rust", "agent:coder0")]
    while limits:
        assert governing(limits, DRAW) == (limits.pop(),)
    assert governing([_allowance("agent:other"), _allowance("profile:other")], DRAW) == ()


def test_all_of_the_most_specific_scope_govern() -> None:
    mine = [_allowance("agent:coder0", window="5h"), _allowance("agent:coder0", window="week")]
    assert governing([mine[0], _allowance("host"), mine[1]], DRAW) == tuple(mine)


def test_an_allowance_at_launch_only_lowers() -> None:
    launch, agent = _allowance("launch:l1", 10**9), _allowance("agent:coder0", 100)
    assert governing([_allowance("host"), agent, launch], DRAW) == (launch, agent)


def test_an_admins_allowance_at_launch_may_raise() -> None:
    launch, agent = _allowance("launch:l1", 10**9, may_raise=True), _allowance("agent:coder0", 100)
    assert governing([agent, launch], DRAW) == (launch,)


def test_every_pool_that_is_drawn_on_holds_beside_an_allowance() -> None:
    pools = [_pool(scope) for scope in ("account:team", "provider:anthropic", "host", "profile:base", "profile:rust")]
    others = [_pool(scope) for scope in ("account:other", "provider:openai", "profile:other")]
    allowance = _allowance("launch:l1", may_raise=True)
    assert governing([*others, *pools, allowance], DRAW) == (allowance, *pools)


def test_an_admins_later_limit_on_the_agent_narrows_what_a_launch_raised() -> None:
    def own(set_at: float) -> Limit:
        return Limit(kind="allowance", scope="agent:coder0", amount=100, set_at=set_at)

    raised = Limit(kind="allowance", scope="launch:l1", amount=10**9, may_raise=True, set_at=50.0)
    everybodys = Limit(kind="allowance", scope="host", amount=5, set_at=99.0)
    before, after = own(10.0), own(60.0)
    assert governing([before, raised, everybodys, after], DRAW) == (raised, after)
    assert overruled([before, raised, everybodys, after], DRAW) == ((before, raised), (everybodys, raised))
    lowers = _allowance("launch:l1")
    assert governing([lowers, before], DRAW) == (lowers, before)
    assert overruled([lowers, before], DRAW) == ()


def test_of_joined_profiles_all_allowances_govern_so_the_strictest_holds() -> None:
    joined = Draw(
        agent="coder0", launch_id="l1", profiles=("web+deep", "deep", "web"), provider="anthropic", account="team"
    )
    mine = [_allowance("profile:deep", 500), _allowance("profile:web", 100)]
    limits = [_allowance("host", 10), *mine, _pool("profile:web")]
    assert governing(limits, joined) == (*mine, limits[-1])
    assert governing([*limits, _allowance("agent:coder0", 900)], joined)[0].scope == "agent:coder0"
    assert governing([_allowance("host", 10)], joined) == (_allowance("host", 10),)
    assert overruled(limits, joined) == ((limits[0], mine[0]),)
