"""The same handlers where threads keep the interpreter for as long as Python's default lets them."""

import sys

from hello_handler import Burn, Hello

__all__ = ["Burn", "Hello"]

sys.setswitchinterval(0.005)
sys.setswitchinterval = lambda interval: None  # the worker cannot lower it again
