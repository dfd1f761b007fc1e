"""The viewer's server: loopback alone, nothing without the token, nothing that a model wrote as markup."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.errors import UserError
from app.view.plots import curves, figures
from app.view.runs import RunView, report_of
from app.view.traces import Asked

FOLDER = Path(__file__).parent
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
COOKIE = "eightfold"


def application(views: dict[str, RunView], token: str) -> Starlette:
    """The pages of some runs, by name. `?token=` once, then its cookie, opens them."""

    def guarded(answer: Callable[[Request], Response]) -> Callable[[Request], Any]:
        async def reply(request: Request) -> Response:
            given = request.query_params.get("token") or request.cookies.get(COOKIE, "")
            if not secrets.compare_digest(given.encode(), token.encode()):
                return PlainTextResponse("open the address that eightfold view printed", 403)
            try:
                response = await asyncio.to_thread(answer, request)
            except (UserError, KeyError, ValueError) as error:
                response = PlainTextResponse(str(error), 404)
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            response.headers.setdefault("Content-Security-Policy", POLICY)
            response.headers["Referrer-Policy"] = "no-referrer"
            response.headers["X-Content-Type-Options"] = "nosniff"
            return response

        return reply

    def file(name: str, kind: str) -> Callable[[Request], Response]:
        return lambda _: Response((FOLDER / name).read_bytes(), media_type=kind)

    def about(_: Request) -> Response:
        for name, view in views.items():
            if not view.settled:  # read again each time the page is opened
                views[name] = RunView(view.root)
        return JSONResponse({name: view.about() for name, view in views.items()})

    def listed(request: Request) -> Response:
        query = request.query_params
        asked = Asked(
            query.get("outcome", ""),
            query.get("reason", ""),
            query.get("finish", ""),
            bool(query.get("pit")),
            query.get("problem", ""),
            query.get("solved", ""),
            query.get("words", ""),
            query.get("sort", ""),
        )
        samples = views[request.path_params["run"]].samples[request.path_params["policy"]]
        relation, _, other = query.get("against", "").partition(":")  # won:RUN/SAMPLES, lost:RUN/SAMPLES, or nothing
        run, _, name = other.partition("/")
        among = samples.against(views[run].samples[name], relation == "won") if other else None
        return JSONResponse(samples.listed(asked, int(query.get("start", "0")), among))

    def one(request: Request) -> Response:
        path = request.path_params
        view, name = views[path["run"]], path["policy"]
        found = view.samples[name].one(path["shard"], path["row"])
        answers = []
        for run, other in views.items() if name in view.held_out else ():
            told = other.answers(found["problem"]["id"], but=name if other is view else "")
            answers += [{"run": run} | answer for answer in told]
        return JSONResponse(found | {"answers": answers})

    def rolled(request: Request) -> Response:
        path = request.path_params
        return JSONResponse(
            views[path["run"]].samples[path["policy"]].rollouts(path["shard"], path["row"], path["step"])
        )

    def plotted(request: Request) -> Response:
        return JSONResponse(figures(views[request.path_params["run"]].samples[request.path_params["policy"]]))

    def trained(request: Request) -> Response:
        return JSONResponse(curves(views[request.path_params["run"]].trainings()))

    def report(request: Request) -> Response:
        found = report_of(views[request.path_params["run"]].root)
        if found is None:
            return PlainTextResponse("no report yet", 404)
        return HTMLResponse(found, headers={"Content-Security-Policy": "default-src 'self' 'unsafe-inline' data:"})

    routes = [
        Route("/", guarded(file("page.html", "text/html"))),
        Route("/plots.js", guarded(file("plots.js", "text/javascript"))),
        Route("/view.js", guarded(file("view.js", "text/javascript"))),
        Route("/view.css", guarded(file("view.css", "text/css"))),
        Route("/api/runs", guarded(about)),
        Route("/api/traces/{run}/{policy}", guarded(listed)),
        Route("/api/trace/{run}/{policy}/{shard:int}/{row:int}", guarded(one)),
        Route("/api/rollouts/{run}/{policy}/{shard:int}/{row:int}/{step:int}", guarded(rolled)),
        Route("/api/plots/{run}/{policy}", guarded(plotted)),
        Route("/api/curves/{run}", guarded(trained)),
        Route("/report/{run}", guarded(report)),
    ]
    return Starlette(routes=routes)


def serve(roots: list[str], port: int, say: Callable[[str], None]) -> None:
    """Serve until stopped. Port 0: a free one. Raises UserError where the port is taken or a run has no samples."""
    import socket

    import uvicorn

    views: dict[str, RunView] = {}
    for view in map(RunView, roots):
        if view.name in views:
            raise UserError(f"{view.root}: there is another run called {view.name}; open it by itself")
        views[view.name] = view
    token = secrets.token_urlsafe(16)
    door = socket.socket()
    try:
        door.bind(("127.0.0.1", port))
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror}; give another, or 0 for a free one") from None
    say(f"http://127.0.0.1:{door.getsockname()[1]}/?token={token}")
    config = uvicorn.Config(application(views, token), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[door])
