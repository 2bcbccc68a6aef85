"""Find out what a Cog container can do, by running predictions on its server: script/model check."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx

from gateway.catalog import Schema, Version
from gateway.clock import own_time
from gateway.prediction import Json, JsonObject, Status
from gateway.schemas import invalid_output, kind_of, sample_inputs
from gateway.tasks import end
from gateway.work.callbacks import AttemptWebhooks, Callbacks, CallbackSocket, serving
from gateway.work.coglet import Coglet, Description, Liveness, RefusedError, Report, Start, Streaming

MAX_BYTES = 300 << 20  # of an output
MAX_SLOTS = 64  # the most predictions that are started at once
SHORT_S = 2.0  # a prediction of less can end before it is probed or cancelled, on a busy machine
CANCEL_S = 30.0
FREE_S = 5.0  # after it has sent the terminal webhook, a server forgets the prediction, and then frees its slot
POLL_S = 0.05


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    what: str
    result: str
    passed: bool | None = None  # None: nothing that could fail


@dataclass
class Run:
    """A prediction that was started on the server."""

    cog_id: str
    start: Start
    webhooks: AttemptWebhooks
    started_s: float
    log_webhooks: int = 0  # that came before the end
    items: int = 0  # of an iterator's output that came before the end
    refusal: str = ""
    probed: Liveness = Liveness.UNKNOWN  # right after the start
    lasted_s: float = field(default=0.0)


class ContainerCheck:
    """Run predictions on a Cog server and report what it can do."""

    def __init__(self, coglet: Coglet, callbacks: Callbacks, description: Description, timeout_s: float) -> None:
        self._coglet = coglet
        self._callbacks = callbacks
        self.version = Version("", "", own_time(), description.cog_version, "", description.document)
        self._input: JsonObject = {}
        self._timeout_s = timeout_s
        self._streaming = Streaming.NO

    async def rows(self, given: JsonObject) -> AsyncIterator[Row]:
        """Yield the table's rows, each as soon as it is known. Ends early if a prediction can't be run.

        Args:
            given: Inputs of the predictions. Required ones that are missing get a sample value.
        """
        self._input = sample_inputs(self.version) | given
        health = await self._coglet.health()
        self._streaming = await self._coglet.streaming()
        yield Row("health", f"{health.state}, Cog {health.version}", health.state == "READY")
        for name, about in self.version.inputs.items():
            needed = ", required" if name in self.version.required else ""
            yield Row(f"input {name}", kind_of(about, self.version.schemas) + needed)
        yield Row("output", kind_of(self._output_schema, self.version.schemas))
        never = await self._coglet.probe(f"check-{secrets.token_hex(8)}")
        run, report = await self._predict()
        if report is None:
            yield Row("prediction", self._problem(run), passed=False)
            return
        for row in self._prediction_rows(run, report):
            yield row
        ended = await self._coglet.probe(run.cog_id)
        yield self._liveness_row(never.liveness, run, ended.liveness)
        yield await self._cancel_row(run.lasted_s)
        yield await self._slots_row(run.lasted_s)
        yield Row("training", "no: the gateway has no trainings")

    @property
    def _output_schema(self) -> Schema:
        return self.version.schemas.get("Output", {})

    def _prediction_rows(self, run: Run, report: Report) -> list[Row]:
        succeeded = report.status is Status.SUCCEEDED
        error = "" if succeeded else f": {report.error}"
        rows = [Row("prediction", f"{report.status} after {run.lasted_s:.2f} s{error}", succeeded)]
        if not succeeded:
            return rows
        problem = invalid_output(report.output, self.version)
        files = sum(leaf.startswith("data:") for leaf in _texts(report.output))
        rows.append(Row("output as described", problem or f"yes, with {_count(files, 'file')}", not problem))
        rows.append(Row("logs while it runs", _count(run.log_webhooks, "webhook")))
        if self._streaming is not Streaming.NO:
            items = f"{_count(run.items, 'item')} before the end, by {self._streaming}"
            rows.append(Row("output while it runs", items))
        return rows

    def _liveness_row(self, never: Liveness, run: Run, ended: Liveness) -> Row:
        seen = f"{run.probed} while it ran, {ended} after its end, {never} if never started"
        running = run.probed is Liveness.RUNNING or run.lasted_s < SHORT_S
        return Row("liveness probe", seen, running and ended is never is Liveness.ENDED)

    async def _cancel_row(self, lasted_s: float) -> Row:
        run, report = await self._predict(cancel=True)
        if report is None:
            return Row("cancel", f"no answer for {self._timeout_s:.0f} s", passed=False)
        if report.status is not Status.CANCELED and lasted_s < SHORT_S:
            return Row("cancel", f"not seen: a prediction lasts {lasted_s:.2f} s; set inputs that take longer with -i")
        return Row("cancel", f"{report.status} after {run.lasted_s:.2f} s", report.status is Status.CANCELED)

    async def _slots_row(self, lasted_s: float) -> Row:
        """Start predictions until the server refuses one, then cancel them all."""
        with ExitStack() as stack:
            runs: list[Run] = []
            while len(runs) < MAX_SLOTS:
                run = await self._start(stack, min(1.0, lasted_s / 4) if runs else FREE_S)
                if run.start is not Start.TAKEN:
                    break
                runs.append(run)
            alive = [await self._coglet.probe(run.cog_id) for run in runs]
            for run in runs:
                await self._coglet.cancel(run.cog_id)
            await asyncio.gather(*(self._end(run, min(self._timeout_s, CANCEL_S)) for run in runs))
        at_once = sum(probe.liveness is Liveness.RUNNING for probe in alive)
        if lasted_s < SHORT_S and at_once < len(runs):
            return Row("slots", f"not seen: a prediction lasts {lasted_s:.2f} s; set inputs that take longer with -i")
        return Row("slots", f"{at_once}: add it with --slots {at_once}" if at_once > 1 else "1", at_once > 0)

    async def _predict(self, *, cancel: bool = False) -> tuple[Run, Report | None]:
        """Run a prediction to its end. The report is None if it can't be started or no webhook came."""
        with ExitStack() as stack:
            run = await self._start(stack, FREE_S)
            if run.start is not Start.TAKEN:
                return run, None
            async with self._counting(run):
                run.probed = (await self._coglet.probe(run.cog_id)).liveness
                if cancel:
                    await self._coglet.cancel(run.cog_id)
                report = await self._end(run, self._timeout_s)
            if report is None:
                await self._coglet.cancel(run.cog_id)
            return run, report

    async def _start(self, stack: ExitStack, busy_s: float) -> Run:
        """Start a prediction whose webhooks are received until the stack is closed; retry a busy server this long."""
        cog_id, url = f"check-{secrets.token_hex(8)}", self._callbacks.new_url()
        webhooks = stack.enter_context(self._callbacks.receiving(url))
        run = Run(cog_id, Start.TAKEN, webhooks, _now())
        until = _now() + busy_s
        while True:
            run.started_s = _now()
            try:
                run.start = await self._coglet.start(
                    cog_id, self._input, url, outputs=self._streaming is Streaming.WEBHOOKS
                )
            except RefusedError as error:
                run.start, run.refusal = Start.NOT_READY, str(error)
            if run.start is not Start.BUSY or _now() > until:
                return run
            await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def _counting(self, run: Run) -> AsyncIterator[None]:
        """Count the output's items that arrive during the block, if coglet sends them as events."""

        async def count() -> None:
            async for _ in self._coglet.chunks(run.cog_id):
                run.items += 1

        counting = asyncio.create_task(count()) if self._streaming is Streaming.EVENTS else None
        try:
            yield
        finally:
            if counting:
                await end(counting)

    async def _end(self, run: Run, timeout_s: float) -> Report | None:
        """Return the terminal webhook, or None if it doesn't come in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (report := await run.webhooks.reports.get()).status.ended:
                    run.log_webhooks += bool(report.logs)
                    if isinstance(report.output, list):
                        run.items = len(report.output)
        except TimeoutError:
            return None
        run.lasted_s = _now() - run.started_s
        run.webhooks.settle(True)
        until = _now() + FREE_S
        while (await self._coglet.probe(run.cog_id)).liveness is Liveness.RUNNING and _now() < until:
            await asyncio.sleep(POLL_S)
        await self._coglet.clean_up(run.cog_id)
        return report

    def _problem(self, run: Run) -> str:
        if run.refusal:
            return f"the server rejects the input: {run.refusal}"
        if run.start is not Start.TAKEN:
            return f"the server doesn't start it: {run.start}"
        return (
            f"no webhook came for {self._timeout_s:.0f} s. If it doesn't take longer than that (--timeout-s), the "
            "container can't reach this machine at the address of its webhooks: set --callback-host"
        )


@asynccontextmanager
async def checking(url: str, callback_host: str, timeout_s: float) -> AsyncIterator[ContainerCheck]:
    """Set a check up for the block.

    Args:
        url: The Cog server's address.
        callback_host: This machine's address, as the container sees it.
        timeout_s: How long one may take.

    Raises:
        NotReadyError: The server can't run predictions.
    """
    async with httpx.AsyncClient(trust_env=False) as client:
        coglet = Coglet(client, url)
        description = await coglet.describe()
        bound = CallbackSocket.bind(callback_host, 0, None)
        callbacks = Callbacks(callback_host, bound.socket, MAX_BYTES)
        async with serving(callbacks, bound.socket):
            yield ContainerCheck(coglet, callbacks, description, timeout_s)


def _texts(output: Json) -> list[str]:
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, list):
        return [text for part in output for text in _texts(part)]
    return [output] if isinstance(output, str) else []


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _now() -> float:
    return asyncio.get_running_loop().time()
