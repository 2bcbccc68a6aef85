"""The workers of the models that were added: a process for each version whose Cog server has an address."""

import re
from collections.abc import Callable, Mapping

from gateway.catalog import Version
from gateway.catalog_files import AddedModels, CatalogError, CatalogFiles, LiveCatalog
from gateway.serve.processes import StartError
from gateway.serve.supervisor import Command, Supervisor, python


def arguments_of(version: Version) -> list[str]:
    """Return the arguments of gateway.work for a version whose Cog server has an address."""
    return ["--queue", version.queue, "--cog-url", str(version.url), "--slots", str(version.slots)]


class ModelWorkers:
    """Start a worker for each model that is added, and stop it when the model is removed."""

    def __init__(
        self,
        supervisor: Supervisor,
        models: AddedModels,
        environment: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        """Take the parts. `environment` has the workers' settings.

        Raises:
            StartError: A model's file is invalid.
        """
        self._supervisor = supervisor
        self._environment = environment
        self._say = say
        self._started: dict[str, Command] = {}
        try:
            self._catalog = LiveCatalog(CatalogFiles(None, models))
        except CatalogError as error:
            raise StartError(str(error)) from error

    def refresh(self) -> None:
        """Start and stop workers as the folder of models says now."""
        self._catalog.refresh()
        versions = [version for version in self._catalog.current.versions() if version.url]
        wanted = {_name(version): self._command(version) for version in versions}
        for name in [name for name, command in self._started.items() if command != wanted.get(name)]:
            self._supervisor.retire(name)
            del self._started[name]
            self._say(f"{name} stops when it has finished its predictions")
        for name in wanted.keys() - self._started.keys():
            self._supervisor.start(wanted[name])
            self._started[name] = wanted[name]
            self._say(f"{name} starts. Log: {self._supervisor.log(name)}")

    def _command(self, version: Version) -> Command:
        environment = {**self._environment, "GATEWAY_CALLBACK_HOST": version.callback_host}
        return Command(_name(version), python("-m", "gateway.work", *arguments_of(version)), environment)


def _name(version: Version) -> str:
    """Return the name of a version's worker, which is also its log's."""
    return "worker-" + re.sub("[^a-z0-9._-]", "-", version.queue)
