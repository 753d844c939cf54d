DROP TABLE engine_events, engine_state, runs, models, feature_rows, book_snapshots, recent_trades, candles;
