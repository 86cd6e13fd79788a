"""``mirembed`` and ``python -m mirembed``: handles ctrl-C before anything large is imported."""

from mirembed.interruption import handle_interrupts


def main() -> None:
    """Run the program; see `mirembed.cli.main`."""
    handle_interrupts()
    from mirembed.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
