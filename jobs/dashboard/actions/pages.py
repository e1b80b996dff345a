"""The dialogs of actions: a question, then what came of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from jobs.account.action_log import ActionLog
from jobs.dashboard.actions import account, batch, rerun
from jobs.dashboard.actions.question import REFUSED, Action, Asked, Question
from jobs.dashboard.gallery.files import batch_folder
from jobs.dashboard.index.filters import Filter
from jobs.dashboard.index.indexes import Indexes
from jobs.dashboard.pages import Dashboard, render
from jobs.dashboard.security import session_name
from jobs.errors import BatchError
from jobs.operations.operations import Operations

logger = logging.getLogger(__name__)

CHANGED = "Somebody else has changed this meanwhile, and nothing was done. This is how it is now:"
INCOMPLETE = "The batch's folder is still being read: this is about the prompts that were found so far."

ACTIONS: Mapping[str, Mapping[str, Action]] = {
    "account": account.ACTIONS,
    "batch": {**batch.ACTIONS, **rerun.ACTIONS},
}


async def ask(request: Request) -> Response:
    """Answer with the question of an action."""
    action, asked = await _read(request)
    try:
        question = await action.ask(asked)
    except (BatchError, RedisError) as error:
        question = Question("This cannot be done now", (str(error),))
    return _dialog(request, asked, question)


async def act(request: Request) -> Response:
    """Do an action whose question was answered, and say what came of it."""
    action, asked = await _read(request)
    try:
        question = await action.ask(asked)
        if not question.button:
            return _dialog(request, asked, replace(question, title="Nothing was done"))
        if asked.values.get("mark", question.mark) != question.mark:
            return _dialog(request, replace(asked, values={}), question, CHANGED)
        if question.needs_word and asked.values.get("word", "").strip() != asked.batch:
            return _dialog(request, asked, question, f"Type {asked.batch} to go on; nothing was done.")
        outcome = await action.act(asked)
    except (BatchError, RedisError) as error:
        return _dialog(request, asked, Question("Nothing was done", (str(error),)))
    dashboard: Dashboard = request.app.state.dashboard
    name = request.path_params["name"]
    logger.info("%s %s: %s", name, asked.batch, outcome)
    log = ActionLog(dashboard.redis, dashboard.config.api_host)
    try:
        await log.record(session_name(request), name, asked.batch, outcome)
    except RedisError as error:
        outcome += f" The log of actions does not have it: {error}"
    return _dialog(request, asked, Question("Done", (outcome,)))


async def _read(request: Request) -> tuple[Action, Asked]:
    dashboard: Dashboard = request.app.state.dashboard
    name = request.path_params.get("batch", "")
    action = ACTIONS["batch" if name else "account"].get(request.path_params["name"])
    if action is None:
        raise HTTPException(404, "There is no such action.")
    asked = Asked(Operations(dashboard.config, dashboard.redis), name, Filter.read(request.query_params), None, {})
    if name:
        await batch_folder(dashboard, name)
        asked = await _with_prompts(request.app.state.indexes, asked, is_retry=request.path_params["name"] == "retry")
    form = await request.form(max_fields=20, max_files=0) if request.method == "POST" else {}
    values = {key: str(value) for key, value in form.items()}
    return action, replace(asked, values=values)


async def _with_prompts(known: Indexes, asked: Asked, *, is_retry: bool) -> Asked:
    """The action with what the batch's index knows of the prompts that it is for."""
    chosen = asked.chosen
    if not chosen and not is_retry:
        return asked
    async with known.use(asked.batch) as opened:
        indexes = frozenset(await asyncio.to_thread(opened.store.positions, chosen)) if chosen else None
        counts = chosen.kind == ""
        refused = await asyncio.to_thread(opened.store.count, replace(chosen, kind=REFUSED)) if counts else 0
        return replace(asked, indexes=indexes, refused=refused, is_whole=opened.is_whole)


def _dialog(request: Request, asked: Asked, question: Question, problem: str = "") -> Response:
    name, query = request.path_params["name"], asked.chosen.query
    base = f"/batches/{quote(asked.batch)}" if asked.batch else ""
    url = f"{base}/actions/{name}" + (f"?{query}" if query else "")
    if not asked.is_whole:
        question = replace(question, sentences=(INCOMPLETE, *question.sentences))
    values = {field.name: asked.values.get(field.name, field.value) for field in question.fields}
    html = render("question.html", question=question, url=url, batch=asked.batch, problem=problem, values=values)
    return HTMLResponse(html)
