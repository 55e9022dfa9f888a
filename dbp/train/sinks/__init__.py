"""Sinks as plug-ins: their events, their base class, and the thread that runs each of them."""
