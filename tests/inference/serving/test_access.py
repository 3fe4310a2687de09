import os

import pytest

from fedjax_private.encryption.errors import RefusedError
from fedjax_private.inference.serving.access import (
    Quota,
    default_token_file,
    make_token,
    read_token,
)


def test_a_token_is_made_once_for_its_owner_only(tmp_path):
    path = tmp_path / "new" / "token"
    token = make_token(path)
    assert len(token) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert make_token(path) == read_token(path) == token
    assert make_token(tmp_path / "other") != token


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666])
def test_a_token_that_others_may_read_is_refused(tmp_path, mode):
    path = tmp_path / "token"
    make_token(path)
    path.chmod(mode)
    with pytest.raises(ValueError, match="chmod 600"):
        read_token(path)


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "zz" * 32])
def test_what_is_no_token_is_refused(tmp_path, text):
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        read_token(path)


def test_a_path_without_a_token_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none .*copy of the server's token file"):
        read_token(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/token .*give the path"):
        make_token(tmp_path / "file" / "token")
    with pytest.raises(ValueError, match="choose another path"):
        make_token(tmp_path / "file" / "folder" / "token")


def test_the_default_follows_the_users_configuration(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_token_file() == tmp_path / "fedjax_private" / "inference_token"


def test_a_quota_counts_and_refuses_beyond_its_limit(tmp_path):
    quota = Quota(bytes(32), 10, tmp_path / "queries")
    quota.charge(4)
    quota.charge(6)
    assert quota.left == 0
    with pytest.raises(RefusedError, match="0 images of 10 are left"):
        quota.charge(1)


def test_a_refused_charge_costs_nothing(tmp_path):
    quota = Quota(bytes(32), 10, tmp_path / "queries")
    with pytest.raises(RefusedError, match="counts 11"):
        quota.charge(11)
    quota.charge(10)


def test_a_quota_goes_on_counting_when_started_again(tmp_path):
    token, path = os.urandom(32), tmp_path / "queries"
    Quota(token, 10, path).charge(7)
    again = Quota(token, 10, path)
    assert again.left == 3
    assert Quota(token, 5, path).left == 0
    assert Quota(os.urandom(32), 10, path).left == 10
    assert token.hex() not in path.read_text()


@pytest.mark.parametrize("text", ["", "[]", '{"token": 1}', '{"images": 3}', "\xff"])
def test_a_count_that_cannot_be_read_is_not_taken_for_none(tmp_path, text):
    path = tmp_path / "queries"
    path.write_text(text)
    with pytest.raises(ValueError, match="holds no count"):
        Quota(bytes(32), 10, path)


def test_what_cannot_be_kept_is_not_granted(tmp_path):
    path = tmp_path / "gone" / "queries"
    quota = Quota(bytes(32), 10, path)
    with pytest.raises(OSError, match="gone"):
        quota.charge(1)
    assert quota.left == 10
