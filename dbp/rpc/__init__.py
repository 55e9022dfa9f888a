"""The wire: protos to values and back, errors to gRPC status, channels. Never imports
dbp.jobs."""
