-- What the sweep looks for when a job was lost: webhooks and deadlines that are owed, and orderly stops.

create index gateway_jobs_webhook on procrastinate_jobs (lock) where task_name = 'webhook' and status in ('todo', 'doing');

create index predictions_deadline on predictions (deadline)
    where status in ('starting', 'processing') and cancel_requested_at is null;

-- The worker of the attempt is shutting down: if the attempt is lost now, it doesn't count.
alter table predictions add column draining boolean not null default false;
