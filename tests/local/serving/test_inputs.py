"""What the server refuses: what is beyond the schema with 422, and the rest with the predictor's own sentence."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from local.inputs import MODELS, ROOT, inputs_of
from tests.local.serving.client import Client

TABLE = ROOT / "docs" / "bad-values.md"
ROW = re.compile(r"^\| (\w+) \| `(\w+)` \| `(.+?)` \| (\d+|failed) \| .+ \|$", re.MULTILINE)
FAILED = "Prediction failed: Prediction failed: UserError: "
BEYOND_REACH: dict[str, dict[str, object]] = {  # which only the predictor refuses
    "riffusion": {"num_inference_steps": 1001},
    "deforum": {"zoom": "0:(0)"},
}
BODIES = ["", "prompt_a=bells", '{"input": {"alpha": 1e400}}', '{"input": {}', "[]", "7", '{"input": []}']


@dataclass(frozen=True)
class Bound:
    model: str
    name: str
    value: float
    outwards: int  # the direction in which values are refused


def bounds() -> Iterator[Bound]:
    """Yield each bound of the models' inputs."""
    for model in MODELS:
        for one in inputs_of(model).values():
            if one.minimum is not None:
                yield Bound(model, one.name, one.minimum, -1)
            if one.maximum is not None:
                yield Bound(model, one.name, one.maximum, 1)


BOUNDS = list(bounds())
CHOICES = [(model, one.name, one.choices) for model in MODELS for one in inputs_of(model).values() if one.choices]


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: f"{bound.name} {bound.value}")
def test_beyond_a_bound_is_refused(clients: dict[str, Client], bound: Bound) -> None:
    is_whole = inputs_of(bound.model)[bound.name].kind == "integer"
    for distance in (1, 10**6) if is_whole else (1e-9, 1, 1e300):
        reply = clients[bound.model].post({"input": {bound.name: bound.value + bound.outwards * distance}})
        assert reply.refused() == [bound.name]


@pytest.mark.parametrize(("model", "name", "known"), CHOICES)
def test_what_is_no_choice_is_refused(
    clients: dict[str, Client], model: str, name: str, known: tuple[str, ...]
) -> None:
    for unknown in ("", "unknown", known[0].swapcase(), f"{known[0]} ", ",".join(known)):
        assert clients[model].post({"input": {name: unknown}}).refused() == [name]


def test_every_refused_input_is_named(client: Client) -> None:
    bad: dict[str, object] = {name: [] for name in inputs_of(client.model)}
    assert client.post({"input": bad}).refused() == sorted(bad)


def test_bounds_and_choices_themselves_are_taken(client: Client) -> None:
    """Beside a value that only the predictor itself refuses, so that it takes no time: that one alone is named."""
    taken: list[tuple[str, float | str]] = [
        (bound.name, bound.value) for bound in BOUNDS if bound.model == client.model
    ]
    taken += [(name, choice) for model, name, choices in CHOICES if model == client.model for choice in choices]
    beyond = BEYOND_REACH[client.model]
    for name, value in taken:
        if name not in beyond:
            error = client.predict(**{name: value}, **beyond)["error"]
            assert error.startswith(FAILED + next(iter(beyond)))
            assert "\n" not in error


def test_the_values_in_the_documentation_are_refused_as_it_says(clients: dict[str, Client]) -> None:
    """Held are the status and the name of the input; how Cog words its own refusals is Cog's."""
    rows = ROW.findall(TABLE.read_text(encoding="utf-8"))
    assert len(rows) == 10
    for model, name, value, status in rows:
        files = clients[model].files()
        reply = clients[model].post(f'{{"input": {{"{name}": {value}}}}}')
        assert clients[model].files() == files  # before any work
        if status == "failed":
            assert (reply.status, reply.body["status"]) == (200, "failed")
            assert reply.body["error"].startswith(FAILED + name)
        elif status == "422":
            assert reply.refused() == [name]
        else:
            assert (str(reply.status), name in str(reply.body)) == (status, True)


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_no_request_is_refused(riffusion: Client, body: str) -> None:
    assert riffusion.post(body).status in (400, 422)
