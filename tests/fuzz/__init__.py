"""Fuzz the parsers of foreign input: ``make fuzz MINUTES=5``."""
