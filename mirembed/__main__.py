"""``mirembed`` and ``python -m mirembed``: handles ctrl-C before anything large is imported."""

import sys

from mirembed.progress import handle_interrupts


def main() -> None:
    """Run the program; see `mirembed.cli.main`."""
    handle_interrupts()
    try:
        from mirembed.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit("interrupted")
    run()


if __name__ == "__main__":
    main()
