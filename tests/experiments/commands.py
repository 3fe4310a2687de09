"""Runs commands as a user does, in processes of their own."""

import subprocess

from fedjax_private.encryption.openfhe.backend import interpreter

SMALL = ("--model=linear", "--rounds=2", "--clients=3")


def run(command, *argv, **options):
    """The finished process of `python -m experiments.<command>`."""
    return subprocess.run(
        [*interpreter(), "-m", f"experiments.{command}", *map(str, argv)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


def last(*argv):
    """The arguments; of a flag that is named twice, only the last."""
    by_name = {}
    for argument in map(str, argv):
        name = argument.partition("=")[0]
        by_name.pop(name, None)
        by_name[name] = argument
    return list(by_name.values())
