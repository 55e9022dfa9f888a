"""Calls and streams of a client: channel, deadlines, retries, downloads. Knows no handles."""
