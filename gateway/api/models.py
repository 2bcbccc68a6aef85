"""Routes for models, versions, the account and the webhooks' secret."""

from typing import Annotated, TypeAlias

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from gateway.api import errors, openapi
from gateway.api.dependencies import CallerDependency, Name, Owner, Services, ServicesDependency, json_response
from gateway.catalog import Model, Version
from gateway.links import timestamp
from gateway.prediction import JsonObject
from gateway.webhooks.rules import secret_of

router = APIRouter()

VersionId: TypeAlias = Annotated[str, Path(description="The ID of the version")]


@router.get("/models", **openapi.MODELS)
async def list_models(services: ServicesDependency, caller: CallerDependency) -> Response:
    """List the models, on one page."""
    runs = await _runs(services)
    return json_response(_page([_model(model, runs, caller.base_url) for model in services.catalog.models.values()]))


@router.get("/models/{owner}/{name}", **openapi.MODEL)
async def get_model(owner: Owner, name: Name, services: ServicesDependency, caller: CallerDependency) -> Response:
    """Get a model."""
    return json_response(_model(_named(services, owner, name), await _runs(services), caller.base_url))


@router.get("/models/{owner}/{name}/openapi.json", **openapi.DOCUMENT)
async def get_document(
    owner: Owner, name: Name, request: Request, services: ServicesDependency, caller: CallerDependency
) -> Response:
    """Get the part of the OpenAPI document that documents a model, with its inputs."""
    model = _named(services, owner, name)
    return json_response(openapi.model_document(request.app.openapi(), model, caller.base_url))


@router.get("/models/{owner}/{name}/versions", **openapi.VERSIONS)
async def list_versions(owner: Owner, name: Name, services: ServicesDependency, _caller: CallerDependency) -> Response:
    """List a model's versions, newest first, on one page."""
    return json_response(_page([_version(version) for version in _named(services, owner, name).versions]))


# The Python 1.x client's run() requests this after the create and raises on a 404: docs/clients.md#version-lookup
@router.get("/models/{owner}/{name}/versions/{version_id}", **openapi.VERSION)
async def get_version(
    owner: Owner, name: Name, version_id: VersionId, services: ServicesDependency, _caller: CallerDependency
) -> Response:
    """Get a version with its schemas."""
    version = _named(services, owner, name).version(version_id)
    if version is None:
        raise errors.not_found()
    return json_response(_version(version))


@router.get("/webhooks/default/secret", **openapi.SECRET)
async def get_secret(services: ServicesDependency, caller: CallerDependency) -> Response:
    """Get the signing secret of the caller's webhooks."""
    return json_response({"key": secret_of(services.record.secrets.webhooks, caller.owner)})


@router.get("/account", **openapi.ACCOUNT)
async def get_account(caller: CallerDependency) -> Response:
    """Get the caller's account. Each token has its own."""
    return json_response({"type": "user", "username": caller.token.name, "name": caller.token.name, "github_url": ""})


def _named(services: Services, owner: str, name: str) -> Model:
    model = services.catalog.models.get(f"{owner}/{name}")
    if model is None:
        raise errors.not_found()
    return model


async def _runs(services: Services) -> dict[str, int]:
    """Return the number of ended predictions of each model."""
    runs: dict[str, int] = {}
    for ended in await services.record.statistics.ended():
        runs[ended.model] = runs.get(ended.model, 0) + ended.count
    return runs


def _page(results: list[JsonObject]) -> JsonObject:
    return {"previous": None, "next": None, "results": [*results]}


def _model(model: Model, runs: dict[str, int], base_url: str) -> JsonObject:
    shown: JsonObject = {
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
    if model.page:  # for our web page: Replicate's models have no such field, and its clients ignore it
        shown["page"] = model.page
    return shown


def _version(version: Version) -> JsonObject:
    return {
        "id": version.id,
        "created_at": timestamp(version.created_at),
        "cog_version": version.cog_version,
        "openapi_schema": version.openapi_schema,
    }
