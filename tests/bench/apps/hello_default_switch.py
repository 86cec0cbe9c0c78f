"""The same hello where threads keep the interpreter for as long as Python's default lets them."""

import sys

from hello_handler import Hello

__all__ = ["Hello"]

sys.setswitchinterval(0.005)
sys.setswitchinterval = lambda interval: None
