-- What every tier said. `decisions` has the whole trace; the other tables repeat parts of it in columns that can be queried.
CREATE TABLE decisions (
    decision_id text COLLATE "C" PRIMARY KEY,
    symbol text NOT NULL,
    bar_time timestamptz NOT NULL,
    bar_time_ns bigint NOT NULL,
    outcome text NOT NULL,
    tier text NOT NULL,
    detail text NOT NULL,
    client_order_id text,
    steps jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX decisions_by_time ON decisions (bar_time_ns DESC);
CREATE INDEX decisions_by_symbol_time ON decisions (symbol, bar_time_ns DESC);

CREATE TABLE predictions (
    decision_id text COLLATE "C" PRIMARY KEY REFERENCES decisions,
    symbol text NOT NULL,
    bar_time_ns bigint NOT NULL,
    model_version text,
    action text,
    confidence double precision,
    probabilities double precision[],
    attention double precision[],
    realised_action text,
    is_correct boolean,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX predictions_by_time ON predictions (bar_time_ns DESC);

CREATE TABLE volatility_forecasts (
    symbol text NOT NULL,
    ts_ns bigint NOT NULL,
    forecast_at timestamptz NOT NULL,
    daily_volatility double precision,
    annualized_volatility double precision,
    regime text NOT NULL,
    method text NOT NULL,
    omega double precision, alpha double precision, beta double precision, nu double precision,
    PRIMARY KEY (symbol, ts_ns)
);

CREATE TABLE risk_decisions (
    decision_id text COLLATE "C" PRIMARY KEY REFERENCES decisions,
    symbol text NOT NULL,
    bar_time_ns bigint NOT NULL,
    side text,
    confidence double precision,
    notional_quote numeric,
    leverage double precision,
    stop_loss_pct double precision,
    take_profit_pct double precision,
    kelly_full double precision,
    kelly_fraction double precision,
    daily_volatility double precision,
    regime text,
    detail jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX risk_decisions_by_symbol_time ON risk_decisions (symbol, bar_time_ns DESC);

CREATE TABLE reviews (
    decision_id text COLLATE "C" PRIMARY KEY REFERENCES decisions,
    symbol text NOT NULL,
    bar_time_ns bigint NOT NULL,
    kind text,
    multiplier double precision,
    reviewer text,
    reasoning text,
    detail jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX reviews_by_symbol_time ON reviews (symbol, bar_time_ns DESC);
