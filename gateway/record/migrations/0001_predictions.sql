-- What the gateway knows: tokens, predictions, the servers behind it, and counts of what has ended.

create table tokens (
    id bigint primary key generated always as identity,
    name text not null,
    hash bytea not null unique,          -- SHA-256 of the token; the token itself is shown once and not kept
    created_at timestamptz not null default now(),
    revoked_at timestamptz               -- the row stays, since predictions point at it
);
create unique index tokens_name on tokens (name) where revoked_at is null;

create table secrets (
    name text primary key,
    value bytea not null
);

create table predictions (
    id text primary key,
    owner bigint not null references tokens (id),
    model text not null,                 -- owner/name
    version text not null,
    queue text not null,                 -- where its jobs go: one queue for each version of a model
    base_url text not null,              -- by which the client reached the gateway; its URLs begin so
    input json not null,                 -- json, not jsonb: keeps the order of keys, and \u0000
    status text not null default 'starting'
        check (status in ('starting', 'processing', 'succeeded', 'failed', 'canceled')),
    output json,                         -- files are strings "file:KEY"
    files json not null default '[]',    -- [{key, name, media_type, size}]
    logs text not null default '',
    error text,
    metrics json not null default '{}',
    created_at timestamptz not null default now(),
    started_at timestamptz,
    completed_at timestamptz,
    deadline timestamptz,
    cancel_requested_at timestamptz,
    data_removed boolean not null default false,
    webhook text,
    webhook_events text[] not null default '{}',
    -- The attempt. job_id is the fence: a worker writes only where it is still its own job's.
    job_id bigint not null,
    attempts integer not null default 0,
    beat_at timestamptz,                 -- of the running attempt; null while it waits in the queue
    server text,                         -- the Cog server that runs it
    boot text,                           -- that server's boot id
    callback text                        -- the URL that the server's webhooks go to
);

create index predictions_page on predictions (owner, created_at desc, id desc);
create index predictions_job on predictions (job_id);
create index predictions_live on predictions (job_id) where status in ('starting', 'processing');
create index predictions_queued on predictions (owner) where status in ('starting', 'processing');
create index predictions_kept on predictions (completed_at) where not data_removed;

create table deliveries (                -- of the terminal webhook
    id text primary key references predictions (id),
    body bytea not null,                 -- serialised once, at the end
    tries integer not null default 0,
    done_at timestamptz,                 -- delivered, or given up
    delivered boolean not null default false
);
create index deliveries_open on deliveries (id) where done_at is null;

-- The sweep asks the engine's table each second; without this it reads all the jobs that have ended too.
create index gateway_jobs_doing on procrastinate_jobs (task_name) where status = 'doing';

-- Deadlines that are not needed any more are found by their prediction.
create index gateway_jobs_expiry on procrastinate_jobs ((args->>'id')) where task_name = 'expire' and status = 'todo';

create table servers (                   -- the Cog servers that workers see

    name text primary key,
    queue text not null,
    health text not null,
    seen_at timestamptz not null default now()
);

create table ends (
    model text not null,
    version text not null,
    status text not null,
    count bigint not null,
    queue_s double precision not null,   -- sums, from created to started and from started to completed
    run_s double precision not null,
    primary key (model, version, status)
);
