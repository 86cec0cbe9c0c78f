"""CGI/1.1 (RFC 3875): which script, with what environment, run how, and what its output means."""
