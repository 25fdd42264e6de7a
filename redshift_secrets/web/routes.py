"""The routes of the page: requests in, HTML out. Every one of them needs a signed-in user; see `create_app`.

All addresses in the HTML are relative, so that the page works wherever it is mounted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import cached_property, partial
from pathlib import Path
from time import time
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import anyio
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, Response, StreamingResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from redshift_secrets.airflow.web import SignedIn, allowed, may, public_host
from redshift_secrets.errors import RedshiftSecretsError, known_error, one_line
from redshift_secrets.operations.connect import Attempt
from redshift_secrets.operations.overview import Claim, details
from redshift_secrets.web.rows import Row, View, bar, build_table, duration
from redshift_secrets.web.site import NotConfiguredError, Site

T = TypeVar("T")

log = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent
_STATIC = {"htmx.min.js": "text/javascript", "page.css": "text/css", "page.js": "text/javascript"}
_THREADS = 4
"""Requests to stores and AWS at a time. Airflow's own routes share 40 threads, which stay theirs while AWS does not answer."""
_WAIT_FOR_AWS = 3
"""How many of these may be a Refresh or a Test. So a thread is left for whoever only looks while those wait."""
_MOST_BYTES = 1 << 16
"""What the page sends is far less; more would be read and taken apart on the event loop of all routes."""
HEADER = "X-Redshift-Connections"
"""A header that no form of another site can send."""
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'self'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

