ALTER TABLE account_state DROP COLUMN breakers;
