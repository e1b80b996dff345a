"""The page that asks for the token, where the dashboard has one."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from jobs.dashboard.pages import page
from jobs.dashboard.security import Access, session_cookie

AFTER_A_WRONG_TOKEN = 1.0
"""Seconds that the answer to a wrong token takes."""


async def show_sign_in(request: Request) -> Response:
    """Ask for the token."""
    return page(request, "sign_in.html", next=_local(request.query_params.get("next", "/")), problem=None)


async def sign_in(request: Request) -> Response:
    """Open a session for who knows the token."""
    access: Access = request.state.access
    form = await request.form(max_fields=4, max_files=0)
    target = _local(str(form.get("next", "/")))
    if not access.is_token(str(form.get("token", ""))):
        await asyncio.sleep(AFTER_A_WRONG_TOKEN)
        problem = "That is not the token. It is BATCH_DASHBOARD_TOKEN of the machine that runs the dashboard."
        return page(request, "sign_in.html", status=403, next=target, problem=problem)
    cookie = session_cookie(request, access.open_session(time.time()))
    return RedirectResponse(target, 303, {"set-cookie": cookie})


async def sign_out(request: Request) -> Response:
    """End the session of this browser."""
    return Response(status_code=204, headers={"hx-redirect": "/sign-in", "set-cookie": session_cookie(request, "", 0)})


def _local(target: str) -> str:
    """A path of ours: never another site's address, which begins with two slashes of either kind."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
