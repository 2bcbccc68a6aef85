-- The deployment that a prediction was created with, which clients see.

alter table predictions add column deployment text;  -- owner/name
