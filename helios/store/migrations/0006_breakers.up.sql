-- What the circuit breakers remember: an open one must outlive a restart.
ALTER TABLE account_state ADD COLUMN breakers text NOT NULL DEFAULT '';
