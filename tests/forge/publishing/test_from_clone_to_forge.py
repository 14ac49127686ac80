"""The way of an agent's commits to the forge, as a run goes it."""

from __future__ import annotations

from forge.publishing import branch_names, push
from forge.publishing.branch_review import review
from forge.publishing.push import PushTarget
from forge.publishing.remote_answers import PushOutcome
from forge.publishing.rules import PublishingRules
from tests.forge.publishing.stage import AGENT, SCAN, Stage

RULES = PublishingRules(identity=AGENT, issue=17)
TITLE = "Crash in `parse()` — urgent!"


def published(stage: Stage, last: dict[str, str]) -> tuple[str, PushOutcome]:
    """Publish what the agent has; `last` are the commits that Muster pushed, by branch."""
    remote = stage.remote()
    with stage.incoming() as branch:
        looked = review(branch, RULES, SCAN)
        taken = push.remote_branches(branch, remote, 17)
        name = branch_names.chosen(17, TITLE, taken=taken, ours=lambda commit: commit in (*last.values(), branch.tip))
        assert name is not None
        target = PushTarget(remote=remote, branch=name, last_pushed=last.get(name), default_branch="main")
        result = push.push(branch, looked, target)
        last[name] = result.sha
        return name, result.outcome


def test_the_first_attempt_and_one_after_a_review(stage: Stage) -> None:
    last: dict[str, str] = {}
    first = stage.commits("echo 'def parse(): ...' > parse.py", "Fix the crash.\n\nFixes #17")
    assert published(stage, last) == ("muster/issue-17-crash-in-parse-urgent", PushOutcome.PUSHED)
    assert stage.forge_commit("muster/issue-17-crash-in-parse-urgent") == first
    second = stage.commits("echo 'def parse(): return 1' > parse.py", "Return something.")
    assert published(stage, last) == ("muster/issue-17-crash-in-parse-urgent", PushOutcome.PUSHED)
    assert stage.forge_commit("muster/issue-17-crash-in-parse-urgent") == second
    # Muster was killed before it wrote down the last push.
    assert published(stage, {}) == ("muster/issue-17-crash-in-parse-urgent", PushOutcome.UNCHANGED)


def test_a_branch_of_a_person_with_that_name_stays_as_it_is(stage: Stage) -> None:
    name = "muster/issue-17-crash-in-parse-urgent"
    stage.ground.git("push", "--quiet", str(stage.at_forge), f"main:refs/heads/{name}")
    stage.commits("echo x > parse.py")
    assert published(stage, {}) == (f"{name}-2", PushOutcome.PUSHED)
    assert stage.forge_commit(name) == stage.base


def test_the_mirror_has_nothing_of_the_agents(stage: Stage) -> None:
    commit = stage.commits("echo x > parse.py")
    published(stage, {})
    listed = stage.ground.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", cwd=stage.mirror.place)
    assert commit not in listed.split()
    assert [path for path in (stage.folder / "state" / "incoming").iterdir() if not path.name.startswith(".")] == []
