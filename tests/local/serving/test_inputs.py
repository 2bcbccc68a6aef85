"""What the server refuses: what is beyond the schema with 422, and the rest with the face's own sentence."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from local.predict import ROOT, input_schema
from local.serve import MODELS
from tests.local.serving.client import Client, Reply

TABLE = ROOT / "docs" / "bad-values.md"
ADVICE = "docs/bad-values.md is not what came back; write it anew with UPDATE_DOCS=1 script/test tests/local/serving"
FAILED = "Prediction failed: Prediction failed: UserError: "
INTRODUCTION = f"""# Bad values, and what comes back

Every documented input, with values that it does not take, sent to the real server with its schema. Made by
`tests/local/serving`, which fails when something else comes back.

- 422: the server's own check against the schema; the input's name is in `loc` beside this message.
- 400: the body is not JSON that the server reads.
- failed: the schema lets it pass, the model refuses it before any work. The answer has status 200 and holds
  `"status": "failed"` and this as its `error`, after "{FAILED.strip()}".
"""

WRONG_TYPES: dict[str, list[object]] = {
    "string": [7, True, None, ["a"], {"a": 1}, "\ud800"],
    "integer": ["fifty", "50", 50.5, True, None, [50], float("nan"), 10**30],
    "number": ["half", "0.5", True, None, [0.5], float("nan"), float("inf")],
}
LONG = "x" * 100_000
MOTION = ["", "1.04", "0", "0:", "0:()", "0:(1", "x:(1)", "-1:(1)", "0:(1) 5:(2)", "0:(1), 0:(2)", "0:(1; 2)"]
EXPRESSIONS = ["speed", "sin", "sin()", "t.real", "__import__('os')", "t[0]", "1/0", "1/(t-50)", "log(t)", "9**9**9"]
BEYOND_THE_SCHEMA: dict[str, list[object]] = {
    "prompt_a": [LONG, "(bells:101)", "(bells:-1)"],
    "prompt_b": [LONG, "(bells:101)"],
    "num_inference_steps": [1001],
    "animation_prompts": [
        *("", " | ", "0:", "0: a |", "0: a | 0: b", "a | b", "101: a", "(a:101)", "16:9 photo | 900:1 scale"),
        LONG,
        "0: " + LONG[:4001],
    ],
    "angle": [*MOTION, *(f"0:({expression})" for expression in EXPRESSIONS), LONG, "0:(" + "(" * 200 + ")" * 200 + ")"],
    "zoom": ["0:(0)", "0:(-1)", "0:(1), 50:(0)", "0:(1-t/50)", "0:(speed)"],
    "translation_x": ["0:(speed)", "0:(10, 20)"],
    "translation_y": ["0:(speed)", "0:(1e400)"],
    "seed": [-1, 2**32, 0.5],
}
BEYOND_REACH = {"riffusion": {"num_inference_steps": 1001}, "deforum": {"zoom": "0:(0)"}}
BODIES: list[Any] = ["", "prompt_a=bells", '{"input": {"alpha": 1e400}}', '{"input": {}', "[]", "7"]
BODIES += ['{"input": []}', '{"input": "bells"}']


def limits(model: str) -> Iterator[tuple[str, str, float]]:
    """Yield each bound of the model's inputs: name, "minimum" or "maximum", value."""
    for name, about in input_schema(model).items():
        for bound in ("minimum", "maximum"):
            if bound in about:
                yield name, bound, about[bound]


def choices(model: str) -> dict[str, list[str]]:
    schema = json.loads((ROOT / "schema" / f"{model}.openapi.json").read_text(encoding="utf-8"))
    schemas = schema["components"]["schemas"]
    return {name: schemas[name]["enum"] for name in input_schema(model) if name in schemas}


LIMITS = [(model, *limit) for model in MODELS for limit in limits(model)]
CHOICES = [(model, name, choice) for model in MODELS for name, some in choices(model).items() for choice in some]


