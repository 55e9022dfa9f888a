"""The client's profile file: names of services, and how to reach them. TOML."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from dbp.errors import InvalidInput, nearest

CONFIG_VARIABLE: Final = "DBP_CLIENT_CONFIG"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Profile:
    """One service; see ``Credentials`` for the fields."""

    address: str = ""
    token_file: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    user: str = ""


_FIELDS: Final = tuple(field.name for field in fields(Profile))


def profile_file() -> Path:
    """Return the path of the profile file, which need not exist."""
    named = os.environ.get(CONFIG_VARIABLE, "")
    if named:
        return Path(named)
    import platformdirs

    return platformdirs.user_config_path("dbp") / "client.toml"


def profiles() -> dict[str, Profile]:
    """Return the services of the profile file by name. Raises InvalidInput."""
    path = profile_file()
    try:
        found = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: is no profile file in TOML: {error}") from error
    services = found.get("service", {})
    if not isinstance(services, dict) or set(found) - {"service"}:
        raise InvalidInput(f"{path}: must hold tables [service.NAME] and nothing else")
    return {
        name: _profile(entry, f"{path}: service.{name}") for name, entry in services.items()
    }


def profile_at(address: str) -> Profile | None:
    """Return the first profile with an address; None: there is none."""
    return next((p for p in profiles().values() if address and p.address == address), None)


def address_of(name: str, source: str) -> str | None:
    """Return the address of a profile; None: this cannot be the name of one.

    Raises InvalidInput for a name that the file does not have, if it has any.
    """
    if not NAME.fullmatch(name):
        return None
    known = profiles()
    if name in known:
        return known[name].address
    if not known:
        return None
    raise InvalidInput(
        f"{source}: {profile_file()} has no service {name!r}{nearest(name, list(known))}; "
        f"it has: {', '.join(known)}"
    )


def _profile(entry: Any, where: str) -> Profile:
    if not isinstance(entry, dict) or not all(isinstance(v, str) for v in entry.values()):
        raise InvalidInput(f"{where}: must be a table of texts")
    unknown = [name for name in entry if name not in _FIELDS]
    if unknown:
        hint = nearest(unknown[0], _FIELDS)
        raise InvalidInput(f"{where}: has no {unknown[0]!r}{hint}; known: {', '.join(_FIELDS)}")
    if not entry.get("address"):
        raise InvalidInput(f"{where}: needs an address, HOST:PORT or unix:PATH")
    return Profile(**entry)
