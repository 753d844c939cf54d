DROP TRIGGER candles_inserted ON candles;
DROP TRIGGER candles_deleted ON candles;
DROP TRIGGER candles_revised ON candles;
DROP FUNCTION note_candles(), note_revised_candles();
DROP TABLE candle_days, candle_changes;
