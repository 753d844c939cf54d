-- Daily closes and turnover, remembered: with years of minutes they take longer to find than everything made of them.
-- What a day's candles have been through is counted, by writer, so that no two ever wait for each other's row; the sum over the
-- writers only rises, and a remembered day is good for as long as it is the same.
CREATE TABLE candle_changes (
    day integer NOT NULL,
    writer integer NOT NULL,
    changes bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (day, writer)
) WITH (fillfactor = 50);

CREATE TABLE candle_days (
    day integer PRIMARY KEY,
    changes bigint NOT NULL,
    closes jsonb NOT NULL,
    turnover jsonb NOT NULL
);

CREATE FUNCTION note_candles() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO candle_changes AS c (day, writer)
    SELECT DISTINCT (extract(epoch FROM open_time)::bigint / 86400)::int, pg_backend_pid() FROM changed
    ON CONFLICT (day, writer) DO UPDATE SET changes = c.changes + 1;
    RETURN NULL;
END $$;

-- A desk that starts writes many candles again as they are: only another close or turnover is a change.
CREATE FUNCTION note_revised_candles() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO candle_changes AS c (day, writer)
    SELECT DISTINCT (extract(epoch FROM open_time)::bigint / 86400)::int, pg_backend_pid() FROM (
        (SELECT symbol, timeframe, open_time, close, quote_volume FROM revised
            EXCEPT SELECT symbol, timeframe, open_time, close, quote_volume FROM replaced)
        UNION ALL
        (SELECT symbol, timeframe, open_time, close, quote_volume FROM replaced
            EXCEPT SELECT symbol, timeframe, open_time, close, quote_volume FROM revised)
    ) AS changed
    ON CONFLICT (day, writer) DO UPDATE SET changes = c.changes + 1;
    RETURN NULL;
END $$;

CREATE TRIGGER candles_inserted AFTER INSERT ON candles REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_candles();
CREATE TRIGGER candles_deleted AFTER DELETE ON candles REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_candles();
CREATE TRIGGER candles_revised AFTER UPDATE ON candles REFERENCING OLD TABLE AS replaced NEW TABLE AS revised
    FOR EACH STATEMENT EXECUTE FUNCTION note_revised_candles();
