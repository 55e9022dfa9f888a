"""The gRPC face of the service: convert, call, answer. Decides nothing itself."""
