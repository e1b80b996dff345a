"""Templates → pages: what every page has, and how numbers and times read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from starlette.requests import Request
from starlette.responses import HTMLResponse

from jobs.batch_folder.gallery import page_numbers
from jobs.batch_folder.rows.item_html import template_filters
from jobs.config import Config
from jobs.dashboard.security import Access
from jobs.operations.report import fire_time, shown_state
from jobs.redis_client.resilience import Redis
from jobs.wire import local_time


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What every page of one dashboard is made from."""

    config: Config
    redis: Redis
    access: Access


def render(name: str, **values: Any) -> str:
    """Render a template to text; a name that it lacks is an error."""
    return environment().get_template(name).render(values)


def page(request: Request, name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Answer with a whole page."""
    access: Access = request.state.access
    shared: Mapping[str, Any] = {"csrf": request.state.csrf, "read_only": access.read_only, "has_token": access.token}
    return HTMLResponse(render(name, **shared, **values), status)


def outage(error: Exception | None = None) -> str:
    """The part of a page that says why it is not up to date."""
    if isinstance(error, AuthenticationError | NoPermissionError):
        refused = f"Redis refuses the dashboard ({str(error).rstrip('.')}): REDIS_URL needs another user or password."
        return render("outage.html", error=refused)
    if isinstance(error, RedisError):
        return render("outage.html", error=f"Redis does not answer ({error}).")
    return render("outage.html", error=error and f"{error}.")


@cache
def environment() -> Environment:
    """The templates of the dashboard, then those that it shares with the gallery on disk."""
    found = Environment(
        loader=ChoiceLoader([PackageLoader("jobs.dashboard"), PackageLoader("jobs.batch_folder")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(template_filters(), clock=local_time, shown_state=shown_state, fire_time=fire_time)
    found.globals.update(page_numbers=page_numbers)
    return found
