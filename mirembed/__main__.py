"""``python -m mirembed``."""

from mirembed.cli.main import main

if __name__ == "__main__":
    main()
