"""For all tests: what they start and write ends with them."""

pytest_plugins = ["tests.leftovers"]
