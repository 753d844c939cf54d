-- What tier 5 remembers between signals: views that still stand, and when holdings were looked at and rebalanced.
CREATE TABLE upkeep_state (
    id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    state jsonb NOT NULL,
    updated timestamptz NOT NULL DEFAULT now()
);
