"""Call replicate 2 from PyPI: read {"do": NAME, ...arguments} from stdin, and print the result as JSON."""

import json
import pathlib
import sys
import urllib.parse

from plain import plain
from replicate import APIStatusError, Replicate
from replicate.lib._predictions_use import use

client = Replicate()


def run(ref, **params):
    try:
        return {"output": plain(client.run(ref, **params))}
    except APIStatusError as error:
        return {"refused": error.status_code, "detail": error.body["detail"]}


def stream(ref, inputs):
    """Return the items of a streaming model's output, and how many of them came before its end."""
    model = use(Replicate, ref, streaming=True)
    return [str(item) for item in model(**inputs)]


def browse(owner, name, deployment_owner, deployment_name):
    """Read the model, its README and examples, the deployments, and the lists that are empty."""
    deployment = {"deployment_owner": deployment_owner, "deployment_name": deployment_name}
    return {
        "official": client.models.get(model_owner=owner, model_name=name).is_official,
        "readme": client.models.readme.get(model_owner=owner, model_name=name),
        "examples": [example.output for example in client.models.examples.list(model_owner=owner, model_name=name)],
        "oldest": [
            f"{model.owner}/{model.name}"
            for model in client.models.list(sort_by="model_created_at", sort_direction="asc")
        ],
        "deployments": [f"{one.owner}/{one.name}" for one in client.deployments.list()],
        "release": client.deployments.get(**deployment).current_release.version,
        "deployment": client.deployments.predictions.create(**deployment, input={}).deployment,
        "empty": [list(client.collections.list()), client.hardware.list(), list(client.trainings.list())],
    }


def run_with_files(ref, path, more="images", **params):
    """Run with a file handle and paths, as the client's documentation shows."""
    with pathlib.Path(path).open("rb") as handle:
        return run(ref, input={"image": handle, more: [pathlib.Path(path)] * 2}, **params)


def files(path):
    created = client.files.create(content=pathlib.Path(path), filename="b.png", type="image/x", metadata={"a": "1"})
    got = client.files.get(file_id=created.id)
    signed = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(got.urls.download).query))
    content = client.files.download(file_id=created.id, **signed).read()
    listed = [file.id for file in client.files.list()]
    client.files.delete(file_id=created.id)
    return {
        "file": [got.name, got.content_type, got.size, got.metadata],
        "content": len(content),
        "listed": created.id in listed,
        "left": [file.id for file in client.files.list()],
    }


def all_ids():
    """Return the ids of all predictions; the client asks for page after page."""
    return [prediction.id for prediction in client.predictions.list()]


def cancel(ref, inputs):
    prediction = client.predictions.create(version=ref, input=inputs)
    client.predictions.cancel(prediction_id=prediction.id)
    return client.predictions.wait(prediction.id).status


def call(ref, inputs):
    """Call the model as a function, and read its schema."""
    model = use(Replicate, ref)
    schema = model.openapi_schema()["components"]["schemas"]["Input"]
    return {"output": plain(model(**inputs)), "inputs": list(schema["properties"])}


def each(calls):
    """Run several actions in this process, since the client takes half a second to load."""
    return [act(**arguments) for arguments in calls]


def act(do, **arguments):
    return globals()[do](**arguments)


if __name__ == "__main__":
    print(json.dumps(act(**json.load(sys.stdin))))
