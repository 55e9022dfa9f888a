"""The gRPC services over dbp.control: convert, call, answer. Decisions are made there."""
