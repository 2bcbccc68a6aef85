"""A state machine compares the record with a model, for any order of actions by clients, workers and the sweep."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import psycopg
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from gateway.prediction import Attempt, Outcome, Prediction, Status
from gateway.record import open_record
from gateway.record.jobs import prediction_id_of
from tests.gateway.recording import QUEUE, create_owner, empty_database, new

ENDS = st.sampled_from([Status.SUCCEEDED, Status.FAILED, Status.CANCELED])


@dataclass
class Model:
    """What the record should contain about a prediction."""

    id: str
    status: Status = Status.STARTING
    queued: bool = True
    attempts: int = 0
    cancel_requested: bool = False
    holder: int | None = None  # the job that may write
    logs: str = ""
    events: list[str] = field(default_factory=list)

    def end(self, status: Status, output: bool = False) -> None:
        self.status, self.queued, self.holder = status, False, None
        self.events += [*(["output"] if output else []), "completed"]

    def lose(self) -> None:
        """Queue a lost attempt again, or end its prediction."""
        if self.cancel_requested:
            self.end(Status.CANCELED)
        elif self.attempts >= 2:
            self.end(Status.FAILED)
        else:
            self.queued, self.holder = True, None


class Environment:
    def __init__(self, url: str, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.plain = self.stack.enter_context(psycopg.connect(url, autocommit=True))
        self.record = self.runner.run(self.stack.enter_async_context(open_record(url, folder.as_uri())))
        self.sweeper = self.runner.run(self.stack.enter_async_context(open_record(url, folder.as_uri(), stalled_s=0)))

    def reset(self) -> int:
        """Empty the database and return the id of a new token."""
        empty_database(self.plain)
        self.worker = self.runner.run(self.record.procrastinate.job_manager.register_worker())
        return self.runner.run(create_owner(self.record))

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()


class RecordMachine(RuleBasedStateMachine):
    """Apply each action to the record and to the model."""

    environment: Environment

    predictions = Bundle("predictions")
    attempts = Bundle("attempts")  # including those that were taken over

    def __init__(self) -> None:
        super().__init__()
        self.models: dict[str, Model] = {}
        self.ended: dict[str, Prediction] = {}
        self.record, self.run = self.environment.record, self.environment.runner.run
        self.owner = self.environment.reset()

    @rule(target=predictions)
    def create(self) -> str:
        row = self.run(self.record.predictions.create(new(self.owner)))
        self.models[row.id] = Model(row.id)
        return row.id

    @rule(target=attempts)
    def fetch_and_begin(self) -> Any:
        """Begin the next attempt in the queue."""
        job = self.run(self.record.procrastinate.job_manager.fetch_job([QUEUE], self.environment.worker))
        if job is None:
            assert not any(model.queued for model in self.models.values())
            return multiple()
        assert job.id is not None
        model = self.models[prediction_id_of(job)]
        assert model.queued
        attempt = Attempt(model.id, job.id, "server", "boot", "http://127.0.0.1/x")
        begun = self.run(self.record.attempts.begin(attempt))
        assert begun is not None
        if model.status is Status.STARTING:
            model.events.append("start")
        model.status, model.queued, model.holder = Status.PROCESSING, False, job.id
        model.attempts += 1
        return attempt

    @rule()
    def fetch_and_release(self) -> None:
        """Fetch the next job, and queue it again as a worker does that stops before it begins."""
        job = self.run(self.record.procrastinate.job_manager.fetch_job([QUEUE], self.environment.worker))
        if job is not None:
            released = [self.run(self.record.attempts.release(prediction_id_of(job), job.id or 0)) for _ in range(2)]
            assert released == [True, False]

    @rule(attempt=attempts)
    def begin_again(self, attempt: Attempt) -> None:
        """A job is one attempt."""
        assert self.run(self.record.attempts.begin(attempt)) is None

    def holder(self, attempt: Attempt) -> Model | None:
        """Return the model of an attempt that may still write, else None."""
        model = self.models[attempt.id]
        return model if model.holder == attempt.job_id else None

    @rule(attempt=attempts, text=st.text("ab\n", max_size=5))
    def log(self, attempt: Attempt, text: str) -> None:
        model = self.holder(attempt)
        assert self.run(self.record.attempts.log(attempt, text)) == (model is not None)
        if model:
            model.logs = text if len(text) > len(model.logs) else model.logs
            self.expect_logs_event(model)

    def expect_logs_event(self, model: Model) -> None:
        """Expect at most one queued delivery of `logs`."""
        if "logs" not in model.events:
            model.events.append("logs")

    @rule(attempt=attempts)
    def beat(self, attempt: Attempt) -> None:
        assert self.run(self.record.attempts.beat(attempt)) == (self.holder(attempt) is not None)

    @rule(attempt=attempts, status=ENDS)
    def end(self, attempt: Attempt, status: Status) -> None:
        model = self.holder(attempt)
        output = "done" if status is Status.SUCCEEDED else None
        ended = self.run(self.record.attempts.end(attempt, Outcome(status, output=output, error="no")))
        assert (ended is not None) == (model is not None)
        if model:
            model.end(status, output is not None)

    @rule(attempt=attempts)
    def give_back(self, attempt: Attempt) -> None:
        model = self.holder(attempt)
        assert self.run(self.record.attempts.give_back(attempt)) == (model is not None)
        if model:
            model.queued, model.holder = True, None
            model.attempts -= 1
            if model.cancel_requested:  # it can't begin again, so the sweep would end it
                self.run(self.record.predictions.cancel(model.id))
                model.end(Status.CANCELED)

    @rule(attempt=attempts)
    def give_up(self, attempt: Attempt) -> None:
        model = self.holder(attempt)
        assert self.run(self.record.sweep.give_up(attempt.id, attempt.job_id)) == (model is not None)
        if model:
            model.lose()

    @rule(prediction_id=predictions)
    def cancel(self, prediction_id: str) -> None:
        model = self.models[prediction_id]
        row = self.run(self.record.predictions.cancel(prediction_id, self.owner))
        if model.queued:
            model.end(Status.CANCELED)
        elif not model.status.ended:
            model.cancel_requested = True
        assert row is not None
        assert row.status is model.status

    @rule()
    def sweep(self) -> None:
        """No attempt is lost as long as its worker sends heartbeats."""
        assert not self.run(self.record.sweep.once())

    @rule()
    def sweep_after_silence(self) -> None:
        self.run(self.environment.sweeper.sweep.once())
        for model in self.models.values():
            if model.holder is not None:
                model.lose()

    @invariant()
    def the_record_agrees_with_the_model(self) -> None:
        rows = {row.id: row for row in self.run(self.record.predictions.page(self.owner, limit=1000)).rows}
        events = self.queued_events()
        assert rows.keys() == self.models.keys()
        for model in self.models.values():
            row = rows[model.id]
            assert (row.status, row.attempts, row.logs) == (model.status, model.attempts, model.logs)
            assert events[model.id] == model.events
            assert model.events.count("completed") == model.status.ended
            assert row.completed_at is None or row.created_at <= (row.started_at or row.created_at) <= row.completed_at
            if row.status.ended:  # an end is final
                assert self.ended.setdefault(row.id, row) == row

    def queued_events(self) -> dict[str, list[str]]:
        """Return the queued deliveries; check that each queued prediction has one job, and no other has any."""
        jobs = self.environment.plain.execute(
            "select args->>'id', task_name, args->>'event' from procrastinate_jobs where status = 'todo' order by id"
        ).fetchall()
        queued = sorted(model.id for model in self.models.values() if model.queued)
        assert sorted(id_ for id_, task, _ in jobs if task == "attempt") == queued
        events: dict[str, list[str]] = {id_: [] for id_ in self.models}
        for id_, task, event in jobs:
            if task == "webhook":
                events[id_].append(event)
        return events


def test_the_record_behaves_like_its_model(database_url: str, tmp_path: Path) -> None:
    RecordMachine.environment = Environment(database_url, tmp_path)
    machine_settings = settings(
        max_examples=15,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(RecordMachine, settings=machine_settings)
    finally:
        RecordMachine.environment.close()
