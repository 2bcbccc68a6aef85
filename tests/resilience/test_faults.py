"""Whatever breaks at a site of several hosts, no prediction is lost or doubled; its files and webhooks are right."""

from collections.abc import Callable, Iterator

import pytest

from tests.resilience import world
from tests.resilience.faults import FAULTS


@pytest.fixture(scope="module")
def suffer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], world.Result]]:
    if reason := world.missing():
        pytest.skip(reason)
    with world.created(tmp_path_factory.mktemp("logs")) as created:
        yield created


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_loses_and_doubles_nothing(suffer: Callable[[str], world.Result], fault: str) -> None:
    result = suffer(fault)
    assert result.problems == []
    assert result.created > 10  # clients were at work


@pytest.mark.limits
@pytest.mark.parametrize(("fault", "limit_s"), [("lost-host", 40), ("cut-link", 40)])
def test_the_site_recovers_in_time(suffer: Callable[[str], world.Result], fault: str, limit_s: float) -> None:
    seconds = suffer(fault).seconds
    assert seconds
    assert all(taken_s < limit_s for taken_s in seconds.values()), seconds
