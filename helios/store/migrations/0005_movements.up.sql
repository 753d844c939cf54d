-- Money that came or went without a trade, kept for ever like the fills: without it no restart could rebuild the account.
CREATE TABLE account_movements (
    seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    movement_id text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('TRANSFER', 'FUNDING')),
    symbol text NOT NULL,
    currency text NOT NULL,
    amount numeric NOT NULL,
    value_quote numeric,
    moved_at timestamptz NOT NULL,
    ts_ns bigint NOT NULL,
    epoch bigint NOT NULL
);
CREATE TRIGGER account_movements_append_only BEFORE UPDATE OR DELETE ON account_movements
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- When a person last reset the peak (ns, 0: never): from then on no replayed fill may raise it.
ALTER TABLE account_state ADD COLUMN peak_rebased_ns bigint NOT NULL DEFAULT 0;

-- A day's return is its change of equity less what was paid in.
ALTER TABLE equity_snapshots
    ADD COLUMN funding_quote numeric NOT NULL DEFAULT 0,
    ADD COLUMN transfers_quote numeric NOT NULL DEFAULT 0;
