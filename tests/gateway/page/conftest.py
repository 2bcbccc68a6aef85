from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.gateway import browsing
from tests.gateway.processes import System, Token


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing.started() as browser:
        yield browser


@pytest.fixture
def visitor(system: System, browser: Browser) -> Token:
    """Return a token that has no predictions yet, for someone with a browser."""
    return browsing.token_of(system)
