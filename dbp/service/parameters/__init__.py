"""The parameter service: read, watch, label and publish versions over gRPC."""
