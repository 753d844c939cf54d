"""Values of the trading domain: frozen, slotted, versioned. No I/O, no clock, no Ray."""
