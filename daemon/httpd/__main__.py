"""`python -m httpd`."""

import sys

from httpd.cli import main

sys.exit(main())
