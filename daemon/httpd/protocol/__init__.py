"""Sans-IO HTTP/1.1: bytes and values in, bytes and values out.  No sockets, no clock, no threads."""
