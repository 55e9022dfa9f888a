"""Many processes, one buffer: communicators and the exchange. Knows no layers."""
