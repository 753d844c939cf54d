-- The write-ahead order ledger. Kept for ever: retention never touches these tables.
CREATE TABLE trading_epochs (
    epoch bigint PRIMARY KEY,
    owner text NOT NULL,
    acquired_at timestamptz NOT NULL DEFAULT now()
);

-- The one row that every writer locks: taking trading over waits for writers under way and turns later ones away.
CREATE TABLE trading_epoch (
    id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    epoch bigint NOT NULL DEFAULT 0
);
INSERT INTO trading_epoch DEFAULT VALUES;

CREATE TABLE orders (
    seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    client_order_id text PRIMARY KEY,
    decision_id text NOT NULL,
    symbol text NOT NULL,
    side smallint NOT NULL CHECK (side IN (1, -1)),
    quantity_base numeric NOT NULL,
    reference_price numeric NOT NULL,
    reduce_only boolean NOT NULL,
    leg text NOT NULL,
    leverage double precision NOT NULL,
    status text NOT NULL,
    filled_base numeric NOT NULL,
    average_price numeric NOT NULL,
    fee_quote numeric NOT NULL,
    ts_event bigint NOT NULL,
    ts_updated bigint NOT NULL,
    epoch bigint NOT NULL,
    reason text NOT NULL,
    deny_codes text[] NOT NULL,
    exit_rule jsonb,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_open ON orders (seq) WHERE status IN ('PENDING', 'SUBMITTED', 'ACCEPTED', 'PARTIALLY_FILLED');
CREATE INDEX orders_by_symbol_time ON orders (symbol, ts_event DESC);
CREATE INDEX orders_by_decision ON orders (decision_id);

CREATE TABLE order_events (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_order_id text NOT NULL REFERENCES orders,
    status text NOT NULL,
    filled_base numeric NOT NULL,
    average_price numeric NOT NULL,
    reason text NOT NULL,
    ts_ns bigint NOT NULL,
    epoch bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX order_events_by_order ON order_events (client_order_id, seq);

CREATE TABLE fills (
    seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    fill_id text PRIMARY KEY,
    client_order_id text NOT NULL REFERENCES orders,
    symbol text NOT NULL,
    side smallint NOT NULL CHECK (side IN (1, -1)),
    quantity_base numeric NOT NULL CHECK (quantity_base > 0),
    price numeric NOT NULL,
    fee numeric NOT NULL,
    fee_currency text NOT NULL,
    fee_quote numeric NOT NULL,
    executed_at timestamptz NOT NULL,
    ts_ns bigint NOT NULL,
    epoch bigint NOT NULL
);
CREATE INDEX fills_by_order ON fills (client_order_id, seq);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER order_events_append_only BEFORE UPDATE OR DELETE ON order_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER fills_append_only BEFORE UPDATE OR DELETE ON fills
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE account_state (
    id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    ts_ns bigint NOT NULL,
    equity_quote numeric NOT NULL,
    peak_equity_quote numeric NOT NULL,
    day date NOT NULL,
    day_start_equity_quote numeric NOT NULL,
    drawdown double precision NOT NULL,
    snapshot jsonb NOT NULL,
    epoch bigint NOT NULL,
    updated timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE equity_snapshots (
    ts_ns bigint PRIMARY KEY,
    taken_at timestamptz NOT NULL,
    equity_quote numeric NOT NULL,
    cash_quote numeric NOT NULL,
    realised_pnl_quote numeric NOT NULL,
    unrealised_pnl_quote numeric NOT NULL,
    fees_quote numeric NOT NULL,
    drawdown double precision NOT NULL,
    daily_loss double precision NOT NULL,
    open_positions integer NOT NULL
);
