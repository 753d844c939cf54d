DROP TABLE reviews, risk_decisions, volatility_forecasts, predictions, decisions;
