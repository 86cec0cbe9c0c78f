import pickle

import pytest

from httpd.config.errors import BadValueError, ConfigError, ConfigErrors, did_you_mean, shown, wrong_type


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (("a.toml", 3, "server.x", "unknown key", "hint"), "a.toml:3: server.x: unknown key; hint"),
        (("a.toml", 3, "server.x", "unknown key", ""), "a.toml:3: server.x: unknown key"),
        (("a.toml", 0, "server.x", "bad"), "a.toml: server.x: bad"),
        (("a.toml", 0, "", "bad"), "a.toml: bad"),
        (("", 0, "--listen", "bad"), "--listen: bad"),
        (("", 7, "", "bad"), "bad"),
    ],
)
def test_problem_is_one_line(fields, text):
    assert str(ConfigError(*fields)) == text


def test_no_text_of_a_file_breaks_or_paints_the_line():
    text = str(ConfigError("a\nb", 1, "x\x1b[31m", "new\r\nline", "\u202e"))
    assert text.isprintable()
    assert text == r"a\nb:1: x\x1b[31m: new\r\nline; \u202e"


def test_problem_survives_args_and_pickle():
    problem = ConfigError("a", 1, "k", "m", "h")
    for copy in (ConfigError(*problem.args), pickle.loads(pickle.dumps(problem))):
        assert (copy.path, copy.line, copy.key, copy.message, copy.hint) == ("a", 1, "k", "m", "h")


def test_problems_are_sorted_by_file_and_line():
    problems = [ConfigError("b", 1, "", "4"), ConfigError("a", 10, "", "2"), ConfigError("a", 9, "", "1")]
    errors = ConfigErrors([*problems, ConfigError("a", 10, "", "3")])
    assert [problem.message for problem in errors.problems] == ["1", "2", "3", "4"]
    assert str(errors) == "a:9: 1\na:10: 2\na:10: 3\nb:1: 4"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (5, "5"),
        (10**50, "a huge number"),
        (1.5, "1.5"),
        (float("nan"), "nan"),
        ("a", "'a'"),
        ("a\nb", r"'a\nb'"),
        ("x" * 100, "'" + "x" * 77 + "...'"),
        ([1], "an array"),
        ({}, "a table"),
        (None, "a date or time"),
    ],
)
def test_shown(value, text):
    assert shown(value) == text


def test_hints():
    assert did_you_mean("usr", ["user", "group"]) == "did you mean 'user'?"
    assert did_you_mean("Listen", ["listen"]) == "did you mean 'listen'?"
    assert did_you_mean("zzz", ["user"]) == ""
    error = wrong_type("a size", True, '"1kB"')
    assert isinstance(error, BadValueError)
    assert (error.message, error.hint) == ("expected a size, not true", 'write it as "1kB"')
