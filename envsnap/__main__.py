"""Where envsnap starts: the console script, and `python -m envsnap`."""

# What `signal` is made of: built in, and so here at once, while Ctrl-C may meet the imports of the other.
import _signal  # type: ignore[import-not-found]


def main() -> None:
    """Import the command line and run it. Raises SystemExit with a code of the contract.

    Ctrl-C waits a tenth of a second, until all is imported: before that, nobody is there who could say what it came to.
    """
    interrupts = {_signal.SIGINT, _signal.SIGTERM}
    held = interrupts - _signal.pthread_sigmask(_signal.SIG_BLOCK, interrupts)
    from envsnap.cli.main import main as command_line

    command_line(held=held)


if __name__ == "__main__":
    main()
