"""Pagination."""

import pytest

from tests.gateway.processes import System, Token

IDLE = "riffusion/riffusion"  # no worker takes its queue
MANY = 250


@pytest.fixture(scope="module")
def many(system: System) -> tuple[Token, list[str]]:
    """Return a token with many predictions, and their ids, the newest first."""
    token = system.token()
    ids = [token.create(IDLE)["id"] for _ in range(MANY)]
    return token, ids[::-1]


def test_t04_pages_are_whole_while_others_are_created(many: tuple[Token, list[str]], token: Token) -> None:
    owner, ids = many
    pages, url, later = [], "/predictions", []
    while url:
        page = owner.http.get(url).json()
        pages.append(page)
        url = page["next"]
        later += [owner.create(IDLE)["id"], token.create(IDLE)["id"]]
    assert [len(page["results"]) for page in pages] == [100, 100, 50]
    assert [prediction["id"] for page in pages for prediction in page["results"]] == ids
    assert pages[0]["previous"] is None
    back = owner.http.get(pages[1]["previous"]).json()
    assert {prediction["id"] for prediction in back["results"]} <= {*ids[:100], *later}
    for prediction_id in later[::2]:  # the next test counts
        owner.http.post(f"/predictions/{prediction_id}/cancel")


def test_t05_javascript_paginates(many: tuple[Token, list[str]]) -> None:
    owner, ids = many
    pages = owner.javascript("paginate")
    listed = [prediction_id for page in pages for prediction_id in page]
    assert len(listed) == len(set(listed))
    assert [prediction_id for prediction_id in listed if prediction_id in set(ids)] == ids
    assert [len(page) for page in pages[:2]] == [100, 100]


def test_only_ones_own_are_listed(many: tuple[Token, list[str]], token: Token) -> None:
    assert token.http.get("/predictions").json() == {"previous": None, "next": None, "results": []}


def test_a_bad_cursor_is_refused(token: Token) -> None:
    answer = token.http.get("/predictions", params={"cursor": "nonsense"})
    assert answer.status_code == 422
    assert "cursor" in answer.json()["detail"]


def test_dates_bound_the_list(token: Token) -> None:
    first, second, third = [token.create(IDLE) for _ in range(3)]
    within = {"created_after": second["created_at"], "created_before": third["created_at"]}
    listed = token.http.get("/predictions", params=within).json()["results"]
    assert [prediction["id"] for prediction in listed] == [second["id"]]
    listed = token.http.get("/predictions", params={"created_before": second["created_at"]}).json()["results"]
    assert [prediction["id"] for prediction in listed] == [first["id"]]
