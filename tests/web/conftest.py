from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.gateway.conftest import cluster, databases, system  # noqa: F401 (the fixtures behind `system`)
from tests.gateway.processes import System, Token
from tests.web import browsing


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing.started() as browser:
        yield browser


@pytest.fixture
def visitor(system: System) -> Token:  # noqa: F811
    return browsing.token_of(system)
