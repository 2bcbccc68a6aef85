"""Run the worker beside a Cog server: python -m gateway.work --queue Q --cog-url http://127.0.0.1:5001.

SIGTERM or Ctrl-C: it takes no more jobs, ends the running one and exits; a second one ends it at once, and its next
start goes on with the run.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import httpx

from gateway import record
from gateway.logs import configure
from gateway.prediction import Links
from gateway.settings import Settings, SettingsError, settings
from gateway.tasks import end
from gateway.work import sweep
from gateway.work.coglet import Coglet
from gateway.work.patience import Patience
from gateway.work.worker import Worker

logger = logging.getLogger(__name__)

STOPPED = 130
ALIVE_EVERY_S = 5.0


def main() -> None:
    """Work until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m gateway.work", description=__doc__.split("\n")[0])
    parser.add_argument("--queue", required=True, help="the queue of the version that the Cog server runs")
    parser.add_argument("--cog-url", required=True, help="where the Cog server is, such as http://127.0.0.1:5001")
    parser.add_argument(
        "--name", help="the server's name, the same at each start and no other server's; default: HOST COG_URL"
    )
    options = parser.parse_args()
    try:
        chosen = settings()
    except SettingsError as error:
        sys.exit(f"worker: {error}")
    configure(chosen.log_level, chosen.log_format)
    name = options.name or f"{socket.gethostname()} {options.cog_url}"
    # A container's first process ignores SIGTERM unless it says otherwise; once it works, it drains.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        asyncio.run(_live(chosen, options.queue, options.cog_url, name))
    except KeyboardInterrupt:  # while it waits for the database; later it drains
        sys.exit(STOPPED)
    except record.DatabaseError as error:
        sys.exit(f"worker: {error}")


async def _live(chosen: Settings, queue: str, cog_url: str, name: str) -> None:
    """Work, and show that this process is alive meanwhile."""
    if chosen.alive_file is None:
        return await _work(chosen, queue, cog_url, name)
    showing = asyncio.create_task(_show_life(chosen.alive_file), name="life")
    try:
        return await _work(chosen, queue, cog_url, name)
    finally:
        await end(showing)
        chosen.alive_file.unlink(missing_ok=True)


async def _show_life(path: Path) -> None:
    """Touch a file again and again, for as long as the event loop turns."""
    while True:
        try:
            path.touch()
        except OSError as error:
            logger.warning("can't show life", extra={"file": str(path), "error": str(error)})
        await asyncio.sleep(ALIVE_EVERY_S)


async def _work(chosen: Settings, queue: str, cog_url: str, name: str) -> None:
    await record.wait_until_migrated(chosen.database_url)
    async with (
        record.opened(
            chosen.database_url,
            chosen.files_url,
            lambda secrets, clock: Links(secrets.files, chosen.file_url_s, clock.now).body,
            stalled_s=chosen.stalled_s,
        ) as opened,
        httpx.AsyncClient(trust_env=False) as client,  # a proxy for the world is none for the server beside it
    ):
        worker = Worker(opened, Coglet(client, cog_url), queue, name, _patience(chosen))
        _stop_on_signals(worker)
        sweeping = asyncio.create_task(sweep.run_forever(opened), name="sweep")
        logger.info("working", extra={"queue": queue, "cog_url": cog_url, "server": name})
        try:
            await worker.run(chosen.callback_host, chosen.callback_port, chosen.output_bytes)
        finally:
            await end(sweeping)


def _patience(chosen: Settings) -> Patience:
    return Patience(
        beat_s=chosen.stalled_s / 10,
        lost_s=chosen.lost_s,
        cancel_s=chosen.cancel_s,
        setup_failed_s=chosen.setup_failed_s,
    )


def _stop_on_signals(worker: Worker) -> None:
    told = False

    def stop() -> None:
        nonlocal told
        if told:
            os._exit(STOPPED)  # nothing to tidy: the record bears a kill
        told = True
        logger.info("draining")
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


if __name__ == "__main__":
    main()
