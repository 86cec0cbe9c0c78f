"""aiohttp's static route over the folder BENCH_SITE, on uvloop: `aiohttp_app.py PORT LOGFILE`."""

import logging
import os
import sys

import uvloop
from aiohttp import web

if __name__ == "__main__":
    logging.basicConfig(filename=sys.argv[2], format="%(message)s", level=logging.INFO)
    application = web.Application()
    application.router.add_static("/", os.environ["BENCH_SITE"])
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), loop=uvloop.new_event_loop(), print=None)
