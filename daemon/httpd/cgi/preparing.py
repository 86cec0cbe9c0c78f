"""From what a worker asks for to what is started: the script examined, its variables judged and completed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from httpd.cgi.checks import Examiner
from httpd.cgi.jobs import Job, Names
from httpd.cgi.process import Launch
from httpd.config import schema


class Preparation:
    """Of one mount's scripts."""

    def __init__(self, mount: schema.Cgi, base: Mapping[bytes, bytes], *, switched: bool) -> None:
        """`base` is the environment that all runs share; `switched`: this process became another user."""
        self._base = base
        self._examiner = Examiner(mount, os.geteuid(), switched=switched)
        self._names = Names()

    def launch(self, job: Job) -> Launch:
        """What is to be started for a run.  Raises Refused."""
        run = job.run
        program = self._examiner.examine(run.relative, time.monotonic())
        environment = run.environment
        self._names.judge(environment, run.words)
        environment[b"SCRIPT_FILENAME"] = program.script
        environment.update(self._base)
        words = () if len(program.arguments) > 1 else tuple(run.words)
        script = program.script if len(program.arguments) > 1 else b""
        stdin, stdout, stderr = job.fds
        arguments = program.arguments + words
        return Launch(program.file, arguments, environment, program.folder, stdin, stdout, stderr, script)
