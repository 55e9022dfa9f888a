"""Rank 0's side of the service: the reporter, typed messages, and the link process, which alone
speaks gRPC. Never trains, and never delays a step."""
