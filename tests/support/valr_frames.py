"""Frames as the venue documents or sends them (see the codec's reference); prices shortened nowhere."""

from __future__ import annotations

PAIR_SYMBOLS = {
    "BTCUSDTPERP": "BTC/USDT:USDT", "BTCUSDT": "BTC/USDT", "BTCUSDC": "BTC/USDC", "BTCZAR": "BTC/ZAR",
}  # fmt: skip

SUMMARY = """{"type":"MARKET_SUMMARY_UPDATE","currencyPairSymbol":"BTCUSDTPERP","data":{
 "currencyPairSymbol":"BTCUSDTPERP","askPrice":"86491","bidPrice":"86476","lastTradedPrice":"86355",
 "previousClosePrice":"85518","baseVolume":"10.0569","quoteVolume":"865059.997","highPrice":"86706",
 "lowPrice":"85117","created":"2026-09-23T03:14:35.175Z","changeFromPrevious":"0.97","markPrice":"86476"}}"""
AGGREGATED = """{"type":"AGGREGATED_ORDERBOOK_UPDATE","currencyPairSymbol":"BTCUSDT","data":{
 "Asks":[{"side":"sell","quantity":"0.005","price":"9500","currencyPair":"BTCUSDT","orderCount":1}],
 "Bids":[{"side":"buy","quantity":"0.038","price":"9000","currencyPair":"BTCUSDT","orderCount":1}],
 "LastChange":"2020-06-01T11:54:51.634Z","SequenceNumber":452998}}"""
SNAPSHOT = """{"type":"OB_L1_SNAPSHOT","ps":"BTCUSDTPERP","d":{"lc":1790133277857,
 "a":[["86491","0.0598"]],"b":[["86476","0.0115"]],"sq":907135,"cs":915468303}}"""
DIFF = """{"type":"OB_L1_DIFF","ps":"BTCUSDC","d":{"lc":1644303209930,
 "a":[["45363","0.00102078"],["46125","0.0418"],["46126","0"]],"b":[],"sq":589628111,"cs":604745093}}"""
DEPTH = """{"type":"OB_L1_D10_SNAPSHOT","ps":"BTCUSDC","d":{"lc":1644301604645,"a":[["45363","0.01102078"]],
 "b":[["45147","0.011"]]}}"""
TRADE = """{"type":"NEW_TRADE","currencyPairSymbol":"BTCZAR","data":{"price":"1360468","quantity":"0.0004402",
 "currencyPair":"BTCZAR","tradedAt":"2024-03-27T12:33:19.918Z","takerSide":"buy","id":"31934cc3-ec36-11ee-92bb-8f9d774e71b6"}}"""
BUCKET = """{"type":"NEW_TRADE_BUCKET","currencyPairSymbol":"BTCUSDC","data":{"currencyPairSymbol":"BTCUSDC",
 "bucketPeriodInSeconds":60,"startTime":"2024-04-05T09:03:00Z","open":"67500","high":"67500","low":"67500","close":"67500",
 "volume":"0","quoteVolume":"0"}}"""
MARK = '{"type":"MARK_PRICE_UPDATE","currencyPairSymbol":"BTCUSDTPERP","data":{"price":"86476"}}'
SUBSCRIBED = '{"type":"SUBSCRIBED","message":"OB_L1_DIFF:BTCUSDTPERP"}'
UNSUBSCRIBED = '{"type":"UNSUBSCRIBED","message":"OB_L1_DIFF:BTCUSDTPERP"}'
PONG = '{"type":"PONG"}'
PONG_IDLE = '{"type":"PONG","message":"NO_SUBSCRIPTIONS"}'
AUTHENTICATED = '{"type":"AUTHENTICATED"}'
ERROR = '{"type":"ERROR","message":"Channel OB_L1_DIFF, pair NOPEUSDTPERP combination invalid"}'

ORDERS_SNAPSHOT = """{"type":"FULL_ORDERBOOK_SNAPSHOT","currencyPairSymbol":"BTCUSDC","data":{"LastChange":1644301604645,
 "Asks":[{"Price":"45363","Orders":[{"orderId":"1d2e7745-5020-4d48-a77e-afc787ad048d","quantity":"0.0019"}]}],
 "Bids":[{"Price":"45147","Orders":[{"orderId":"763080a8-9154-4c41-98de-ae09a0cf48cd","quantity":"0.00014782"}]}],
 "SequenceNumber":589628037,"Checksum":1074477335}}"""
ORDERS_UPDATE = """{"type":"FULL_ORDERBOOK_UPDATE","currencyPairSymbol":"BTCUSDC","data":{"LastChange":1644303209930,
 "Asks":[{"Price":"45363","Orders":[{"orderId":"1d2e7745-5020-4d48-a77e-afc787ad048d","quantity":"0.00102078"},
 {"orderId":"33ceace1-d1e8-4d41-af96-9b13b655f0e8","quantity":"0"}]}],"Bids":[],
 "SequenceNumber":589628039,"Checksum":604745093}}"""
ORDER_TYPES = '{"type":"ALLOWED_ORDER_TYPES_UPDATED","currencyPairSymbol":"BTCZAR","data":["LIMIT","LIMIT_POST_ONLY","MARKET"]}'
PNL_RUN = '{"type":"PNL_RUN_COMPLETED","currencyPairSymbol":"BTCUSDTPERP","data":{"price":"116048"}}'
FUNDING_RUN = '{"type":"FUNDING_RUN_COMPLETED","currencyPairSymbol":"BTCUSDTPERP"}'

FRAMES = [
    SUMMARY, AGGREGATED, SNAPSHOT, DIFF, DEPTH, TRADE, BUCKET, MARK,
    SUBSCRIBED, UNSUBSCRIBED, PONG, PONG_IDLE, AUTHENTICATED, ERROR,
    ORDERS_SNAPSHOT, ORDERS_UPDATE, ORDER_TYPES, PNL_RUN, FUNDING_RUN,
]  # fmt: skip

SPOT_ROW = """{"symbol":"ETHZAR","baseCurrency":"ETH","quoteCurrency":"ZAR","shortName":"ETH/ZAR","active":true,
 "minBaseAmount":"0.0002","maxBaseAmount":"69.21","minQuoteAmount":"10","maxQuoteAmount":"5000000","tickSize":"1",
 "baseDecimalPlaces":"8","marginTradingAllowed":true,"currencyPairType":"SPOT","initialMarginFraction":"0.2",
 "maintenanceMarginFraction":"0.1","autoCloseMarginFraction":"0.033333333"}"""
BUCKET_ROW = """{"currencyPairSymbol":"BTCUSDC","bucketPeriodInSeconds":60,"startTime":"2025-07-22T12:56:00Z","open":"119350",
 "high":"119350","low":"119350","close":"119350","volume":"0","quoteVolume":"0"}"""
