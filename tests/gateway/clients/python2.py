"""Call replicate 2 from PyPI: read {"do": NAME, ...arguments} from stdin, and print the result as JSON."""

import json
import pathlib
import sys

from replicate import APIStatusError, Replicate
from replicate.lib._files import FileOutput
from replicate.lib._predictions_use import URLPath, use

client = Replicate()


def plain(value):
    """Replace each file in an output by its first bytes and its length."""
    if isinstance(value, FileOutput):
        content = value.read()
        return {"file": content[:16].hex(), "bytes": len(content), "url": value.url[:6]}
    if isinstance(value, URLPath):
        content = pathlib.Path(value).read_bytes()
        return {"file": content[:16].hex(), "bytes": len(content), "url": value.__url__[:6]}
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return value


def run(ref, **params):
    try:
        return {"output": plain(client.run(ref, **params))}
    except APIStatusError as error:
        return {"refused": error.status_code, "detail": error.body["detail"]}


def stream(ref, inputs):
    """Return the items of a streaming model's output, and how many of them came before its end."""
    model = use(Replicate, ref, streaming=True)
    return [str(item) for item in model(**inputs)]


def all_ids():
    """Return the ids of all predictions; the client asks for page after page."""
    return [prediction.id for prediction in client.predictions.list()]


def cancel(ref, inputs):
    """Start a prediction, cancel it, and wait for its end."""
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
