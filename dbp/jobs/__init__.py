"""Running jobs: the job table, scheduling, attempts and watching. No gRPC, no numpy."""
