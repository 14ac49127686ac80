"""The commands `projects` and `topics`: what there is, and how it stands."""

from __future__ import annotations

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.config.projects import profile_of
from bot.projects import capacity, view
from bot.projects.opening import ALIVE, limits_of
from bot.projects.services import ProjectServices
from bot.projects.text import KEPT, kept_note
from bot.projects.view import ProjectUse
from bot.text.errors import UserError
from budget.windows.calendar_days import midnight
from core.validation_errors import suggestion
from database.queries.chat import topics
from database.queries.spending import usage_queries

#: Topics that ended, which `topics --all` lists.
_ENDED = 20


async def list_projects(ctx: Context[ProjectServices]) -> Reply:
    """Show all projects."""
    services = ctx.services
    known = services.settings.projects
    since = midnight(services.clock(), services.settings.timezone)
    async with services.store.read() as tx:
        alive = await topics.in_states(tx, ALIVE)
        asked = [(f"profile:{profile_of(name)}", since) for name in known]
        used = await usage_queries.used_many(tx, asked) if services.egress_client is not None else []
    uses = [
        ProjectUse(
            name=name,
            project=project,
            running=sum(each.project == name and each.state in capacity.RUNNING for each in alive),
            waiting=sum(each.project == name and each.state in ("waiting", "waking") for each in alive),
            idle=sum(each.project == name and each.state == "idle" for each in alive),
            tokens_today=used[at].tokens if at < len(used) else None,
        )
        for at, (name, project) in enumerate(known.items())
    ]
    return Reply(view.projects_text(uses), [view.project_as_json(each) for each in uses])


async def list_topics(ctx: Context[ProjectServices], project: str | None, *, all: bool) -> Reply:
    """Show the topics, those of one project or of all."""
    services = ctx.services
    known = services.settings.projects
    if project is not None and project not in known:
        raise UserError(
            f"No project is called {project[:40]!r}.{suggestion(project, list(known))}", code="project.unknown"
        )
    async with services.store.read() as tx:
        everyone = await topics.in_states(tx, ALIVE)
        kept = await topics.ended_as(tx, KEPT, project=project)
        over = await topics.ended(tx, project=project, limit=_ENDED) if all else []
    if all:
        listed = {each.id for each in over}
        over = [*over, *(each for each in kept if each.id not in listed)]
    shown = [each for each in everyone if project in (None, each.project)]
    limits, now = limits_of(services), services.clock()
    places = {each.id: capacity.place_in_line(everyone, limits, each) for each in shown}
    data = [view.topic_as_json(each, places.get(each.id), services.timestamp) for each in [*shown, *over]]
    text = view.topics_text([*shown, *over], places, now)
    if kept:
        text += f"\n\n{kept_note([each.agent for each in kept])}"
    return Reply(text, data)
