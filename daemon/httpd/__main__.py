"""The `httpd` command, and `python -m httpd`.

Signals are taken before the program is loaded, which takes a tenth of a second: a TERM in that time is obeyed as soon
as it can be, with exit code 0.
"""

import sys

from httpd.system import detach, signals


def main() -> int:
    """Run the command; returns its exit code."""
    detach.ensure_std_fds()
    wakeup = signals.take_control()
    from httpd import cli

    try:
        return cli.main(wakeup)
    finally:
        # The interpreter resets handlers before it ends, and one more TERM would kill what has ended in order.
        signals.ignore(signals.CONTROL)


if __name__ == "__main__":
    sys.exit(main())
