"""Callers of a service: roles, tokens, the methods that each role may call. No gRPC."""
