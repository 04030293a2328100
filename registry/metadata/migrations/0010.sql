-- Keys in the order in which they were made, which is the order of their rows: whoever goes over all of them goes from
-- page to page.
CREATE INDEX blob_keys_by_age ON blob_keys (domain, created_at, digest);
