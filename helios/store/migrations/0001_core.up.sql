-- Market data, features, runs and the engine's own state. Unknown numbers are NULL here and NaN in the program.
CREATE TABLE candles (
    symbol text NOT NULL,
    timeframe text NOT NULL,
    open_time timestamptz NOT NULL,
    open double precision, high double precision, low double precision, close double precision,
    volume double precision, quote_volume double precision, trade_count double precision, buy_volume double precision,
    spread_bps double precision, book_imbalance double precision, depth_log double precision,
    trade_momentum double precision, microprice_bps double precision,
    PRIMARY KEY (symbol, timeframe, open_time)
);
CREATE INDEX candles_by_time ON candles (open_time);

CREATE TABLE recent_trades (
    symbol text NOT NULL,
    trade_id text NOT NULL,
    taker_side smallint NOT NULL CHECK (taker_side IN (1, -1)),
    price double precision NOT NULL,
    quantity double precision NOT NULL,
    executed_at timestamptz NOT NULL,
    ts_ns bigint NOT NULL,
    ts_init_ns bigint NOT NULL,
    PRIMARY KEY (symbol, trade_id)
);
CREATE INDEX recent_trades_by_symbol_time ON recent_trades (symbol, ts_ns DESC);
CREATE INDEX recent_trades_by_time ON recent_trades (executed_at);

CREATE TABLE book_snapshots (
    symbol text NOT NULL,
    ts_ns bigint NOT NULL,
    taken_at timestamptz NOT NULL,
    last numeric NOT NULL,
    bids jsonb NOT NULL,
    asks jsonb NOT NULL,
    spread_bps double precision,
    depth_quote numeric,
    imbalance double precision,
    PRIMARY KEY (symbol, ts_ns)
);
CREATE INDEX book_snapshots_by_time ON book_snapshots (taken_at);

CREATE TABLE feature_rows (
    symbol text NOT NULL,
    bar_time_ns bigint NOT NULL,
    bar_time timestamptz NOT NULL,
    "values" real[] NOT NULL CHECK (cardinality("values") = 90),
    PRIMARY KEY (symbol, bar_time_ns)
);
CREATE INDEX feature_rows_by_time ON feature_rows (bar_time);

CREATE TABLE models (
    version text PRIMARY KEY,
    architecture text NOT NULL,
    parameter_count bigint,
    sample_count bigint,
    validation_accuracy double precision,
    metrics jsonb NOT NULL DEFAULT '{}',
    model_path text NOT NULL,
    scaler_path text,
    is_active boolean NOT NULL DEFAULT false,
    trained_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX models_one_active ON models (is_active) WHERE is_active;

CREATE TABLE runs (
    run_id text PRIMARY KEY,
    config_digest text NOT NULL,
    config jsonb NOT NULL,
    venue text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE engine_state (
    id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    state text NOT NULL DEFAULT 'STOPPED',
    mode text NOT NULL DEFAULT 'PAPER' CHECK (mode IN ('PAPER', 'LIVE')),
    updated timestamptz NOT NULL DEFAULT now()
);
INSERT INTO engine_state DEFAULT VALUES;

CREATE TABLE engine_events (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    severity text NOT NULL,
    component text NOT NULL,
    message text NOT NULL,
    ts_ns bigint NOT NULL,
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX engine_events_by_kind ON engine_events (kind, ts_ns DESC);
