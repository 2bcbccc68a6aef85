-- Files that clients upload or send inside an input, and what a worker needs to hand inputs to a container.

create table files (
    id text primary key,
    owner bigint not null references tokens (id),
    prediction text references predictions (id),  -- whose input contained it as a data URL; null if it was uploaded
    key text not null,                   -- in the store
    name text not null,
    media_type text not null,
    size bigint not null,                -- while it arrives, how large it may become: that much of the quota is taken
    sha256 text not null default '',
    md5 text not null default '',
    metadata json not null default '{}',
    state text not null default 'arriving' check (state in ('arriving', 'stored', 'deleted')),
    created_at timestamptz not null default now(),
    expires_at timestamptz               -- null: never, or with its prediction
);
create index files_page on files (owner, created_at desc, id desc);
create index files_of_prediction on files (prediction) where prediction is not null;
create index files_unsettled on files (created_at) where state != 'stored';
create index files_expiring on files (expires_at) where state = 'stored' and expires_at is not null;

alter table predictions add column input_files json not null default '[]';  -- [{at, file}]

create table secret_inputs (             -- of predictions that have not ended
    id text primary key references predictions (id),
    value bytea not null                 -- encrypted JSON, by name
);
