"""The gRPC face of the service: convert, call, answer. Stores nothing and decides nothing:
dbp.jobs and dbp.versions do."""
