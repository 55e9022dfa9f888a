"""``python -m dbp`` is ``dbp``."""

from dbp.cli.main import main

if __name__ == "__main__":
    main()