@pytest.mark.parametrize(("model", "name", "bound", "value"), LIMITS)
def test_beyond_a_bound_is_refused(clients: dict[str, Client], model: str, name: str, bound: str, value: float) -> None:
    outwards = 1 if bound == "maximum" else -1
    is_whole = input_schema(model)[name]["type"] == "integer"
    for distance in (1, 10**6) if is_whole else (1e-9, 1, 1e300):
        reply = clients[model].post({"input": {name: value + outwards * distance}})
        assert reply.refused() == [name]


@pytest.mark.parametrize(("model", "name"), sorted({(model, name) for model, name, _ in CHOICES}))
def test_what_is_no_choice_is_refused(clients: dict[str, Client], model: str, name: str) -> None:
    known = choices(model)[name]
    for unknown in ("", "unknown", known[0].swapcase(), f"{known[0]} ", ",".join(known)):
        assert clients[model].post({"input": {name: unknown}}).refused() == [name]


def test_every_refused_input_is_named(client: Client) -> None:
    bad: dict[str, object] = {name: [] for name in input_schema(client.model)}
    assert client.post({"input": bad}).refused() == sorted(bad)


@pytest.mark.parametrize(
    ("model", "name", "value"), [*((model, name, value) for model, name, _, value in LIMITS), *CHOICES]
)
def test_bounds_and_choices_themselves_are_taken(
    clients: dict[str, Client], model: str, name: str, value: object
) -> None:
    """Beside a value that only the model itself refuses, so that it takes no time: that one alone is named."""
    if name not in BEYOND_REACH[model]:
        error = clients[model].predict(**{name: value}, **BEYOND_REACH[model])["error"]
        assert error.startswith(f"{FAILED}{next(iter(BEYOND_REACH[model]))}")
        assert "\n" not in error


def bad_values(model: str) -> Iterator[tuple[str, object]]:
    """Yield each input with each value to try."""
    bounds = {(name, bound): value for name, bound, value in limits(model)}
    some_choices = choices(model)
    for name, about in input_schema(model).items():
        for value in WRONG_TYPES[about.get("type", "string")]:
            yield name, value
        for bound, distance in (("minimum", -1), ("maximum", 1)):
            if (name, bound) in bounds:
                yield name, bounds[name, bound] + distance
        if name in some_choices:
            yield from ((name, value) for value in ("", "unknown", some_choices[name][0].swapcase()))
        yield from ((name, value) for value in BEYOND_THE_SCHEMA.get(name, []))


def answer(reply: Reply, name: str) -> tuple[str, str]:
    """Return the status and the message of a refusal, which names the input."""
    if reply.status == 422:
        assert reply.refused() == [name]
        return "422", "\n".join(problem["msg"] for problem in reply.body["detail"])
    if reply.status == 400:
        assert name in reply.body
        return "400", reply.body
    assert (reply.status, reply.body["status"]) == (200, "failed")
    problems = reply.body["error"].removeprefix(FAILED)
    assert problems != reply.body["error"]
    assert all(problem.startswith(name) for problem in problems.split("\n"))
    return "failed", problems


def row(*cells: str) -> str:
    escaped = [cell.replace("|", "\\|").replace("\n", "<br>") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def shown(value: object) -> str:
    text = json.dumps(value)
    return f"`{text}`" if len(text) <= 60 else f"`{text[:20]}...`, {len(text) - 2} characters"


def section(client: Client) -> str:
    rows = [row("input", "value", "status", "answer"), row(*["---"] * 4)]
    for name, value in bad_values(client.model):
        rows.append(row(f"`{name}`", shown(value), *answer(client.post({"input": {name: value}}), name)))
    return "\n".join([f"## {client.model}", "", *rows])


def test_the_table_of_bad_values_is_what_comes_back(clients: dict[str, Client]) -> None:
    files = {model: client.files() for model, client in clients.items()}
    sections = "\n\n".join(section(clients[model]) for model in MODELS)
    table = f"{INTRODUCTION}\n{sections}\n"
    assert {model: client.files() for model, client in clients.items()} == files  # before any work
    if os.environ.get("UPDATE_DOCS"):
        TABLE.write_text(table, encoding="utf-8")
    assert TABLE.read_text(encoding="utf-8") == table, ADVICE


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_no_request_is_refused(client: Client, body: str) -> None:
    assert client.post(body).status in (400, 422)
