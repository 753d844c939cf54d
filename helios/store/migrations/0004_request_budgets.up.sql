-- What all processes of the cluster together have sent to a venue: one row per route, advanced by one statement per request.
-- Times are microseconds since 1970 by this server's clock, the only clock all of them share.
CREATE TABLE request_budgets (
    venue text NOT NULL,
    address text NOT NULL,
    route text NOT NULL,
    due_us bigint NOT NULL,
    granted_us bigint NOT NULL,
    paused_until_us bigint NOT NULL DEFAULT 0,
    admitted bigint NOT NULL DEFAULT 0,
    pauses bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (venue, address, route)
) WITH (fillfactor = 50);
