"""``mirembed`` and ``python -m mirembed``: handles ctrl-C before anything large is imported."""

import signal


def main() -> None:
    """Run the program; see `mirembed.cli.main`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # ctrl-C waits until there is a handler
    from mirembed.interruption import handle_interrupts

    handle_interrupts()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    from mirembed.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
