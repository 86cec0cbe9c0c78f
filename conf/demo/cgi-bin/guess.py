#!/usr/bin/env python3
"""A form that a CGI program answers: guess a number.  With `warm_python` it is there in a few milliseconds."""

import html
import os
import sys
from urllib.parse import parse_qs

sent = sys.stdin.read(int(os.environ.get("CONTENT_LENGTH") or 0))
form = {name: values[0] for name, values in parse_qs(sent).items()}
number = form.get("number", "")
said = "Think of a number between 1 and 100, and send it."
if number.isascii() and number.isdigit():
    said = "That is it!" if int(number) == 42 else "Too small." if int(number) < 42 else "Too large."
elif number:
    said = f"“{number}” is no number."

sys.stdout.reconfigure(encoding="utf-8")
print("Content-Type: text/html; charset=utf-8\n")
print(f"""<!DOCTYPE html>
<html lang="en">
<title>Guess</title>
<link rel="stylesheet" href="/style.css">
<main>
<h1>Guess</h1>
<p class="lead">{html.escape(said)}</p>
<form method="post"><input name="number" autofocus> <button>Send</button></form>
<p class="note">Process {os.getpid()} answered. <a href="/">Back</a></p>
</main>
</html>""")
