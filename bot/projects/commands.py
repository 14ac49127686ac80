"""Commands of the section *projects*: projects, and the topics in which agents work on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bot.auth.permission import ADMIN, OPERATOR, VIEWER
from bot.commands.argument_types import AgentName, ProjectName, RoleName, RuntimeName, SandboxName
from bot.commands.registry import Reply, command
from bot.commands.syntax import command_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from bot.commands.context import Context
    from bot.projects.services import ProjectServices


@command("projects", permission=VIEWER, help_section="projects", audited=False, effects=False)
async def projects(ctx: Context[ProjectServices]) -> Reply:
    """Show the projects, where their rooms are, and how many topics of each run and wait."""
    from bot.projects.listing import list_projects

    return await list_projects(ctx)


@command("project add", permission=ADMIN, help_section="projects")
async def project_add(
    ctx: Context[ProjectServices],
    name: ProjectName,
    *,
    repo: str,
    room: str | None = None,
    role: RoleName | None = None,
    runtime: RuntimeName | None = None,
    sandbox: SandboxName | None = None,
    approvals: str | None = None,
    budget: str | None = None,
) -> Reply:
    """Add a project to muster.yaml. Plain words in its room open a topic: a thread with an agent of its own.

    Without a room of its own, @NAME and words open a topic in any room of the fleet.

    Args:
        name: the project's name: lower-case letters, digits and dashes, at most 24.
        repo: the folder of its git repository, or a URL, which is cloned into a folder below ~/muster.
        room: its own room, as CONNECTOR:ROOM; here for the room of this command; or new, which makes one where the
            chat system can.
        role: the role of its agents. Default: coder.
        runtime: the runtime of its agents.
        sandbox: the sandbox profile of its agents.
        approvals: the preset of approval rules for its agents.
        budget: what its topics may use together: 2M, 2M/day, or 20usd/month.
    """
    from bot.projects.changes import add_project

    entry = {"role": role, "runtime": runtime, "sandbox": sandbox, "approvals": approvals}
    return await add_project(ctx, name, repo=repo, room=room, budget=budget, entry=entry)


async def _can_be_removed(services: ProjectServices, arguments: Mapping[str, Any]) -> None:
    from bot.projects.changes import check_removal

    await check_removal(services, arguments["name"])


@command(
    "project remove",
    permission=ADMIN,
    help_section="projects",
    confirm=True,
    undo=f"{command_line('project add')} adds it again.",
    check=_can_be_removed,
)
async def project_remove(ctx: Context[ProjectServices], name: ProjectName) -> Reply:
    """Remove a project from muster.yaml. Its repository, its branches and its room stay.

    Args:
        name: the project.
    """
    from bot.projects.changes import remove_project

    return await remove_project(ctx, name)


@command("topics", permission=VIEWER, help_section="projects", audited=False, effects=False)
async def topics(ctx: Context[ProjectServices], project: ProjectName | None = None, *, all: bool = False) -> Reply:
    """Show the topics: what each is about, and whether it runs, waits or is idle.

    Args:
        project: only those of this project.
        all: include the topics that ended last.
    """
    from bot.projects.listing import list_topics

    return await list_topics(ctx, project, all=all)


@command("done", permission=OPERATOR, help_section="projects")
async def done(
    ctx: Context[ProjectServices],
    topic: AgentName | None = None,
    *,
    how: Literal["merge", "keep", "discard"] | None = None,
) -> Reply:
    """End a topic. Muster asks whether to merge its branch, keep it, or discard the work.

    Args:
        topic: the name of its agent, such as web-3. In the topic's thread it can be left out.
        how: merge, keep or discard, without being asked.
    """
    from bot.projects.changes import end_topic

    return await end_topic(ctx, topic, how=how)


@command("topic close", permission=OPERATOR, help_section="projects")
async def topic_close(ctx: Context[ProjectServices], topic: AgentName | None = None) -> Reply:
    """End a topic and keep its branch. A topic that has not begun is taken back.

    Args:
        topic: the name of its agent, such as web-3. In the topic's thread it can be left out.
    """
    from bot.projects.changes import close_topic

    return await close_topic(ctx, topic)
