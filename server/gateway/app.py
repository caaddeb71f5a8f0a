"""The routes: JSON in and out; what they answer is computed by the server."""

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from common.errors import InputError
from common.text import one_line
from common.wire import offload_pb2 as wire
from common.wire.description import Description
from common.wire.service import MAX_TOKEN_LENGTH, TOKEN_SCHEME
from server.gateway.live import Live
from server.gateway.models import (
    Health,
    NamedItem,
    NamedUser,
    PresetTold,
    Recommendations,
    RecommendRequest,
    Refusal,
    Versions,
    VersionSeen,
    Why,
    WhyRequest,
)
from server.gateway.pages import FILES, page_of
from server.gateway.problems import JSONLine, Problem
from server.gateway.upstream import Served, Upstream
from server.gateway.why import why_of
from server.trust.gate import UNAUTHENTICATED_TEXT

TITLE: Final = "vicinal gateway"
ABOUT: Final = (
    "Recommendations that are defended against fake users, over HTTP. Who may ask for whom, and "
    "how often, is the server's to say: it is shown the caller's token."
)
USUAL_PRESET: Final = "vicinal"
_TOKEN: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_TOKEN_LENGTH}}}")
_CODES: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}
# What any route that asks the server may answer.
REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Refusal, "description": "a request that cannot be read, or asks for no preset"},
    401: {"model": Refusal, "description": "no valid bearer token"},
    403: {"model": Refusal, "description": "the token is for other users"},
    404: {"model": Refusal, "description": "unknown user, where no tokens are asked for"},
    429: {"model": Refusal, "description": "too many requests, or a budget that is spent"},
    503: {"model": Refusal, "description": "the server is away, or starts anew"},
    504: {"model": Refusal, "description": "no answer in time"},
}
_BEARER: Final = Depends(HTTPBearer(auto_error=False, description="what `vicinal token` prints"))


def token_of(request: Request) -> str | None:
    """The Authorization of a request, for the server to judge; None where there is none.

    Raises Problem for what can be no bearer token.
    """
    given = request.headers.getlist("authorization")
    if not given:
        return None
    scheme, _, token = given[0].partition(" ")
    good = scheme.lower() == TOKEN_SCHEME.strip().lower() and _TOKEN.fullmatch(token.strip())
    # Two of them could mean one thing here and another to a proxy in between.
    if len(given) != 1 or not good:
        raise Problem(401, "UNAUTHENTICATED", UNAUTHENTICATED_TEXT)
    return TOKEN_SCHEME + token.strip()


Token = Annotated[str | None, Depends(token_of)]


