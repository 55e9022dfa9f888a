"""Heartbeats: every process of an attempt reports its phase and step in shared memory."""
