ALTER TABLE equity_snapshots DROP COLUMN transfers_quote, DROP COLUMN funding_quote;
ALTER TABLE account_state DROP COLUMN peak_rebased_ns;
DROP TABLE account_movements;
