DROP TABLE upkeep_state;
