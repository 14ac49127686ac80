"""Which issues are picked up: an assigned member and a label, in whichever order they came."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.model.references import IssueReference
from forge.model.values import ForgeUser, Issue
from forge.targeting import PickUp, PickUpDecision, PickUpRules, decide, members_to_ask

REFERENCE = IssueReference.parse("acme/shop#17")
ANA, BO, EVE = ForgeUser(1, "ana"), ForgeUser(2, "bo"), ForgeUser(66, "eve")
GHOST = ForgeUser(-1, "Ghost")
MEMBERS = {1: True, 2: True, 66: False}
RULES = PickUpRules(
    organization="acme",
    targets=frozenset({"coder", "reviewer", "coder0"}),
    sandboxes=frozenset({"node", "python", "strict"}),
    default_sandboxes=("strict",),
)
ISSUE = Issue(
    number=17,
    title="It fails",
    body="",
    author=EVE,
    is_open=True,
    labels=("bug",),
    assignees=(),
    is_pull_request=False,
    url="https://forge.example/acme/shop/issues/17",
    updated_at=datetime(2026, 11, 25, tzinfo=UTC),
)


def decided(
    *labels: str,
    assignees: tuple[ForgeUser, ...] = (ANA,),
    issue: Issue = ISSUE,
    rules: PickUpRules = RULES,
    has_run: bool = False,
) -> PickUpDecision:
    issue = replace(issue, labels=labels, assignees=assignees)
    return decide(REFERENCE, issue, rules, memberships=MEMBERS, has_run=has_run)


def test_a_member_and_a_label_make_a_run() -> None:
    decision = decided("bug", "muster:coder")
    assert decision.outcome is PickUp.PICK_UP
    assert (decision.target, decision.sandboxes, decision.assignee) == ("coder", ("strict",), ANA)
    assert decision.sentence == "coder works on acme/shop#17 for ana, in the sandbox strict."


@pytest.mark.parametrize(
    ("labels", "assignees", "reason", "sentence"),
    [
        (("bug",), (ANA,), "no_label", "acme/shop#17 has no label muster:NAME with a role or an agent."),
        (("muster:coder",), (), "no_member", "Nobody is assigned: assign acme/shop#17 to a member of acme."),
        (("muster:coder",), (EVE, GHOST), "no_member", "No assignee is a member of the organization: assign"),
        (("muster:a", "muster:b"), (EVE,), "no_member", "No assignee is a member of the organization: assign"),
    ],
)
def test_what_is_missing_is_said(
    labels: tuple[str, ...], assignees: tuple[ForgeUser, ...], reason: str, sentence: str
) -> None:
    decision = decided(*labels, assignees=assignees)
    assert (decision.outcome, decision.reason) == (PickUp.NOT_YET, reason)
    assert decision.sentence.startswith(sentence)
    assert decision.target is None


@pytest.mark.parametrize(
    ("labels", "rules", "reason", "sentence"),
    [
        (
            ("muster:poet",),
            RULES,
            "unknown_target",
            "names `poet`, which is no role or agent here. Known are: coder, coder0, reviewer.",
        ),
        (("muster:",), RULES, "unknown_target", "names something with unusual characters"),
        (("muster:@everyone",), RULES, "unknown_target", "names something with unusual characters"),
        (("muster:poet",), replace(RULES, targets=frozenset()), "unknown_target", "None is configured."),
        (
            ("muster:coder", "muster:reviewer"),
            RULES,
            "several_labels",
            "has 2 labels that begin with muster:. Leave one.",
        ),
        (
            ("muster:coder", "muster-sandbox:moon", "muster-sandbox:node"),
            RULES,
            "unknown_sandbox",
            "names `moon`, which is no sandbox profile here. Known are: node, python, strict.",
        ),
        (
            ("muster:coder",),
            replace(RULES, default_sandboxes=("gone",)),
            "unknown_sandbox",
            "The configured default for acme/shop#17 names `gone`, which is no sandbox profile here.",
        ),
        (
            ("muster:coder",),
            replace(RULES, default_sandboxes=()),
            "no_sandbox",
            "Add a label muster-sandbox:PROFILE. Known are: node, python, strict.",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_way_out(
    labels: tuple[str, ...], rules: PickUpRules, reason: str, sentence: str
) -> None:
    decision = decided(*labels, rules=rules)
    assert (decision.outcome, decision.reason) == (PickUp.REFUSE, reason)
    assert sentence in decision.sentence
    assert "@everyone" not in decision.sentence


def test_sandboxes_of_labels_replace_the_default_and_compose_in_one_order() -> None:
    labels = ("muster:coder", "muster-sandbox:python", "muster-sandbox:node", "Muster-Sandbox: NODE")
    orders = {decided(*order).sandboxes for order in permutations(labels)}
    assert orders == {("node", "python")}


@pytest.mark.parametrize("label", ["Muster:Coder", " muster:coder ", "muster: coder", "MUSTER:CODER"])
def test_case_and_spaces_of_labels_do_not_matter(label: str) -> None:
    assert decided(label, "muster:coder").target == "coder"


@pytest.mark.parametrize(
    "label", ["muster", "muster coder", "not-muster:coder", "muster-sandbox:node", "xmuster:coder"]
)
def test_other_labels_are_not_ours(label: str) -> None:
    assert decided(label).reason == "no_label"


@pytest.mark.parametrize(
    ("issue", "reason"),
    [(replace(ISSUE, is_open=False), "closed"), (replace(ISSUE, is_pull_request=True), "pull_request")],
)
def test_closed_issues_and_pull_requests_are_left_alone(issue: Issue, reason: str) -> None:
    decision = decided("muster:coder", issue=issue)
    assert (decision.outcome, decision.reason) == (PickUp.NOT_YET, reason)
    assert members_to_ask(replace(issue, labels=("muster:coder",), assignees=(ANA,))) == ()


def test_an_issue_with_a_run_gets_no_second_one() -> None:
    assert decided("muster:coder", has_run=True).outcome is PickUp.ALREADY_RUNNING
    assert decided("muster:reviewer", "muster:coder", has_run=True).outcome is PickUp.ALREADY_RUNNING


def test_only_people_who_can_matter_are_asked_about() -> None:
    labelled = replace(ISSUE, labels=("muster:coder",), assignees=(EVE, GHOST, BO, ANA, BO))
    assert members_to_ask(labelled) == (ANA, BO, EVE)
    assert members_to_ask(replace(labelled, labels=("bug",))) == ()


def test_each_decision_logs_the_organization() -> None:
    for labels, has_run in ((("muster:coder",), False), (("bug",), False), (("muster:x",), False), ((), True)):
        fields = decided(*labels, has_run=has_run).log_fields()
        assert (fields["organization"], fields["issue"]) == ("acme", "acme/shop#17")
        assert fields["outcome"]


def test_the_wrong_issue_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="was decided with issue #4"):
        decided("muster:coder", issue=replace(ISSUE, number=4))


_LABELS = st.sampled_from(
    ["bug", "muster:coder", "MUSTER:coder", "muster:reviewer", "muster:poet", "muster:", "muster-sandbox:node", "wip"]
)
_PEOPLE = st.sampled_from([ANA, BO, EVE, GHOST, ForgeUser(67, "mallory")])


@given(
    labels=st.lists(_LABELS, max_size=5),
    people=st.lists(_PEOPLE, max_size=4),
    known=st.dictionaries(st.sampled_from([-1, 1, 2, 66, 67]), st.booleans()),
    has_run=st.booleans(),
    is_open=st.booleans(),
)
def test_nobody_but_a_member_completes_a_pick_up(
    labels: list[str], people: list[ForgeUser], known: dict[int, bool], has_run: bool, is_open: bool
) -> None:
    issue = replace(ISSUE, labels=tuple(labels), assignees=tuple(people), is_open=is_open)
    decision = decide(REFERENCE, issue, RULES, memberships=known, has_run=has_run)
    members = {user.id for user in people if known.get(user.id) and user.id > 0}
    if decision.outcome in (PickUp.PICK_UP, PickUp.REFUSE):
        assert decision.assignee is not None
        assert decision.assignee.id in members
    if decision.outcome is PickUp.PICK_UP:
        assert is_open
        assert not has_run
        assert decision.target in RULES.targets
    if not members:
        assert decision.outcome in (PickUp.NOT_YET, PickUp.ALREADY_RUNNING)


@given(
    changes=st.lists(
        st.one_of(_LABELS.map(lambda label: ("label", label)), _PEOPLE.map(lambda user: ("user", user.login))),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
)
def test_an_issue_is_picked_up_once_in_whichever_order_its_label_and_its_member_came(
    changes: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Each change is followed by any number of events, also doubled ones, and each event looks at the whole issue."""
    people = {user.login: user for user in (ANA, BO, EVE, GHOST, ForgeUser(67, "mallory"))}

    def final(order: list[tuple[str, str]]) -> tuple[list[PickUpDecision], PickUpDecision]:
        issue, runs = ISSUE, list[PickUpDecision]()
        for kind, name in order:
            if kind == "label":
                issue = replace(issue, labels=(*issue.labels, name))
            else:
                issue = replace(issue, assignees=(*issue.assignees, people[name]))
            for _ in range(data.draw(st.integers(1, 3))):
                decision = decide(REFERENCE, issue, RULES, memberships=MEMBERS, has_run=bool(runs))
                if decision.outcome is PickUp.PICK_UP:
                    runs.append(decision)
        return runs, decide(REFERENCE, issue, RULES, memberships=MEMBERS, has_run=False)

    runs, one = final(changes)
    other_runs, other = final(data.draw(st.permutations(changes)))
    assert len(runs) <= 1
    assert len(other_runs) <= 1
    assert one == other
    if one.outcome is PickUp.PICK_UP:
        assert len(runs) == len(other_runs) == 1
