"""Routes for models, versions and deployments, for the account, and the lists that are always empty here."""

import hashlib
from base64 import b32encode
from collections import Counter
from typing import Annotated, TypeAlias

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import PlainTextResponse, Response

from gateway.api import errors, openapi
from gateway.api.dependencies import (
    CallerDependency,
    Name,
    Owner,
    Services,
    ServicesDependency,
    compressed,
    json_response,
    single_page,
)
from gateway.api.inputs import shown
from gateway.catalog import Example, Model, Version
from gateway.links import encode, timestamp
from gateway.prediction import JsonObject, Status
from gateway.webhooks.rules import secret_of

router = APIRouter()

VersionId: TypeAlias = Annotated[str, Path(description="The ID of the version")]
DeploymentOwner: TypeAlias = Annotated[str, Path(description="The owner of the deployment")]
DeploymentName: TypeAlias = Annotated[str, Path(description="The name of the deployment")]
SORTS = {
    "latest_version_created_at": lambda model: model.latest.created_at,
    "model_created_at": lambda model: model.created_at,
}


@router.get("/models", **openapi.MODELS)
async def list_models(
    request: Request,
    services: ServicesDependency,
    caller: CallerDependency,
    sort_by: Annotated[
        str, Query(description="Sort by `latest_version_created_at` or `model_created_at`.")
    ] = "latest_version_created_at",
    sort_direction: Annotated[str, Query(description="`desc`, newest first, or `asc`.")] = "desc",
) -> Response:
    """List the models, on one page."""
    if sort_by not in SORTS:
        raise errors.unreadable("sort_by", f"Must be one of {', '.join(SORTS)}, but is {shown(sort_by)}")
    if sort_direction not in ("asc", "desc"):
        raise errors.unreadable("sort_direction", f"Must be asc or desc, but is {shown(sort_direction)}")
    runs = await _runs(services)
    models = sorted(services.catalog.models.values(), key=SORTS[sort_by], reverse=sort_direction == "desc")
    return await compressed(request, json_response(single_page([_model(one, runs, caller.base_url) for one in models])))


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


@router.get("/models/{owner}/{name}/readme", **openapi.README)
async def get_readme(owner: Owner, name: Name, services: ServicesDependency, _caller: CallerDependency) -> Response:
    """Get a model's README, as Markdown."""
    model = _named(services, owner, name)
    if model.readme is None:
        raise errors.not_found()
    return PlainTextResponse(model.readme)


@router.get("/models/{owner}/{name}/examples", **openapi.EXAMPLES)
async def list_examples(owner: Owner, name: Name, services: ServicesDependency, caller: CallerDependency) -> Response:
    """List a model's example predictions, on one page."""
    model = _named(services, owner, name)
    return json_response(single_page([_example(model, example, caller.base_url) for example in model.examples]))


@router.get("/models/{owner}/{name}/versions", **openapi.VERSIONS)
async def list_versions(owner: Owner, name: Name, services: ServicesDependency, _caller: CallerDependency) -> Response:
    """List a model's versions, newest first, on one page."""
    return json_response(single_page([_version(version) for version in _named(services, owner, name).versions]))


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


@router.get("/deployments", **openapi.DEPLOYMENTS)
async def list_deployments(services: ServicesDependency, _caller: CallerDependency) -> Response:
    """List the deployments, on one page."""
    servers = await _servers(services)
    deployments = services.catalog.deployments
    return json_response(single_page([_deployment(name, deployments[name], servers) for name in deployments]))


@router.get("/deployments/{owner}/{name}", **openapi.DEPLOYMENT)
async def get_deployment(
    owner: DeploymentOwner, name: DeploymentName, services: ServicesDependency, _caller: CallerDependency
) -> Response:
    """Get a deployment."""
    full_name = f"{owner}/{name}"
    model = services.catalog.deployments.get(full_name)
    if model is None:
        raise errors.not_found()
    return json_response(_deployment(full_name, model, await _servers(services)))


@router.get("/webhooks/default/secret", **openapi.SECRET)
async def get_secret(services: ServicesDependency, caller: CallerDependency) -> Response:
    """Get the signing secret of the caller's webhooks."""
    return json_response({"key": secret_of(services.record.secrets.webhooks, caller.owner)})


@router.get("/account", **openapi.ACCOUNT)
async def get_account(caller: CallerDependency) -> Response:
    """Get the caller's account. Each token has its own."""
    return json_response({"type": "user", "username": caller.token.name, "name": caller.token.name, "github_url": ""})


@router.get("/collections", **openapi.COLLECTIONS)
@router.get("/trainings", **openapi.TRAININGS)
async def list_nothing(_caller: CallerDependency) -> Response:
    """List what the gateway doesn't have, on one empty page."""
    return json_response(single_page([]))


@router.get("/hardware", **openapi.HARDWARE)
async def list_hardware(_caller: CallerDependency) -> Response:
    """List the hardware to choose from: there is none, so the list, which has no pages, is empty."""
    return json_response([])


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
        "is_official": model.is_official,
        "default_example": _example(model, model.examples[0], base_url) if model.examples else None,
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


def _example(model: Model, example: Example, base_url: str) -> JsonObject:
    """Return an example as a prediction that has ended. Its id, which nothing is stored under, is always the same."""
    version = model.latest
    digest = hashlib.sha256(encode([version.id, example.input]))
    created_at = timestamp(version.created_at)
    return {
        "id": b32encode(digest.digest()).decode().lower()[:26],
        "model": model.full_name,
        "version": version.id,
        "input": example.input,
        "output": example.output,
        "logs": "",
        "error": None,
        "status": str(Status.SUCCEEDED),
        "source": "web",
        "data_removed": example.output is None,
        "created_at": created_at,
        "started_at": created_at,
        "completed_at": created_at,
        "metrics": {},
        "urls": {"web": f"{base_url}/?model={model.full_name}"},
    }


async def _servers(services: Services) -> Counter[str]:
    """Return the number of Cog servers by queue."""
    return Counter(server.queue for server in await services.record.statistics.servers())


def _deployment(full_name: str, model: Model, servers: Counter[str]) -> JsonObject:
    owner, _, name = full_name.partition("/")
    instances = servers[model.latest.queue]
    return {
        "owner": owner,
        "name": name,
        "current_release": {
            "number": 1,
            "model": model.full_name,
            "version": model.latest.id,
            "created_at": timestamp(model.latest.created_at),
            "created_by": {"type": "user", "username": owner, "name": owner},
            # The Python 1.x client requires these: docs/clients.md#required-fields
            "configuration": {"hardware": "self-hosted", "min_instances": instances, "max_instances": instances},
        },
    }
