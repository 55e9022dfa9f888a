"""Rank 0's side of the service: the reporter, and the link process that speaks gRPC for it."""
