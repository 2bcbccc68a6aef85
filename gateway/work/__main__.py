"""Run the worker of a Cog server: python -m gateway.work --queue Q --cog-url http://127.0.0.1:5001.

At SIGTERM or Ctrl-C it fetches no more jobs, finishes the running one and exits. At a second signal it exits at once;
after a restart it continues with the running prediction.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import httpx

from gateway.logs import configure
from gateway.record import open_record
from gateway.record.database import DatabaseError
from gateway.record.migrations import wait_until_migrated
from gateway.settings import Settings, SettingsError, settings
from gateway.tasks import end
from gateway.work.coglet import Coglet
from gateway.work.inputs import InputLimits, Inputs
from gateway.work.listener import ListenerCheck
from gateway.work.timeouts import Timeouts
from gateway.work.worker import Worker

logger = logging.getLogger(__name__)

STOPPED = 130
ALIVE_EVERY_S = 5.0


def main(words: Sequence[str] | None = None, program: str = "python -m gateway.work") -> None:
    """Work until stopped."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.split("\n")[0])
    parser.add_argument("--queue", required=True, help="the queue of the version that the Cog server runs")
    parser.add_argument("--cog-url", required=True, help="the Cog server's address, such as http://127.0.0.1:5001")
    parser.add_argument("--name", help="the server's name, unique and the same at each start; default: HOST COG_URL")
    parser.add_argument(
        "--slots", type=int, default=1, help="how many predictions the Cog server runs at once (default: 1)"
    )
    options = parser.parse_args(words)
    try:
        chosen = settings()
    except SettingsError as error:
        sys.exit(f"worker: {error}")
    configure(chosen.log_level, chosen.log_format)
    name = options.name or f"{socket.gethostname()} {options.cog_url}"
    # A container's first process ignores SIGTERM by default. Once the worker runs, SIGTERM drains it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        asyncio.run(_live(chosen, options.queue, options.cog_url, name, options.slots))
    except KeyboardInterrupt:  # while it waits for the database
        sys.exit(STOPPED)
    except DatabaseError as error:
        sys.exit(f"worker: {error}")


async def _live(chosen: Settings, queue: str, cog_url: str, name: str, slots: int) -> None:
    """Work, and touch the file that shows that this process is alive."""
    if chosen.alive_file is None:
        return await _work(chosen, queue, cog_url, name, slots)
    showing = asyncio.create_task(_show_life(chosen.alive_file), name="life")
    try:
        return await _work(chosen, queue, cog_url, name, slots)
    finally:
        await end(showing)
        chosen.alive_file.unlink(missing_ok=True)


async def _show_life(path: Path) -> None:
    """Touch a file every few seconds, as long as the event loop runs."""
    while True:
        try:
            path.touch()
        except OSError as error:
            logger.warning("can't touch the alive file", extra={"file": str(path), "error": str(error)})
        await asyncio.sleep(ALIVE_EVERY_S)


async def _work(chosen: Settings, queue: str, cog_url: str, name: str, slots: int) -> None:
    await wait_until_migrated(chosen.database_url)
    async with (
        open_record(
            chosen.database_url,
            chosen.files_url,
            file_url_s=chosen.file_url_s,
            stalled_s=chosen.stalled_s,
            delivery_s=chosen.delivery_s,
        ) as record,
        # The environment's proxies are not for the Cog server.
        httpx.AsyncClient(trust_env=False, event_hooks={"request": [ListenerCheck(chosen.cog_uids)]}) as client,
        aclosing(Inputs(record, InputLimits(chosen.file_bytes, chosen.input_s, chosen.input_private))) as inputs,
    ):
        worker = Worker(record, Coglet(client, cog_url), inputs, queue, name, _timeouts(chosen), slots)
        _stop_on_signals(worker)
        sweeping = asyncio.create_task(record.sweep.run_forever(), name="sweep")
        logger.info("working", extra={"queue": queue, "cog_url": cog_url, "server": name})
        try:
            token = chosen.callback_token.get_secret_value() if chosen.callback_token else None
            await worker.run(chosen.callback_host, chosen.callback_port, chosen.output_bytes, token)
        finally:
            await end(sweeping)


def _timeouts(chosen: Settings) -> Timeouts:
    return Timeouts(
        beat_s=chosen.stalled_s / 10,
        lost_s=chosen.lost_s,
        cancel_s=chosen.cancel_s,
        setup_failed_s=chosen.setup_failed_s,
    )


def _stop_on_signals(worker: Worker) -> None:
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            os._exit(STOPPED)  # no cleanup is needed: the record survives a kill
        stopping = True
        logger.info("draining")
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


if __name__ == "__main__":
    main()
