"""The error text for a service that does not answer at its address."""

from __future__ import annotations

from dbp.option_names import either


def unreached_text(where: str) -> str:
    """Return reason and remedy; ``where`` is the address with the system's reason."""
    option = either("--service HOST:PORT", 'address="HOST:PORT"')
    return (
        f"the service cannot be reached {where}; start it with `dbp serve`, or name another "
        f"with {option}"
    )
