DROP TABLE equity_snapshots, account_state, fills, order_events, orders, trading_epoch, trading_epochs;
DROP FUNCTION refuse_change();
