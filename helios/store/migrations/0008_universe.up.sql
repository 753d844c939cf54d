-- Symbols that were added to a run or are to be left while it goes on; another run begins with its configuration.
CREATE TABLE universe (
    run_id text NOT NULL,
    symbol text NOT NULL,
    origin text NOT NULL,
    reduce_only boolean NOT NULL,
    instrument jsonb NOT NULL,
    updated timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, symbol)
);
