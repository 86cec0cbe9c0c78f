#!/bin/sh
# A CGI program: what it is told of the request stands in its environment, what it writes is the answer.
echo "Content-Type: text/plain; charset=utf-8"
echo
echo "Hello from process $$ of user $(id -un), in $PWD."
echo "Somebody at $REMOTE_ADDR asks by $REQUEST_METHOD for $REQUEST_URI; behind this script's name stands \"$PATH_INFO\"."
echo
env | sort
echo "Whatever goes to stderr is a line in the server's error log." >&2
