"""Folders and files that a user can't reach, tried as that user."""

from __future__ import annotations

import os

import pytest

from httpd.config.reach import file_obstacle, folder_obstacle


@pytest.fixture
def folder(open_folder, as_user, user_name):
    """Ask about a folder below the open one, as an ordinary user."""

    def ask(name: str, **options: bool) -> str:
        message, hint = as_user(lambda: folder_obstacle(str(open_folder / name), user_name, **options))
        return f"{message}; {hint}".replace(f"{open_folder}/", "").removesuffix("; ")

    return ask


@pytest.fixture
def file(open_folder, as_user, user_name):
    def ask(name: str) -> str:
        message, hint = as_user(lambda: file_obstacle(str(open_folder / name), user_name))
        return f"{message}; {hint}".replace(f"{open_folder}/", "").removesuffix("; ")

    return ask


def make(base, *names, mode=0o755):
    for name in names:
        path = base / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        path.chmod(mode)


def test_open(open_folder, folder, file):
    make(open_folder, "a/b/", "a/f")
    (open_folder / "link").symlink_to("a/../a/b")
    assert folder("a/b", listing=True) == ""
    assert folder("link", listing=True) == ""
    assert file("a/f") == ""


def test_missing(open_folder, folder, file):
    make(open_folder, "a/")
    assert folder("a/b") == "'a/b' does not exist"
    assert folder("x/y/z") == "'x/y/z' does not exist: there is no 'x'"
    assert file("a/b") == "'a/b' does not exist"


def test_wrong_kind(open_folder, folder, file):
    make(open_folder, "f", "d/")
    os.mkfifo(open_folder / "pipe")
    (open_folder / "pipe").chmod(0o644)
    assert folder("f") == "'f' is not a folder"
    assert folder("f/x") == "'f/x' does not exist: 'f' is not a folder"
    assert file("d") == "'d' is not a regular file"
    assert file("pipe") == "'pipe' is not a regular file"


def rights(path):
    from httpd.config.reach import _rights

    return _rights(str(path))


def test_first_closed_component_is_named(open_folder, folder, file, user_name):
    make(open_folder, "a/b/c/d/", "a/b/c/f")
    (open_folder / "a" / "b").chmod(0o600)
    text = f"user {user_name!r} may not enter 'a/b' ({rights(open_folder / 'a/b')}), on the way to 'a/b/c/d'; "
    assert folder("a/b/c/d") == text + "chmod o+x a/b, or let the user in by its group"
    assert file("a/b/c/f").startswith(f"user {user_name!r} may not enter 'a/b' (drw-------")


def test_behind_a_link_the_real_folder_is_named(open_folder, folder, user_name):
    make(open_folder, "secret/www/", "sites/")
    (open_folder / "sites" / "a").symlink_to("../secret/www")
    (open_folder / "secret").chmod(0)
    assert folder("sites/a").startswith(f"user {user_name!r} may not enter 'secret' (d---------")


def test_the_folder_itself(open_folder, folder, user_name):
    make(open_folder, "list/", mode=0o711)
    make(open_folder, "closed/", mode=0o644)
    if os.geteuid() != 0:  # the owner's bits count
        (open_folder / "list").chmod(0o311)
    assert folder("list") == ""
    assert folder("list", listing=True).startswith(f"user {user_name!r} may not list 'list' (d")
    assert folder("list", listing=True).endswith("; chmod o+r list")
    assert folder("closed").startswith(f"user {user_name!r} may not enter 'closed' (drw-r--r--")


def test_closed_file(open_folder, file, user_name):
    make(open_folder, "f", mode=0)
    assert file("f") == f"user {user_name!r} may not read 'f' ({rights(open_folder / 'f')}); chmod o+r f"


def test_loop_of_links(open_folder, folder):
    (open_folder / "a").symlink_to("b")
    (open_folder / "b").symlink_to("a")
    assert folder("a") == "'a' can't be opened: Too many levels of symbolic links"
