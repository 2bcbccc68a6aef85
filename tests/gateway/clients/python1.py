"""Call replicate 1 from PyPI: read {"do": NAME, ...arguments} from stdin, and print the result as JSON."""

import io
import json
import pathlib
import sys

import replicate
from plain import plain
from replicate.exceptions import ModelError, ReplicateError
from replicate.webhook import Webhooks, WebhookSigningSecret, WebhookValidationError


def run(ref, **params):
    try:
        return {"output": plain(replicate.run(ref, **params))}
    except ModelError as error:
        return {"failed": error.prediction.error, "status": error.prediction.status}
    except ReplicateError as error:
        return {"refused": error.status, "detail": error.detail}


def run_with_files(ref, path, more="images", **params):
    """Run with a file handle, a path and a buffer, as the client's documentation shows."""
    with pathlib.Path(path).open("rb") as handle:
        images = [pathlib.Path(path), io.BytesIO(pathlib.Path(path).read_bytes())]
        return run(ref, input={"image": handle, more: images}, **params)


def files(path):
    """Create, get, list and delete a file: pydantic refuses what does not fit the client's class."""
    created = replicate.files.create(path, metadata={"a": 1})
    got = replicate.files.get(created.id)
    listed = [file.id for file in replicate.files.list()]
    deleted = replicate.files.delete(created.id)
    return {
        "file": [got.name, got.content_type, got.size, got.metadata],
        "same": got == created,
        "listed": created.id in listed,
        "deleted": deleted,
        "left": [file.id for file in replicate.files.list()],
    }


def parse(ids, model):
    """Read every kind of object. The client's pydantic models reject what doesn't fit them."""
    predictions = [replicate.predictions.get(prediction_id) for prediction_id in ids]
    listed = replicate.predictions.list()
    owner_model = replicate.models.get(model)
    versions = owner_model.versions.list()
    return {
        "statuses": {prediction.id: prediction.status for prediction in predictions},
        "errors": {prediction.id: prediction.error for prediction in predictions},
        "progress": [p.progress.percentage for p in predictions if p.progress],
        "listed": [prediction.id for prediction in listed.results],
        "model": f"{owner_model.owner}/{owner_model.name}",
        "latest": owner_model.latest_version.id,
        "versions": [version.id for version in versions.results],
        "version": owner_model.versions.get(versions.results[0].id).id,
        "models": [f"{model.owner}/{model.name}" for model in replicate.models.list().results],
        "account": replicate.default_client.accounts.current().type,
        "deployed": replicate.deployments.predictions.create("test/deployed", input={}).model,
    }


def validate(deliveries):
    """Return for each [headers, body] whether its signature is valid. The API provides the secret."""
    secret = replicate.webhooks.default.secret()
    assert isinstance(secret, WebhookSigningSecret)
    verdicts = []
    for headers, body in deliveries:
        try:
            Webhooks.validate(headers=headers, body=body, secret=secret, tolerance=600)
            verdicts.append(True)
        except WebhookValidationError:
            verdicts.append(False)
    return verdicts


def iterate(ref, inputs):
    """Return the items that run() yields for a model whose output is an iterator."""
    return [plain(item) for item in replicate.run(ref, input=inputs)]


def stream(ref, inputs):
    return [[event.event.value, plain(event.data), bool(event.id)] for event in replicate.stream(ref, input=inputs)]


def browse(model, deployment):
    """Read the model's example, the deployments, and the lists that are empty."""
    deployed = replicate.deployments.get(deployment)
    return {
        "example": replicate.models.get(model).default_example.output,
        "deployments": [deployment.id for deployment in replicate.deployments.list().results],
        "release": [deployed.current_release.model, deployed.current_release.version],
        "empty": [
            list(replicate.collections.list().results),
            replicate.hardware.list(),
            list(replicate.trainings.list().results),
        ],
    }


def cancel(prediction_id):
    return replicate.predictions.cancel(prediction_id).status


if __name__ == "__main__":
    arguments = json.load(sys.stdin)
    print(json.dumps(globals()[arguments.pop("do")](**arguments)))
