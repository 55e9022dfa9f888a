"""Entry point of ``dbp`` and ``python -m dbp``; Ctrl-C while loading exits with 130."""

from __future__ import annotations

from typing import NoReturn

from dbp.exit_codes import INTERRUPTED


def main() -> NoReturn:
    """Run the command in ``sys.argv`` and end the process with its exit code."""
    try:
        from dbp.cli.main import main as run

        run()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
