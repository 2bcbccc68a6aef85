-- Output as it is produced: the items of an iterator, until the prediction has ended.

create table chunks (
    id text not null references predictions (id),
    number integer not null,             -- from 0
    value json not null,                 -- files are strings "file:KEY"
    primary key (id, number)
);
