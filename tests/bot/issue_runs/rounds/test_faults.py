"""What goes wrong between an agent's commits and the forge: what the operator sees, and how it goes on."""

from __future__ import annotations

from pathlib import Path

from database.queries.forge.issue_runs import IssueRun
from tests.bot.issue_runs.forge_house import RUN, SHOP, ForgeHouse, forge_house
from tests.bot.orchestrator import ROOM

SECRET = "ghp_" + "Zx9" * 12
PRICE = "[[commit: shop.py def price(): return 2]] [[say: done]]"
MENDED = f"[[run: git reset -q --hard origin/main]] {PRICE}"
_COMMIT = "git add -A && git commit -qm Work"
#: What agents do, and what is said about it.
WRONG = {
    "a secret": (f"[[commit: key {SECRET}]] [[say: done]]", "looks like a secret"),
    "a workflow": (
        f"[[run: mkdir -p .gitea/workflows && echo 'on: push' > .gitea/workflows/x.yml && {_COMMIT}]] [[say: done]]",
        ".gitea/workflows/x.yml is protected",
    ),
    "a large file": (f"[[run: truncate -s 200M film && {_COMMIT}]] [[say: done]]", "film has 209.7 MB"),
    "nothing": ("[[say: I would not know]]", "committed nothing"),
}


def is_over(run: IssueRun) -> bool:
    return run.state in ("frozen", "failed")


def ask_for(world: ForgeHouse, title: str, body: str) -> int:
    """Open an issue that is picked up."""
    labels = ("muster:coder",)
    return world.forge.add_issue(SHOP, title, body=body, author="ana", labels=labels, assignees=("ana",))


async def test_what_may_not_be_pushed_is_told_and_mended_while_others_go_on(tmp_path: Path) -> None:
    async with forge_house(tmp_path) as world:
        world.speak_in_room()
        file = world.home.paths.muster_yaml
        file.write_text(file.read_text().replace("mode: poll", "mode: poll\n  runs: 6"))
        fine = [ask_for(world, f"Add {name}", f"[[commit: {name} {name}]] [[say: done]]") for name in ("one", "two")]
        wrong = {ask_for(world, f"Write {title}", body): said for title, (body, said) in WRONG.items()}
        async with world.home.open():
            for number in fine:
                assert (await world.until_of(number, is_over)).state == "frozen"
            for number, said in wrong.items():
                run = await world.until_of(number, is_over)
                assert (run.state, run.pushed_sha) == ("failed", None), run
                asked = await world.home.heard(await world.home.opened_by(run.thread_key), said)
                assert "🛑" in asked
                shown = await world.home.ask(f"!runs {run.id}")
                assert "failed" in shown
                assert said in shown
                assert SECRET not in asked + shown
            # Both are on the base, and nothing of what is wrong is at the forge.
            assert {pull.head_branch.partition("/")[2] for _, pull in world.pulls()} == {
                f"issue-{number}-add-{name}" for number, name in zip(fine, ("one", "two"), strict=True)
            }
            git = world.forge.repository(SHOP).git
            assert len([ref for ref in git.refs() if ref.startswith("refs/heads/")]) == 3
            assert all(git.is_mergeable(pull.base_sha, pull.head_sha) for _, pull in world.pulls())

            for number in wrong:
                world.forge.comment(SHOP, number, MENDED, by="ana")
            for number in wrong:
                run = await world.until_of(number, lambda run: run.round == 2 and is_over(run))
                assert run.state == "frozen", run
                assert git.run("diff", "--name-only", "main", str(run.pushed_sha)) == "shop.py"


async def test_what_the_forge_does_not_take_is_told_and_goes_on(world: ForgeHouse) -> None:
    git = world.forge.repository(SHOP).git
    world.speak_in_room()

    async def is_told(number: int, words: str) -> None:
        failed = await world.settled(number)
        assert failed.state == "failed", failed
        assert words in await world.home.heard(await world.thread(), words)
        assert words in await world.home.ask(f"!runs {RUN}")

    async with world.home.open():
        git.decline_pushes("Robots do not push on Mondays.")
        await world.queue(PRICE)
        await is_told(1, "Robots do not push on Mondays.")
        git.decline_pushes(None)

        # No quota left, as a proxy or the forge's storage says it.
        world.forge.faults.answer(413, path="/git-receive-pack$", method="POST")
        await world.home.ask(f"!runs retry {RUN}")
        await is_told(2, "HTTP 413")
        assert await world.work(2) is None

        # From now on, the token counts for nothing.
        world.forge.revoke_tokens()
        await world.home.ask(f"!runs retry {RUN}")
        await world.home.heard(await world.thread(), "does not accept the token")
        await world.home.heard(ROOM, "does not accept the token")
        assert "does not accept the token" in await world.home.ask(f"!runs {RUN}")
        assert (await world.run()).state == "checking"
        for token in world.forge.tokens.values():
            token.is_revoked = False
        assert "is tried again" in await world.home.ask(f"!runs retry {RUN}")
        pushed = await world.settled(3)
        assert pushed.state == "frozen", pushed

        # Somebody else commits to the branch.
        theirs = world.forge.commit(SHOP, str(pushed.branch), {"note": "Mine."})
        await world.wake_by("[[commit: more.txt more]] [[say: two]]")
        await is_told(4, f"set {pushed.branch} back to {str(pushed.pushed_sha)[:12]}")
        assert git.sha(f"refs/heads/{pushed.branch}") == theirs
        git.run("branch", "kept", theirs)
        git.run("branch", "--force", str(pushed.branch), str(pushed.pushed_sha))
        await world.home.ask(f"!runs retry {RUN}")
        again = await world.settled(5)
        assert again.state == "frozen", again
        assert "+more" in world.changed()
        assert len(world.pulls()) == 1