templates = Environment(
    loader=FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def create_app(site: Site | None = None, clock: Callable[[], float] = time) -> FastAPI:
    """Return the page as an application to be mounted by Airflow's API server."""
    app = FastAPI(title="Redshift connections", openapi_url=None)
    page = _Page(site or Site(), clock)
    for path, endpoint in (("/", page.index), ("/table", page.table), ("/connection", page.connection)):
        app.get(path, response_class=HTMLResponse)(endpoint)
    for path, endpoint in (("/refresh", page.refresh), ("/flush", page.flush), ("/test", page.test)):
        app.post(path, response_class=HTMLResponse)(endpoint)
    app.get("/static/{name}")(page.static)
    return app


class _Page:
    def __init__(self, site: Site, clock: Callable[[], float]) -> None:
        self._site = site
        self._clock = clock

    # Made when they are used: a limiter belongs to the event loop.

    @cached_property
    def _threads(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(_THREADS)

    @cached_property
    def _waiting_for_aws(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(_WAIT_FOR_AWS)

    # --- GET

    async def index(self, request: Request, user: SignedIn) -> Response:
        return await self._answer(partial(_index, user, View.of(request.query_params)))

    async def static(self, request: Request, name: str, user: SignedIn) -> Response:
        if name not in _STATIC:
            raise HTTPException(404)
        path, headers = _FOLDER / "static" / name, {**_HEADERS, "Cache-Control": "private, no-cache"}
        found = FileResponse(path, media_type=_STATIC[name], headers=headers, stat_result=path.stat())
        etag = found.headers["ETag"]
        if request.headers.get("If-None-Match", "").removeprefix("W/") == etag:
            return Response(status_code=304, headers={**headers, "ETag": etag})
        return found

    async def table(self, request: Request, user: SignedIn) -> Response:
        return await self._answer(partial(self._table, user, View.of(request.query_params)))

    async def connection(self, request: Request, user: SignedIn) -> Response:
        return await self._answer(partial(self._connection, user, dict(request.query_params)), "row_message.html")

    # --- POST

    async def refresh(self, request: Request, user: SignedIn) -> Response:
        _check_origin(request)
        view = View.of(await _form(request))
        async with self._waiting_for_aws:
            return await self._answer(partial(self._table, user, view, refresh=True))

    async def flush(self, request: Request, user: SignedIn) -> Response:
        _check_origin(request)
        form = await _form(request)
        return await self._answer(partial(self._flush, user, form))

    async def test(self, request: Request, user: SignedIn) -> Response:
        _check_origin(request)
        form = await _form(request)
        try:
            claim = await self._run(partial(self._claim_to_test, user, form))
        except Exception as error:
            return _not_tested(500, _logged(error))
        if claim is None:
            return _not_tested(403, _NOT_ALLOWED)
        # With an encoding of its own it is not compressed, which would hold back each step until the last one.
        headers = {**_HEADERS, "Content-Encoding": "identity", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._steps(user, claim, form.get("dag_id") or None), media_type="text/html", headers=headers
        )

    async def _steps(self, user: Any, claim: Claim, dag_id: str | None) -> AsyncIterator[str]:
        """Each step of a test as a line, as soon as it is done. A test whose reader has gone goes on to its end."""
        loop, lines = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def put(line: str) -> None:
            loop.call_soon_threadsafe(lines.put_nowait, line)

        async def test() -> None:
            async with self._waiting_for_aws:
                await self._run(partial(self._test, user, claim, dag_id, put))

        testing = asyncio.create_task(test())
        testing.add_done_callback(lambda _: lines.put_nowait(None))
        while (line := await lines.get()) is not None:
            yield line
        await testing

    # --- in a thread

    def _table(self, user: Any, view: View, *, refresh: bool = False) -> Response:
        if not may(user, "GET"):
            return _html("forbidden.html", 403)
        began_at = self._clock()
        try:
            overview = self._site.overview(refresh=refresh)
        except NotConfiguredError:
            return _html("unavailable.html", 200, text=_NOT_CONFIGURED)
        except RedshiftSecretsError as error:
            return _html("unavailable.html", 200, text=one_line(str(error)))
        claims = self._site.readable(user, overview)
        table = build_table(claims, view)
        now = self._clock()
        bars = [bar(each, now) for each in self._site.credentials(table.claims)]
        response = _html(
            "table.html",
            overview=overview,
            failed_to_refresh=refresh and overview.listed_at < began_at,
            all_readable=len(claims) == len(overview.claims),
            table=table,
            view=view,
            rows=[Row(*each) for each in zip(table.claims, bars, strict=True)],
            listed=duration(now - overview.listed_at),
        )
        response.headers["HX-Replace-Url"] = "./" + view.address(page=table.page).removesuffix("?")
        return response

    def _connection(self, user: Any, parameters: dict[str, str]) -> Response:
        try:
            overview = self._site.overview()
            claims = self._site.readable(user, overview) if may(user, "GET") else ()
        except (NotConfiguredError, RedshiftSecretsError):
            claims = ()
        wanted = parameters.get("conn_id", ""), parameters.get("warehouse", "")
        claim = next((each for each in claims if (each.conn_id, each.row.arn) == wanted), None)
        if claim is None:
            text = f"{parameters.get('conn_id', '')} is not there any more, or you may not see it. Refresh the list."
            return _html("row_message.html", 404, text=text)
        (credential,) = self._site.credentials([claim])
        # As code, the tags name every connection of the warehouse.
        readable, every = (sum(each.row.arn == claim.row.arn for each in some) for some in (claims, overview.claims))
        with_tags = readable == every
        return _html(
            "connection.html",
            row=Row(claim, bar(credential, self._clock())),
            details=details(self._site.settings, claim, with_tags=with_tags) if parameters.get("open") else None,
            may_edit=bool(allowed(user, "PUT", [claim])),
        )

    def _flush(self, user: Any, form: dict[str, str]) -> Response:
        conn_id = form.get("conn_id")
        try:
            if not may(user, "PUT") or not self._may_flush(user, conn_id):
                return _html("message.html", 403, text=_NOT_ALLOWED if conn_id is not None else _NOT_ALL)
            flushed = self._site.flush(user, conn_id)
        except NotConfiguredError:
            return _html("message.html", 200, text=_NOT_CONFIGURED)
        except RedshiftSecretsError as error:
            return _html("message.html", 200, text=one_line(str(error)))
        return _html("message.html", 200, text=one_line("; ".join(flushed.lines)))

    def _may_flush(self, user: Any, conn_id: str | None) -> bool:
        """Whether a user may edit all connections, or one of this conn_id. It may be another team's as well, or theirs alone: the answer
        is what it is where there is none."""
        claims = self._site.overview().claims
        if conn_id is None:
            return len(allowed(user, "PUT", claims)) == len(claims)
        return bool(allowed(user, "PUT", [each for each in claims if each.conn_id == conn_id]))

    def _claim_to_test(self, user: Any, form: dict[str, str]) -> Claim | None:
        """Return the claim that is asked for, if it exists and the user may edit it."""
        try:
            claim = self._site.claim(form.get("conn_id", ""), form.get("warehouse", ""))
        except (NotConfiguredError, RedshiftSecretsError):
            return None
        return claim if claim is not None and may(user, "PUT") and allowed(user, "PUT", [claim]) else None

    def _test(self, user: Any, claim: Claim, dag_id: str | None, put: Callable[[str], None]) -> None:
        attempt: Attempt | None = None
        try:
            attempt = self._site.test(user, claim, dag_id, lambda step: put(_line("step", step=step)))
            failure = attempt.failure if attempt is not None else "no warehouse claims this conn_id any more"
        except Exception as error:  # whatever it is, the browser waits for an end
            failure = str(known_error(error))
        put(_line("outcome", attempt=attempt, failure=one_line(failure) if failure else None))
        put(_line("where", where=self._site.where_tested))

    async def _answer(self, work: Callable[[], Response], template: str = "message.html") -> Response:
        """Call `work` as `_run` does. An error is an answer, too: what the server would make of it has its text in the log."""
        try:
            return await self._run(work)
        except Exception as error:
            return _failed(error, template)

    async def _run(self, work: Callable[[], T]) -> T:
        """Call `work` in one of the few threads that the page has."""
        return await anyio.to_thread.run_sync(work, limiter=self._threads)


_NOT_ALLOWED = "You may not do this: it needs the right to edit this connection, and there has to be one."
_NOT_ALL = "You may not do this: it needs the right to edit the connections of every team."
_NOT_CONFIGURED = (
    "The configuration of this API server does not name redshift-secrets as its secrets backend. Set [secrets] backend ="
    " redshift_secrets.RedshiftSecretsBackend and backend_kwargs in its airflow.cfg, and restart it."
)


def _index(user: Any, view: View) -> Response:
    if not may(user, "GET"):
        return _html("forbidden.html", 403)
    return _html("page.html", view=view, header=HEADER, may_edit=may(user, "PUT"))


def _failed(error: Exception, template: str) -> Response:
    return _html(template, 500, text=_logged(error))


def _logged(error: Exception) -> str:
    """Log an error and return it as it can be shown."""
    text = one_line(str(known_error(error)))
    log.error("the page in Airflow cannot answer: %s", text)
    return text


def _not_tested(status: int, text: str) -> Response:
    """Answer as a test that has failed does: a browser adds whole lines to the list of its steps."""
    return HTMLResponse(_line("outcome", attempt=None, failure=text), status, headers=_HEADERS)


def _check_origin(request: Request) -> None:
    """Refuse what another site has a browser send: that cannot set a header, and the browser says where it comes from. One that is
    connected without TLS does so with the host of the site alone, which a proxy may have replaced in `Host`."""
    site, origin = (request.headers.get(name) for name in ("Sec-Fetch-Site", "Origin"))
    if site is None and origin is not None:
        hosts = {request.headers.get("Host", "").lower(), public_host()} - {""}  # as that of "null" is
        site = "same-origin" if urlsplit(origin).netloc.lower() in hosts else "cross-site"
    if request.headers.get(HEADER) is None or site not in (None, "same-origin"):
        raise HTTPException(
            403,
            f"A POST needs the header {HEADER} and has to come from the page itself. Behind a proxy, set [api] base_url to the"
            " address that browsers use.",
        )


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, f"A form has at most {_MOST_BYTES} bytes.")
    # A conn_id that is empty is none, and does not mean all.
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _html(template: str, status: int = 200, **values: object) -> HTMLResponse:
    return HTMLResponse(templates.get_template(template).render(**values), status, headers=_HEADERS)


def _line(name: str, **values: object) -> str:
    """One line of what a test has found: a browser adds whole lines to the page."""
    return " ".join(getattr(templates.get_template("steps.html").module, name)(**values).split()) + "\n"
