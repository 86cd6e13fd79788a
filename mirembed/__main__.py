"""``mirembed`` and ``python -m mirembed``: little is imported here, so that even an early ctrl-C ends in one line."""

import sys


def main() -> None:
    """Run the program; see `mirembed.cli.main`."""
    try:
        from mirembed.cli.main import main as run
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(1)
    run()


if __name__ == "__main__":
    main()
