"""Other venues through ccxt. Nothing here imports ccxt before a venue is made: it costs a second and 100 MB."""
