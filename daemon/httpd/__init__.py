"""httpd: a preforking HTTP server daemon for files, and for code written for `http.server`."""

__version__ = "0.1.0"
