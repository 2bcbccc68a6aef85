"""Routes of what is offered: models, versions, deployments' account, the webhooks' secret."""

from typing import Annotated, TypeAlias

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from gateway.api import described, errors, openapi
from gateway.api.services import Asking, Name, Owner, Services, Serving, answer
from gateway.catalog import Model, Version
from gateway.prediction import timestamp
from gateway.record import JsonObject
from gateway.webhooks import secret_of

router = APIRouter()

VersionId: TypeAlias = Annotated[str, Path(description="The ID of the version")]


@router.get("/models", **described.MODELS)
async def list_models(services: Serving, caller: Asking) -> Response:
    """List the models that are offered, in one page."""
    runs = await _runs(services)
    return answer(_page([_model(model, runs, caller.base_url) for model in services.catalog.models.values()]))


@router.get("/models/{owner}/{name}", **described.MODEL)
async def get_model(owner: Owner, name: Name, services: Serving, caller: Asking) -> Response:
    """Get a model."""
    return answer(_model(_named(services, owner, name), await _runs(services), caller.base_url))


@router.get("/models/{owner}/{name}/openapi.json", **described.DOCUMENT)
async def get_document(owner: Owner, name: Name, request: Request, services: Serving, caller: Asking) -> Response:
    """Get the part of the OpenAPI document that a model's page shows, with the model's own inputs."""
    model = _named(services, owner, name)
    return answer(openapi.page_of(request.app.openapi(), model, caller.base_url))


@router.get("/models/{owner}/{name}/versions", **described.VERSIONS)
async def list_versions(owner: Owner, name: Name, services: Serving, _caller: Asking) -> Response:
    """List a model's versions, newest first, in one page."""
    return answer(_page([_version(version) for version in _named(services, owner, name).versions]))


# Trap 15: PY1's run() asks for this after the create, and raises if it isn't there.
@router.get("/models/{owner}/{name}/versions/{version_id}", **described.VERSION)
async def get_version(owner: Owner, name: Name, version_id: VersionId, services: Serving, _caller: Asking) -> Response:
    """Get a version with its schemas."""
    version = _named(services, owner, name).version(version_id)
    if version is None:
        raise errors.not_found()
    return answer(_version(version))


@router.get("/webhooks/default/secret", **described.SECRET)
async def get_secret(services: Serving, caller: Asking) -> Response:
    """Get the secret that the caller's webhooks are signed with."""
    return answer({"key": secret_of(services.record.secrets.webhooks, caller.owner)})


@router.get("/account", **described.ACCOUNT)
async def get_account(caller: Asking) -> Response:
    """Get the caller's account: there is one for each token."""
    return answer({"type": "user", "username": caller.token.name, "name": caller.token.name, "github_url": ""})


@router.api_route("/files", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/files/{rest:path}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
async def no_files(_caller: Asking, rest: str = "") -> Response:  # noqa: ARG001
    """Refuse: input files travel as URLs or data URLs; the gateway keeps none."""
    raise errors.not_found()


def _named(services: Services, owner: str, name: str) -> Model:
    model = services.catalog.models.get(f"{owner}/{name}")
    if model is None:
        raise errors.not_found()
    return model


async def _runs(services: Services) -> dict[str, int]:
    """Return how many predictions of each model have ended."""
    runs: dict[str, int] = {}
    for ends in await services.record.numbers.ends():
        runs[ends.model] = runs.get(ends.model, 0) + ends.count
    return runs


def _page(results: list[JsonObject]) -> JsonObject:
    return {"previous": None, "next": None, "results": [*results]}


def _model(model: Model, runs: dict[str, int], base_url: str) -> JsonObject:
    return {
        "url": f"{base_url}/?model={model.full_name}",
        "owner": model.owner,
        "name": model.name,
        "description": model.description,
        "visibility": model.visibility,
        "run_count": runs.get(model.full_name, 0),
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": _version(model.latest),
    }


def _version(version: Version) -> JsonObject:
    return {
        "id": version.id,
        "created_at": timestamp(version.created_at),
        "cog_version": version.cog_version,
        "openapi_schema": version.openapi_schema,
    }
