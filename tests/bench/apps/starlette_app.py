"""Starlette's StaticFiles over the folder BENCH_SITE."""

import os

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

application = Starlette(routes=[Mount("/", StaticFiles(directory=os.environ["BENCH_SITE"]))])
