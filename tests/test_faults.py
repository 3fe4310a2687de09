"""Where errors arose, in words."""

import importlib

import numpy as np
import pytest

from fedjax_private.faults import with_place


def caught(function, *arguments):
    with pytest.raises(ValueError) as raised:
        function(*arguments)
    return raised.value


def fails(text):
    raise ValueError(text)


def test_the_innermost_line_of_a_user(tmp_path, monkeypatch):
    source = "import numpy as np\n\ndef outer():\n    inner()\n\ndef inner():\n"
    (tmp_path / "theirs.py").write_text(source + "    np.zeros(3).reshape(2, 2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    error = caught(importlib.import_module("theirs").outer)
    assert with_place(error) == f"{error} (theirs.py, line 7)"
    assert with_place(error, "other words") == "other words (theirs.py, line 7)"


def test_errors_of_the_library_alone_stay_as_they_are():
    error = caught(fails, "some words")
    error.__traceback__ = None
    assert with_place(error) == "some words"
    assert "test_faults.py" in with_place(caught(np.zeros(3).reshape, 2, 2))
