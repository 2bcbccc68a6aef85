"""The server rejects what the schema excludes with status 422; the predictor rejects the rest with its own message."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from local import ROOT
from local.inputs import MODELS, inputs_of
from tests.local.serving.client import Client

TABLE = ROOT / "docs" / "bad-values.md"
ROW = re.compile(r"^\| (\w+) \| `(\w+)` \| `(.+?)` \| (\d+|failed) \| .+ \|$", re.MULTILINE)
FAILED = "Prediction failed: Prediction failed: UserError: "
BEYOND_REACH: dict[str, dict[str, object]] = {  # rejected by the predictor alone
    "riffusion": {"num_inference_steps": 1001},
    "walk": {"prompts": "", "bars": 240},
    "deforum": {"zoom": "0:(0)"},
    "music-video": {"zoom": "0:(0)"},
}
BODIES = ["", "prompt_a=bells", '{"input": {"alpha": 1e400}}', '{"input": {}', "[]", "7", '{"input": []}']


@dataclass(frozen=True)
class Bound:
    model: str
    name: str
    value: float
    outwards: int  # the direction in which values are rejected


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
def test_a_value_beyond_a_bound_is_rejected(clients: dict[str, Client], bound: Bound) -> None:
    is_whole = inputs_of(bound.model)[bound.name].kind == "integer"
    for distance in (1, 10**6) if is_whole else (1e-9, 1, 1e300):
        reply = clients[bound.model].post({"input": {bound.name: bound.value + bound.outwards * distance}})
        assert reply.refused() == [bound.name]


@pytest.mark.parametrize(("model", "name", "known"), CHOICES)
def test_an_unknown_choice_is_rejected(
    clients: dict[str, Client], model: str, name: str, known: tuple[str, ...]
) -> None:
    for unknown in ("", "unknown", known[0].swapcase(), f"{known[0]} ", ",".join(known)):
        assert clients[model].post({"input": {name: unknown}}).refused() == [name]


def test_every_rejected_input_is_named(client: Client) -> None:
    bad: dict[str, object] = {name: [] for name in inputs_of(client.model)}
    assert client.post({"input": bad}).refused() == sorted(bad)


def test_bounds_and_choices_are_accepted(client: Client) -> None:
    """Each is sent with a value that the predictor rejects, which takes no time; only that value is named."""
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


def test_the_bad_values_in_the_documentation_are_rejected_as_described(clients: dict[str, Client]) -> None:
    """Only the status and the name of the input are compared; the wording of Cog's messages is up to Cog."""
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
def test_a_malformed_body_is_rejected(riffusion: Client, body: str) -> None:
    assert riffusion.post(body).status in (400, 422)
