"""Access log, error log, and the ways by which their lines leave the process.

- `access` turns a finished request into one line; `template` reads formats written with Apache's letters;
  `entry` names what a line can show; `stamp` and `escape` write times and client bytes.
- `errors` writes the error log's lines.
- `targets` opens what the configuration names (in the master), `outlets` writes to it, `sink` keeps the
  worker's loop from ever waiting for it.  `stderr` does the same for the master, which has no threads.
"""
