"""Everything that talks to the operating system about the daemon itself.

Each module is a leaf and the only place that touches its subject; what exists on Linux alone stays behind its
functions.
"""
