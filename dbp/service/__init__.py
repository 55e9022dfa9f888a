"""The gRPC face of dbp.control; no decision is taken here."""
