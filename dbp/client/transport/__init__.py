"""Calls and streams of a client: channel, deadlines, retries, downloads. Never imports a
client or a handle."""
