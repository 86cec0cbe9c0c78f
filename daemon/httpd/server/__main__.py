"""`python -m httpd.server`."""

from __future__ import annotations

from httpd.server.command import main

if __name__ == "__main__":
    main()
