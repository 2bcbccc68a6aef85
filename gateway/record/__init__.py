"""What is known: statuses and transitions, every query by its purpose, migrations, files, retention."""

from gateway.record.clock import Clock, Now, own_time
from gateway.record.database import UNAVAILABLE, DatabaseError, Secrets, migrate, wait_until_migrated
from gateway.record.deliveries import Delivery
from gateway.record.engine import GATEWAY_QUEUE, WEBHOOK_QUEUE, WEBHOOK_TASK, prediction_id_of
from gateway.record.facade import Record, opened
from gateway.record.predictions import NotStoredError, QueueFullError
from gateway.record.rows import (
    Attempt,
    Body,
    File,
    Json,
    JsonObject,
    NewPrediction,
    Outcome,
    Page,
    Position,
    Prediction,
    Token,
    resolve,
)
from gateway.record.statuses import Status
from gateway.record.tasks import register
from gateway.record.tokens import TokenError

__all__ = [
    "GATEWAY_QUEUE",
    "UNAVAILABLE",
    "WEBHOOK_QUEUE",
    "WEBHOOK_TASK",
    "Attempt",
    "Body",
    "Clock",
    "DatabaseError",
    "Delivery",
    "File",
    "Json",
    "JsonObject",
    "NewPrediction",
    "NotStoredError",
    "Now",
    "Outcome",
    "Page",
    "Position",
    "Prediction",
    "QueueFullError",
    "Record",
    "Secrets",
    "Status",
    "Token",
    "TokenError",
    "migrate",
    "opened",
    "own_time",
    "prediction_id_of",
    "register",
    "resolve",
    "wait_until_migrated",
]
