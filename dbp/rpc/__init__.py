"""gRPC plumbing: protos to values and back, errors, channels, rank 0's link process."""