def application(upstream: Upstream, live: Live, origins: Sequence[str] = ()) -> FastAPI:
    """The application of one server; `origins` are those whose pages may read answers."""
    app = FastAPI(
        title=TITLE,
        description=ABOUT,
        version=version("vicinal"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _explain_errors(app)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["retry-after"],
        )

    @app.post("/v1/recommend", responses=REFUSALS, dependencies=[_BEARER])
    async def recommend(asked: RecommendRequest, token: Token) -> Recommendations:
        """A user's list, best first: the same that the user's device would find."""
        served = await _named(upstream)
        user, preset = _user(served, asked.user), preset_of(served.description, asked.preset)

        def request(now: Description) -> wire.RecommendRequest:
            return wire.RecommendRequest(version=now.version, user=user, preset=preset)

        reply = await upstream.asked("Recommend", request, token)
        # It may be of a version that came meanwhile.
        served = await _named(upstream)
        called = served.called.items
        items = [
            NamedItem(index=each, id=called.id_of(each), title=called.title_of(each))
            for each in reply.items[: asked.items]
        ]
        named = NamedUser(index=user, id=served.called.id_of(user))
        return Recommendations(version=reply.version, preset=preset, user=named, items=items)

    @app.post("/v1/why", responses=REFUSALS, dependencies=[_BEARER])
    async def why(asked: WhyRequest, token: Token) -> Why:
        """Why items may be recommended to a user, or may not: raters, neighbors, and the price."""
        served = await _named(upstream)
        user, preset = _user(served, asked.user), preset_of(served.description, asked.preset)
        try:
            items = [served.called.item_of(each) for each in asked.items]
        except InputError as error:
            raise Problem(400, "INVALID_ARGUMENT", str(error)) from None

        def request(now: Description) -> wire.ExplainRequest:
            return wire.ExplainRequest(version=now.version, user=user, preset=preset, items=items)

        reply = await upstream.asked("Explain", request, token)
        return why_of(reply, (await _named(upstream)).called, user, preset)

    @app.get("/v1/health", responses={503: REFUSALS[503]})
    async def health() -> Health:
        """Whether the gateway and its server answer: 200, or 503."""
        await upstream.healthy()
        return Health(status="serving", version=(await upstream.current()).description.version)

    @app.get("/v1/versions", responses={503: REFUSALS[503]})
    async def versions() -> Versions:
        """The model version that is served, and what can be asked of it."""
        told = (await upstream.current()).description
        return Versions(
            gateway=app.version,
            version=told.version,
            publication=told.publication,
            model=told.manifest.model,
            users=told.user_count,
            items=told.manifest.items,
            list_length=told.list_length,
            experiment=told.experiment,
            presets=[
                PresetTold(
                    name=name,
                    neighbors=each.neighbors,
                    neighbors_by=each.neighbors_by,
                    min_support=each.min_support,
                    unrated_weight=each.unrated_weight,
                    steps=each.steps,
                    assumed_fakes=each.assumed_fakes,
                )
                for name, each in told.presets.items()
            ],
            seen=[VersionSeen(version=name, since=at) for name, at in upstream.known.items()],
        )

    @app.get("/v1/live", responses=REFUSALS, dependencies=[_BEARER])
    async def live_numbers(token: Token) -> dict[str, Any]:
        """What the page at / shows: for whoever may read the tally, the operator."""

        def request(now: Description) -> wire.TallyRequest:
            return wire.TallyRequest(version=now.version, preset=next(iter(now.presets)))

        await upstream.asked("GetTally", request, token)
        return await live.told()

    for path in FILES:
        app.add_api_route(path, _file(path), include_in_schema=False)
    return app


def _file(path: str) -> Any:
    async def page() -> Response:
        return page_of(path)

    return page


async def _named(upstream: Upstream) -> Served:
    """What is served. Raises Problem where the map of ids is of other items or users."""
    served = await upstream.current()
    if served.called.problem:
        raise Problem(503, "NAMES", served.called.problem)
    return served


def _user(served: Served, user: int | str) -> int:
    """Raises Problem for an id where users have none."""
    try:
        return served.called.index_of(user)
    except InputError as error:
        raise Problem(400, "INVALID_ARGUMENT", str(error)) from None


def preset_of(description: Description, asked: str | None) -> str:
    """The preset that is asked for, or the usual one. Raises Problem."""
    offered = description.presets
    if asked is None:
        asked = next(iter(offered)) if len(offered) == 1 else USUAL_PRESET
    if asked not in offered:
        names = ", ".join(offered)
        raise Problem(
            400, "INVALID_ARGUMENT", f"unknown preset {asked!r}: the server offers {names}"
        )
    return asked


def _explain_errors(app: FastAPI) -> None:
    """Every error is a line of JSON."""

    @app.exception_handler(Problem)
    async def problem(_request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        # After the name of a field come those of the types that it can have.
        field = first["loc"][:2]
        told = dict.fromkeys(each["msg"] for each in error.errors() if each["loc"][:2] == field)
        text = f"{'.'.join(map(str, field))}: {', or '.join(told)}"
        if first["type"] == "json_invalid":
            text = "the body is no JSON"
        elif first["loc"] == ("body",):
            text = "the body has to be a JSON object, sent as application/json"
        return Problem(400, "INVALID_ARGUMENT", one_line(text)).response()

    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = error.status_code
        code = _CODES.get(status, "INVALID_ARGUMENT")
        content = Problem(status, code, str(error.detail)).content
        return JSONLine(content, status, error.headers)

    # Of routing, and of a body that is no text at all.
    for status in (400, *_CODES):
        app.add_exception_handler(status, refused)
