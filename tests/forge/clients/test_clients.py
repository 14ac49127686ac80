"""What Muster reads and writes at a forge, through the same interface at Gitea and at GitHub."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from forge.clients.address import ForgeAddress
from forge.clients.http_options import HttpOptions
from forge.clients.opening import ForgeKind, open_client
from forge.clients.retries import HttpLimits
from forge.model.errors import ForgeAway, ForgeError, ForgeMissing, ForgeRefused, MembershipUnknown
from forge.model.forge_client import ForgeClient
from forge.model.references import IssueReference, RepositoryName
from forge.model.values import CheckState, ForgeUser, MergeState, ReviewVerdict
from forge.publishing import forks
from tests.forge.conftest import SHOP
from tests.forge.forge_server.own_authority import certified
from tests.forge.forge_server.server import ForgeServer

NAME = RepositoryName.parse(SHOP)
KINDS: tuple[ForgeKind, ...] = get_args(ForgeKind)


@dataclass
class Waits:
    """Stands for the time that passes while a client waits."""

    seconds: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    async def pause(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def options(self, limits: HttpLimits | None = None) -> HttpOptions:
        return HttpOptions(limits=limits or HttpLimits(), on_wait=self.told.append, pause=self.pause, rng=lambda: 1.0)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> ForgeKind:
    found: ForgeKind = request.param
    return found


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def token(forge: ForgeServer) -> str:
    return forge.add_token("muster")


@pytest.fixture
async def client(forge: ForgeServer, kind: ForgeKind, token: str, waits: Waits) -> AsyncIterator[ForgeClient]:
    found = open_client(kind, ForgeAddress.parse(forge.url), token, options=waits.options())
    yield found
    await found.close()


def reference(number: int, name: str = SHOP) -> IssueReference:
    return IssueReference(RepositoryName.parse(name), number)


async def open_pull(client: ForgeClient, branch: str, *, head_owner: str | None = None, draft: bool = False) -> int:
    pull_request = await client.open_pull_request(
        NAME,
        title="Fix the price",
        body="Closes #1.",
        head_branch=branch,
        head_owner=head_owner,
        base_branch="main",
        draft=draft,
    )
    return pull_request.number


async def test_the_token_says_who_muster_is(client: ForgeClient, kind: ForgeKind) -> None:
    facts = await client.token_facts()
    assert (facts.account.login, facts.scopes) == ("muster", None)
    assert facts.forge_version == {"gitea": "1.25.3", "github": "3.19.1"}[kind]


async def test_github_says_the_scopes_of_a_classic_token(forge: ForgeServer, waits: Waits) -> None:
    token = forge.add_token("muster", scopes=("repo", "read:org"))
    client = open_client("github", ForgeAddress.parse(forge.url), token, options=waits.options())
    assert (await client.token_facts()).scopes == ("read:org", "repo")
    await client.close()


async def test_members_are_told_from_others(client: ForgeClient) -> None:
    assert await client.is_org_member("acme", "ana") is True
    assert await client.is_org_member("acme", "eve") is False
    assert await client.is_org_member("acme", "nobody") is False


async def test_a_token_from_outside_of_the_organization_tells_nothing_of_members(
    forge: ForgeServer, kind: ForgeKind, waits: Waits
) -> None:
    outsider = open_client(kind, ForgeAddress.parse(forge.url), forge.add_token("eve"), options=waits.options())
    for login in ("ana", "eve"):
        with pytest.raises(
            MembershipUnknown, match="belongs to an account outside of the organization acme"
        ) as refusal:
            await outsider.is_org_member("acme", login)
        assert refusal.value.status == {"gitea": 303, "github": 302}[kind]
    assert {request.path for request in forge.requests} == {"/orgs/acme/members/ana", "/orgs/acme/members/eve"}
    await outsider.close()


@pytest.mark.parametrize(("status", "why"), [(403, "lacks a permission"), (401, "does not accept"), (200, "address")])
async def test_what_is_neither_yes_nor_no_is_no_membership(
    forge: ForgeServer, client: ForgeClient, status: int, why: str
) -> None:
    forge.faults.answer(status, path="/members/", body=b"{}")
    with pytest.raises(MembershipUnknown, match=why):
        await client.is_org_member("acme", "ana")


@pytest.mark.parametrize("login", ["", ".", ".."])
async def test_a_login_that_would_change_the_path_is_not_asked_about(
    forge: ForgeServer, client: ForgeClient, login: str
) -> None:
    with pytest.raises(ForgeError, match="cannot be part of an address"):
        await client.is_org_member("acme", login)
    assert forge.requests == []


async def test_a_login_with_signs_of_addresses_is_one_part_of_the_path(forge: ForgeServer, client: ForgeClient) -> None:
    assert await client.is_org_member("acme", "../eve?x=1#/%2e") is False
    assert forge.requests[0].query == {}


async def test_a_repository(forge: ForgeServer, client: ForgeClient) -> None:
    forge.protect(SHOP, "main", "release")
    forge.commit(SHOP, "release", {"a": "b"})
    forge.add_webhook(SHOP, "http://127.0.0.1:9/hook", secret="s" * 20)
    facts = await client.repository(RepositoryName("ACME", "Shop"))
    assert (facts.name, facts.default_branch, facts.may_push) == (NAME, "main", True)
    assert facts.clone_url == f"{forge.url}/acme/shop.git"
    assert (facts.is_private, facts.is_fork_of) == (False, None)
    assert await client.protected_branches(NAME) == ("main", "release")
    assert await client.webhooks(NAME) == ("http://127.0.0.1:9/hook",)
    forge.fork(SHOP, "muster")
    assert (await client.repository(RepositoryName("muster", "shop"))).is_fork_of == NAME


async def test_what_does_not_exist_is_missing(client: ForgeClient) -> None:
    with pytest.raises(ForgeMissing, match="does not exist, or the token may not see it") as refusal:
        await client.read_issue(reference(99))
    assert (refusal.value.status, refusal.value.code) == (404, "forge.missing")
    with pytest.raises(ForgeMissing):
        await client.repository(RepositoryName("acme", "other"))


async def test_an_issue_is_read_with_its_labels_and_assignees(forge: ForgeServer, client: ForgeClient) -> None:
    forge.add_user("helper", is_bot=True)
    number = forge.add_issue(
        SHOP, "It fails", body=None, author="eve", labels=("bug", "muster:coder"), assignees=("ana", "helper")
    )
    issue = await client.read_issue(reference(number))
    assert (issue.number, issue.title, issue.body, issue.is_open) == (number, "It fails", "", True)
    assert (issue.author.login, issue.labels) == ("eve", ("bug", "muster:coder"))
    assert [user.login for user in issue.assignees] == ["ana", "helper"]
    assert issue.is_pull_request is False
    assert issue.url.startswith(forge.url)
    if client.kind == "github":
        assert [user.is_bot for user in issue.assignees] == [False, True]


async def test_what_a_deleted_user_wrote_is_a_ghosts(forge: ForgeServer, client: ForgeClient) -> None:
    number = forge.add_issue(SHOP, "It fails", author="eve", assignees=("eve",))
    forge.comment(SHOP, number, "Please.", by="eve")
    forge.delete_user("eve")
    issue = await client.read_issue(reference(number))
    (comment,) = await client.read_comments(reference(number))
    ghost = {"gitea": ForgeUser(-1, "Ghost"), "github": ForgeUser(10137, "ghost")}[client.kind]
    assert (issue.author, issue.assignees, comment.author) == (ghost, (), ghost)


async def test_comments_are_written_and_read(forge: ForgeServer, client: ForgeClient) -> None:
    number = forge.add_issue(SHOP, "It fails", author="eve")
    first = await client.post_comment(reference(number), "I am on it. \N{HOURGLASS} `x`")
    forge.advance(60)
    forge.comment(SHOP, number, "Thanks!", by="ana")
    read = await client.read_comments(reference(number))
    assert [comment.body for comment in read] == ["I am on it. \N{HOURGLASS} `x`", "Thanks!"]
    assert [comment.author.login for comment in read] == ["muster", "ana"]
    assert read[0] == first
    assert await client.read_comments(reference(number), since=first.created_at) == read
    assert await client.read_comments(reference(number), since=first.created_at + timedelta(seconds=1)) == read[1:]
    assert await client.read_comments(reference(number), since=first.created_at + timedelta(hours=1)) == ()
    await client.update_description(reference(number), "What fails: everything.")
    assert (await client.read_issue(reference(number))).body == "What fails: everything."


async def test_changed_and_labelled_issues(forge: ForgeServer, client: ForgeClient) -> None:
    plain = forge.add_issue(SHOP, "Plain", author="eve")
    closed = forge.add_issue(SHOP, "Closed", author="eve", labels=("bug",))
    forge.commit(SHOP, "fix", {"shop.py": "2\n"})
    pull = await open_pull(client, "fix")
    forge.label(SHOP, pull, "muster:coder", by="ana")
    forge.advance(3600)
    labelled = forge.add_issue(SHOP, "Labelled", author="eve", labels=("muster:coder",))
    forge.close_item(SHOP, closed, by="ana")
    assert [issue.number for issue in await client.labelled_issues(NAME)] == [labelled]
    changed = await client.changed_issues(NAME, since=forge.now() - timedelta(minutes=30))
    assert sorted(issue.number for issue in changed) == [closed, labelled]
    everything = await client.changed_issues(NAME, since=forge.now() - timedelta(days=1))
    assert sorted(issue.number for issue in everything) == [plain, closed, pull, labelled]
    assert [issue.updated_at for issue in everything] == sorted(issue.updated_at for issue in everything)
    assert [issue.number for issue in everything if issue.is_pull_request] == [pull]


async def test_lists_are_read_to_their_end(forge: ForgeServer, client: ForgeClient) -> None:
    for number in range(230):
        forge.add_issue(SHOP, f"Issue {number}", author="eve", labels=("bug",))
    assert len(await client.labelled_issues(NAME)) == 230
    assert len(forge.requests) == {"gitea": 5, "github": 8}[client.kind]


async def test_an_issue_that_appears_meanwhile_makes_no_entry_double(forge: ForgeServer, client: ForgeClient) -> None:
    for number in range(230):
        forge.add_issue(SHOP, f"Issue {number}", author="eve")

    def add_ten() -> None:
        for number in range(10):
            forge.add_issue(SHOP, f"Late {number}", author="eve")

    forge.after_next_response(add_ten)
    numbers = [issue.number for issue in await client.changed_issues(NAME, since=forge.now() - timedelta(days=1))]
    assert len(numbers) == len(set(numbers))
    assert set(numbers) >= set(range(1, 231))
    assert forge.requests[1].query["page"] == "2"


async def test_a_forge_that_repeats_pages_is_stopped(forge: ForgeServer, client: ForgeClient) -> None:
    forge.add_issue(SHOP, "It fails", author="eve", labels=("bug",))
    forge.faults.repeats_pages = True
    with pytest.raises(ForgeError, match="repeats a page"):
        await client.labelled_issues(NAME)
    assert len(forge.requests) == 2


async def test_very_long_issues_do_not_hide_the_others(
    forge: ForgeServer, kind: ForgeKind, token: str, waits: Waits
) -> None:
    for number in range(1, 81):
        # Together too large for a page; the fifth alone, too.
        body = "x" * (100_000 if number == 5 else 5_000 if number in (4, 6) else 1)
        forge.add_issue(SHOP, f"Issue {number}", body=body, author="eve", labels=("muster:coder",))
    limits = HttpLimits(response_bytes={"gitea": 90_000, "github": 95_000}[kind])
    client = open_client(kind, ForgeAddress.parse(forge.url), token, options=waits.options(limits))
    issues = await client.labelled_issues(NAME)
    assert sorted(issue.number for issue in issues) == [number for number in range(1, 81) if number != 5]
    assert [told for told in waits.told if "is too large, and was left out" in told] != []
    await client.close()


async def test_a_list_that_never_ends_is_stopped(forge: ForgeServer, kind: ForgeKind, token: str, waits: Waits) -> None:
    for number in range(120):
        forge.add_issue(SHOP, f"Issue {number}", author="eve", labels=("bug",))
    for limits in (HttpLimits(pages=2), HttpLimits(list_bytes=1000)):
        client = open_client(kind, ForgeAddress.parse(forge.url), token, options=waits.options(limits))
        with pytest.raises(ForgeError, match="is too long: Muster reads"):
            await client.labelled_issues(NAME)
        await client.close()


async def test_a_pull_request_from_its_branch_to_its_merge(forge: ForgeServer, client: ForgeClient) -> None:
    assert await client.pull_request_of(NAME, "fix") is None
    sha = forge.commit(SHOP, "fix", {"shop.py": "def price():\n    return 2\n"})
    number = await open_pull(client, "fix", draft=True)
    opened = await client.read_pull_request(reference(number))
    assert (opened.is_open, opened.is_merged, opened.is_draft) == (True, False, True)
    assert (opened.head_repository, opened.head_branch, opened.head_sha) == (NAME, "fix", sha)
    assert (opened.base_branch, opened.author.login, opened.body) == ("main", "muster", "Closes #1.")
    await client.mark_ready(reference(number))
    await client.mark_ready(reference(number))
    ready = await client.pull_request_of(NAME, "fix")
    assert ready is not None
    assert (ready.number, ready.title, ready.is_draft) == (number, "Fix the price", False)
    assert "return 2" in await client.read_diff(reference(number))
    await client.request_review(reference(number), ["ana"])
    assert forge.pull(SHOP, number).reviewers == ["ana"]
    forge.merge(SHOP, number, by="ana")
    merged = await client.read_pull_request(reference(number))
    assert (merged.is_open, merged.is_merged) == (False, True)


async def test_the_newest_pull_request_of_a_branch_counts(forge: ForgeServer, client: ForgeClient) -> None:
    forge.commit(SHOP, "fix", {"a": "1"})
    forge.commit(SHOP, "other", {"a": "2"})
    first = await open_pull(client, "fix")
    forge.close_item(SHOP, first, by="ana")
    await open_pull(client, "other")
    found = await client.pull_request_of(NAME, "fix")
    assert found is not None
    assert (found.number, found.is_open) == (first, False)
    second = await open_pull(client, "fix")
    found = await client.pull_request_of(NAME, "fix")
    assert found is not None
    assert found.number == second
    assert await client.pull_request_of(RepositoryName("ACME", "Shop"), "fix") == found


async def test_a_pull_request_from_our_fork_counts_and_one_from_a_strangers_does_not(
    forge: ForgeServer, client: ForgeClient
) -> None:
    for owner in ("muster", "eve"):
        forge.fork(SHOP, owner)
        forge.commit(f"{owner}/shop", "fix", {"shop.py": f"# {owner}\n"}, by=owner)
    forge.open_pull(SHOP, title="Evil", body="", head="eve:fix", base="main", by="eve")
    assert await client.pull_request_of(NAME, "fix") is None
    forge.faults.ignores_filters = True
    assert await client.pull_request_of(NAME, "fix") is None
    number = await open_pull(client, "fix", head_owner="muster")
    found = await client.pull_request_of(NAME, "fix")
    assert found is not None
    assert (found.number, found.head_repository) == (number, RepositoryName("muster", "shop"))
    forge.delete_repository("muster/shop")
    assert (await client.read_pull_request(reference(number))).head_repository is None


async def test_a_pull_request_that_somebody_else_made_of_our_branch_is_not_ours(
    forge: ForgeServer, client: ForgeClient
) -> None:
    forge.commit(SHOP, "fix", {"a": "1"})
    forge.commit(SHOP, "release", {"b": "1"})
    forge.open_pull(SHOP, title="Evil", body="", head="fix", base="release", by="eve")
    assert await client.pull_request_of(NAME, "fix") is None
    number = await open_pull(client, "fix")
    found = await client.pull_request_of(NAME, "fix")
    assert found is not None
    assert found.number == number


async def test_closed_pull_requests_of_others_are_not_looked_through_on_gitea(
    forge: ForgeServer, token: str, waits: Waits
) -> None:
    client = open_client("gitea", ForgeAddress.parse(forge.url), token, options=waits.options())
    await client.pull_request_of(NAME, "fix")
    queries = [request.query for request in forge.requests if request.path.endswith("/pulls")]
    assert [(query["state"], query.get("poster")) for query in queries] == [("open", None), ("closed", "muster")]
    await client.close()


async def test_a_no_that_github_says_with_status_200_is_a_refusal(forge: ForgeServer, waits: Waits) -> None:
    forge.commit(SHOP, "fix", {"a": "1"})
    number = forge.open_pull(SHOP, title="Fix", body="", head="fix", base="main", draft=True, by="ana").number
    client = open_client("github", ForgeAddress.parse(forge.url), forge.add_token("eve"), options=waits.options())
    with pytest.raises(ForgeRefused, match=r"eve does not have the correct permissions.*Pull requests: write"):
        await client.mark_ready(reference(number))
    assert (await client.read_pull_request(reference(number))).is_draft is True
    await client.close()


async def test_a_second_pull_request_of_a_branch_is_refused(forge: ForgeServer, client: ForgeClient) -> None:
    forge.commit(SHOP, "fix", {"a": "1"})
    await open_pull(client, "fix")
    with pytest.raises(ForgeRefused, match="already exists") as refusal:
        await open_pull(client, "fix")
    assert refusal.value.status == {"gitea": 409, "github": 422}[client.kind]


async def test_checks_show_their_newest_word(forge: ForgeServer, client: ForgeClient) -> None:
    sha = forge.commit(SHOP, "fix", {"a": "1"})
    assert await client.checks(NAME, sha) == ()
    forge.add_status(SHOP, sha, "ci/test", "pending")
    forge.add_status(SHOP, sha, "ci/test", "failure", description="2 failed", target_url="https://ci.example/7")
    forge.add_status(SHOP, sha, "ci/lint", "success", target_url="javascript:alert(1)")
    forge.add_status(SHOP, sha, "ci/away", "error")
    for state in ("queued", "neutral", "timed_out"):
        forge.add_check_run(SHOP, sha, f"run/{state}", state)
    found = {check.name: check for check in await client.checks(NAME, sha)}
    assert {name: check.state for name, check in found.items() if name.startswith("ci/")} == {
        "ci/away": CheckState.FAILURE,
        "ci/lint": CheckState.SUCCESS,
        "ci/test": CheckState.FAILURE,
    }
    assert (found["ci/test"].description, found["ci/test"].url) == ("2 failed", "https://ci.example/7")
    assert found["ci/lint"].url == ""
    if client.kind == "github":
        assert [found[f"run/{state}"].state for state in ("queued", "neutral", "timed_out")] == [
            CheckState.PENDING,
            CheckState.SUCCESS,
            CheckState.FAILURE,
        ]


async def test_submitted_reviews_are_read(forge: ForgeServer, client: ForgeClient) -> None:
    forge.commit(SHOP, "fix", {"shop.py": "2\n"})
    number = await open_pull(client, "fix")
    forge.add_user("gone")
    forge.review(SHOP, number, "Say why.", by="ana", state="REQUEST_CHANGES")
    forge.review(SHOP, number, "Not yet said.", by="ana", state="PENDING")
    forge.review(SHOP, number, "", by="gone", state="APPROVED")
    for count in range(60):
        forge.review(SHOP, number, f"{count}", by="ana")
    forge.delete_user("gone")
    first, second, *others = await client.read_reviews(reference(number))
    assert (first.author.login, first.body, first.verdict) == ("ana", "Say why.", ReviewVerdict.CHANGES)
    assert (second.author.login.lower(), second.verdict) == ("ghost", ReviewVerdict.APPROVED)
    assert [each.body for each in others] == [f"{count}" for count in range(60)]
    with pytest.raises(ForgeMissing):
        await client.read_reviews(reference(99))


async def test_comments_on_lines_are_read_with_their_place(forge: ForgeServer, client: ForgeClient) -> None:
    forge.commit(SHOP, "fix", {"shop.py": "def price():\n    return 2\n"})
    number = await open_pull(client, "fix")
    forge.add_user("gone")
    lines = [("shop.py", 2, "Why two?"), ("shop.py", 1, "Name it better.")]
    first = forge.review(SHOP, number, "", by="ana", lines=lines)
    second = forge.review(SHOP, number, "See below.", by="gone", lines=[("shop.py", 1, "Keep it.")], is_old=True)
    forge.review(SHOP, number, "", by="ana", state="PENDING", lines=[("shop.py", 1, "A draft.")])
    for _ in range(35):
        forge.review(SHOP, number, "", by="ana", lines=[("shop.py", 1, "More.")])
    forge.delete_user("gone")
    reviews = await client.read_reviews(reference(number))
    assert [each.line_comments for each in reviews[:2]] == {"gitea": [2, 1], "github": [None, None]}[client.kind]
    found = await client.read_line_comments(reference(number), {first.id, second.id, 999_999})
    assert [each.body for each in found] == ["Why two?", "Name it better.", "Keep it."]
    why, _, keep = found
    assert why.place is not None
    assert keep.place is not None
    assert (why.place.path, why.place.line, why.place.is_old) == ("shop.py", 2, False)
    assert why.place.hunk.startswith("@@ ")
    assert why.place.hunk.endswith("\n+    return 2")
    assert (keep.place.line, keep.place.is_old) == (1, True)
    assert keep.author.login.lower() == "ghost"
    everything = await client.read_line_comments(reference(number), {each.id for each in reviews})
    assert len(everything) == 38
    forge.commit(SHOP, "fix", {"shop.py": "def price():\n    return 3\n"})
    assert await client.read_line_comments(reference(number), {first.id, second.id}) == found
    before = len(forge.requests)
    assert await client.read_line_comments(reference(number), set()) == ()
    assert len(forge.requests) == before


async def test_whether_a_pull_request_can_be_merged(forge: ForgeServer, client: ForgeClient) -> None:
    forge.commit(SHOP, "fix", {"shop.py": "2\n"})
    number = await open_pull(client, "fix")
    assert (await client.read_pull_request(reference(number))).merge is MergeState.READY
    forge.commit(SHOP, "main", {"shop.py": "3\n"})
    assert (await client.read_pull_request(reference(number))).merge is MergeState.CONFLICT
    forge.pull(SHOP, number).is_checked = False
    # Gitea says no before it has looked.
    before_it_looked = {"gitea": MergeState.CONFLICT, "github": MergeState.UNKNOWN}[client.kind]
    assert (await client.read_pull_request(reference(number))).merge is before_it_looked
    forge.commit(SHOP, "draft", {"other.py": "2\n"})
    draft = await open_pull(client, "draft", draft=True)
    expected = {"gitea": MergeState.UNKNOWN, "github": MergeState.READY}[client.kind]
    assert (await client.read_pull_request(reference(draft))).merge is expected


async def test_labels_of_repository_and_organization(forge: ForgeServer, client: ForgeClient, kind: ForgeKind) -> None:
    forge.repository(SHOP).labels.extend(f"muster:{count}" for count in range(60))
    organization = forge.account(NAME.owner)
    assert organization is not None
    organization.labels.append("of all")
    labels = await client.labels(NAME)
    assert labels[:60] == tuple(f"muster:{count}" for count in range(60))
    # GitHub has none for a whole organization.
    assert ("of all" in labels) == (kind == "gitea" and organization.is_org)


async def test_a_long_diff_is_cut_and_says_so(forge: ForgeServer, kind: ForgeKind, token: str, waits: Waits) -> None:
    forge.commit(SHOP, "fix", {"long.txt": "a line of the file\n" * 1000})
    limits = HttpLimits(diff_bytes=1000)
    client = open_client(kind, ForgeAddress.parse(forge.url), token, options=waits.options(limits))
    diff = await client.read_diff(reference(await open_pull(client, "fix")))
    assert len(diff) < 1100
    assert diff.splitlines()[-2:] == ["+a line of the file", "[Cut after 1,000 bytes. Read the rest with git.]"]
    await client.close()


async def test_a_scope_that_the_token_lacks_is_named(forge: ForgeServer, kind: ForgeKind, waits: Waits) -> None:
    number = forge.add_issue(SHOP, "It fails", author="eve")
    poor = forge.add_token("muster", scopes=("read:issue", "read:user"))
    client = open_client(kind, ForgeAddress.parse(forge.url), poor, options=waits.options())
    with pytest.raises(ForgeRefused, match="write:issue" if kind == "gitea" else "The token needs: repo") as refusal:
        await client.post_comment(reference(number), "Hello.")
    assert refusal.value.status == 403
    assert forge.item(SHOP, number).remarks == []
    await client.close()


async def test_the_token_is_in_one_header_and_nowhere_else(
    forge: ForgeServer, client: ForgeClient, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    number = forge.add_issue(SHOP, "It fails", author="eve")
    forge.faults.answer(418, path="/issues", body=f'{{"message": "you sent {token}"}}'.encode())
    with pytest.raises(ForgeRefused) as refusal:
        await client.read_issue(reference(number))
    assert "you sent ****" in refusal.value.body
    seen = f"{refusal.value}{refusal.value.body}{client!r}{vars(client)!r}{caplog.text}"
    for request in forge.requests:
        seen += f"{request.path}{request.query}"
        assert token in request.headers["Authorization"]
        seen += str([value for name, value in request.headers.items() if name != "Authorization"])
    assert token not in seen


async def test_a_revoked_token_is_named(forge: ForgeServer, client: ForgeClient) -> None:
    await client.token_facts()
    forge.revoke_tokens()
    with pytest.raises(ForgeRefused, match="does not accept the token: it expired, was revoked") as refusal:
        await client.token_facts()
    assert refusal.value.status == 401


async def test_a_forge_below_a_path_is_reached(kind: ForgeKind, waits: Waits) -> None:
    async with ForgeServer(prefix="/gitea") as server:
        server.add_org("acme", members=("ana", "muster"))
        server.add_repository(SHOP)
        number = server.add_issue(SHOP, "It fails", author="ana")
        address = ForgeAddress.parse(f"{server.url}/")
        client = open_client(kind, address, server.add_token("muster"), options=waits.options())
        assert (await client.read_issue(reference(number))).url.startswith(f"{server.url}/acme/shop/issues/")
        assert (await client.repository(NAME)).clone_url == f"{server.url}/acme/shop.git"
        await client.close()


async def test_failures_of_reads_are_retried_and_told(forge: ForgeServer, client: ForgeClient, waits: Waits) -> None:
    number = forge.add_issue(SHOP, "It fails", author="eve")
    forge.faults.drop(times=2)  # aiohttp itself asks once more
    forge.faults.answer(502)
    forge.faults.truncate()
    assert (await client.read_issue(reference(number))).title == "It fails"
    assert waits.seconds == [1.0, 2.0, 4.0]
    assert "cannot be reached" in waits.told[0]
    assert "failed at GET /repos/acme/shop/issues/1 (502)" in waits.told[1]


async def test_a_forge_that_stays_away_is_said_to_be(forge: ForgeServer, client: ForgeClient, waits: Waits) -> None:
    forge.faults.answer(503, times=None)
    with pytest.raises(ForgeAway, match=r"failed at GET /user \(503\)\. It says: 'internal error'") as away:
        await client.token_facts()
    assert (len(forge.requests), len(waits.seconds), away.value.retry_after) == (4, 3, None)


async def test_a_write_is_never_repeated(forge: ForgeServer, client: ForgeClient, waits: Waits) -> None:
    number = forge.add_issue(SHOP, "It fails", author="eve")
    for fault in ("500", "429", "drop", "lost"):
        match fault:
            case "500":
                forge.faults.answer(500, method="POST")
            case "429":
                forge.faults.limit_requests(7, path="/comments")
            case "drop":
                forge.faults.drop(method="POST")
            case "lost":
                forge.faults.lose_response(method="POST")
        forge.requests.clear()
        with pytest.raises(ForgeAway) as away:
            await client.post_comment(reference(number), fault)
        assert len(forge.requests) == 1
        assert (away.value.retry_after == 7) is (fault == "429")
        assert ("Nobody knows whether it was done" in str(away.value)) is (fault != "429")
    assert waits.seconds == []
    assert [remark.body for remark in forge.item(SHOP, number).remarks] == ["lost"]


async def test_a_rate_limit_is_waited_for_and_told(forge: ForgeServer, client: ForgeClient, waits: Waits) -> None:
    forge.faults.limit_requests(30, times=2)
    assert (await client.token_facts()).account.login == "muster"
    assert waits.seconds == [30.0, 30.0]
    assert waits.told[0].startswith(f"The forge {ForgeAddress.parse(forge.url).host} limits requests (429)")


async def test_a_long_rate_limit_is_the_callers_to_wait_for(
    forge: ForgeServer, client: ForgeClient, waits: Waits
) -> None:
    forge.faults.limit_requests(3600)
    with pytest.raises(ForgeAway) as away:
        await client.token_facts()
    assert (away.value.retry_after, waits.seconds) == (3600.0, [])


async def test_a_used_up_rate_limit_of_github_is_no_refusal(
    forge: ForgeServer, client: ForgeClient, waits: Waits
) -> None:
    reset = str(int(time.time()) + 20)
    forge.faults.answer(403, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset})
    assert (await client.token_facts()).account.login == "muster"
    assert len(waits.seconds) == 1


async def test_a_forge_that_hangs_is_given_up(forge: ForgeServer, kind: ForgeKind, token: str, waits: Waits) -> None:
    limits = HttpLimits(request_s=0.05, attempts=2)
    client = open_client(kind, ForgeAddress.parse(forge.url), token, options=waits.options(limits))
    forge.faults.hang(times=None)
    with pytest.raises(ForgeAway, match="did not respond to GET /user within"):
        await client.token_facts()
    await client.close()


async def test_nobody_listening_is_said_and_no_proxy_of_the_environment_asked(kind: ForgeKind, waits: Waits) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = open_client(kind, ForgeAddress.parse(f"http://127.0.0.1:{port}"), "t0ken", options=waits.options())
    with pytest.raises(ForgeAway, match=f"127.0.0.1:{port} cannot be reached for GET /user: .*{port}"):
        await client.token_facts()
    await client.close()


async def test_what_is_no_json_is_shown_without_control_characters(forge: ForgeServer, client: ForgeClient) -> None:
    forge.faults.garbage()
    with pytest.raises(ForgeError, match=r"gave no JSON to GET /user.*The proxy is confused") as error:
        await client.token_facts()
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"id": 1}', "login: is missing"),
        (b'{"id": "x\\u001b[2J", "login": "muster"}', r"id: found 'x\\x1b\[2J'; expected a whole number"),
        (b"[]", "the whole: found a list; expected keys with values"),
        (b"[" * 100_000, "no JSON"),
    ],
)
async def test_json_with_something_else_in_it_is_said(
    forge: ForgeServer, client: ForgeClient, body: bytes, said: str
) -> None:
    forge.faults.garbage(body=body)
    with pytest.raises(ForgeError, match=said):
        await client.token_facts()


async def test_a_response_that_is_too_large_is_not_read(
    forge: ForgeServer, kind: ForgeKind, token: str, waits: Waits
) -> None:
    limits = HttpLimits(response_bytes=10_000)
    client = open_client(kind, ForgeAddress.parse(forge.url), token, options=waits.options(limits))
    number = forge.add_issue(SHOP, "It fails", body="x" * 20_000, author="eve")
    with pytest.raises(ForgeError, match="gave more than 10,000 bytes"):
        await client.read_issue(reference(number))
    await client.close()


async def test_a_redirect_is_not_followed(forge: ForgeServer, client: ForgeClient) -> None:
    forge.faults.answer(307, headers={"Location": f"{forge.url}/api/v1/version"})
    with pytest.raises(ForgeRefused, match="Muster follows no redirect"):
        await client.repository(NAME)
    assert len(forge.requests) == 1


async def test_a_compressed_response_is_refused(forge: ForgeServer, client: ForgeClient) -> None:
    forge.faults.answer(200, headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b")
    with pytest.raises(ForgeError, match="compressed its response"):
        await client.token_facts()
    assert forge.requests[0].headers["Accept-Encoding"] == "identity"


async def test_a_closed_client_says_so(client: ForgeClient) -> None:
    await client.token_facts()
    await client.close()
    with pytest.raises(ForgeError, match="are closed"):
        await client.token_facts()


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Evil: 1", "t\N{LATIN SMALL LETTER O WITH STROKE}ken"])
def test_what_cannot_be_a_token_is_refused_without_being_repeated(kind: ForgeKind, token: str) -> None:
    with pytest.raises(ForgeError, match="token is empty, or has") as error:
        open_client(kind, ForgeAddress.parse("https://forge.example"), token)
    assert token == "" or token not in str(error.value)


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    kind: ForgeKind, waits: Waits, tmp_path: Path
) -> None:
    async with self_signed_server(tmp_path) as port:
        address = ForgeAddress.parse(f"https://localhost:{port}")
        client = open_client(kind, address, "t0ken", options=waits.options())
        with pytest.raises(ForgeError, match=r"certificate of localhost:.* cannot be verified: self-signed"):
            await client.token_facts()
        await client.close()
    assert waits.seconds == []


@asynccontextmanager
async def self_signed_server(folder: Path) -> AsyncIterator[int]:
    """Listen with a certificate that no authority signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "certificate", folder / "key")
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_an_authority_that_an_operator_names_vouches_for_the_forge(
    kind: ForgeKind, waits: Waits, tmp_path: Path
) -> None:
    tls, ca_file = certified(tmp_path)
    async with ForgeServer(tls=tls) as server:
        address, token = ForgeAddress.parse(server.url), server.add_token("muster")
        client = open_client(kind, address, token, ca_file=ca_file, options=waits.options())
        assert (await client.token_facts()).account.login == "muster"
        await client.close()
        stranger = open_client(kind, address, token, options=waits.options())
        with pytest.raises(ForgeError, match=r"cannot be verified: .*`forge: ca_file`"):
            await stranger.token_facts()
        await stranger.close()


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_file_that_names_no_authority_is_refused_before_anything_is_sent(
    kind: ForgeKind, tmp_path: Path, content: str | None
) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    with pytest.raises(ForgeError, match=r"ca\.pem cannot be used: .*`forge: ca_file`") as refused:
        open_client(kind, ForgeAddress.parse("https://forge.example"), "t0ken", ca_file=ca_file)
    assert refused.value.code == "forge.bad_ca_file"


async def test_a_fork_is_made_once_and_found_when_it_is_there(forge: ForgeServer, client: ForgeClient) -> None:
    assert await forks.find(client, NAME, "muster") is None
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(ForgeAway):
                made = await forks.ensure(client, NAME, "muster")
                break
    assert str(made) == "muster/shop"
    assert forge.repository("muster/shop").parent == SHOP
    asked = [each for each in forge.requests if each.method == "POST"]
    assert await forks.ensure(client, NAME, "muster") == made
    assert [each for each in forge.requests if each.method == "POST"] == asked


async def test_what_only_has_the_name_of_a_fork_is_refused(forge: ForgeServer, client: ForgeClient) -> None:
    forge.add_repository("muster/shop")
    for look in (forks.find, forks.ensure):
        with pytest.raises(forks.ForkUnusable, match="muster/shop is no fork of acme/shop"):
            await look(client, NAME, "muster")
    assert all(each.method == "GET" for each in forge.requests)
