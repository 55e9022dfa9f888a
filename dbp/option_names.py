"""Name options in messages: as flags in the ``dbp`` command, as arguments in Python."""

from __future__ import annotations

_in_command = False


def speak_of_flags() -> None:
    """Name options as flags from now on, since this process runs the ``dbp`` command."""
    global _in_command
    _in_command = True


def speaks_of_flags() -> bool:
    """Return whether options are named as flags, for a process started by this one."""
    return _in_command


def either(command: str, program: str) -> str:
    """Return the text for users of the command, or the one for users of the library."""
    return command if _in_command else program


def option(name: str, value: str = "") -> str:
    """Return an option as a user writes it: ``--max-seconds N``, or ``max_seconds=N``.

    Args:
        name: The argument's name; the flag has dashes instead of underscores.
        value: A value, or a placeholder in capitals; empty for a switch.
    """
    flag = f"--{name.replace('_', '-')}"
    shown = value if not value or value.isupper() else repr(value)
    return either(f"{flag} {value}" if value else flag, f"{name}={shown or True}")
