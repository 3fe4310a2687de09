"""The folder by itself: imported without JAX, lifted out, extended from outside."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy
import pytest
import scipy

import fedjax_private
import fedjax_private.privacy.accounting as accounting


def readme_example():
    folder = pathlib.Path(accounting.__file__).parent
    text = (folder / "README.md").read_text()
    [block] = re.findall(r"```python\n# my_mechanism.py\n(.*?)```", text, re.DOTALL)
    return block


def test_a_fork_registers_its_mechanism_in_a_file_of_its_own(tmp_path):
    """The README's file, unchanged: priced, composed, calibrated, sampled, kept."""
    source = readme_example()
    assert len([line for line in source.splitlines() if line.strip()]) < 30
    (tmp_path / "my_mechanism.py").write_text(source)
    script = """
import json, math, numpy as np
from my_mechanism import GumbelCount
from fedjax_private.privacy.accounting import *
from scipy import integrate, stats
result = {}
exact = []
for shift in (0.5, -0.5):
    p, q = stats.gumbel_r(shift), stats.gumbel_r(0)
    f = lambda x: math.exp(1.7 * p.logpdf(x) - 0.7 * q.logpdf(x))
    exact.append(math.log(integrate.quad(f, -20, 200, limit=500)[0]) / 0.7)
result["exact"] = max(exact)
result["priced"] = price(GumbelCount(2.0), [1.7], Neighbors.ADD_REMOVE)[0]
def epsilon(event, n=Neighbors.ADD_REMOVE):
    return RdpAccountant(neighbors=n).compose(event).spent(1e-5).epsilon
run = Repeated(GumbelCount(20.0), 10)
result["composed"] = epsilon(run)
result["sampled"] = epsilon(Repeated(Poisson(0.01, GumbelCount(20.0)), 10))
result["round_trip"] = epsilon(from_json(to_json(run)))
make = lambda s: Repeated(GumbelCount(s), 10)
scale = calibrate_noise_multiplier(make, 1.0, 1e-5, Neighbors.REPLACE_ONE)
result["calibrated"] = epsilon(make(scale), Neighbors.REPLACE_ONE)
ledger = Ledger(None, Neighbors.ADD_REMOVE)
ledger.charge(clients=[1], round_number=0, event=run, fingerprint="f", digest="d")
result["ledger"] = ledger.epsilon(1e-5)
print(json.dumps(result))
"""
    output = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={"PYTHONPATH": f"{tmp_path}:{_root()}", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(output.stdout)
    assert result["priced"] == pytest.approx(result["exact"], rel=1e-6)
    assert result["ledger"] == result["composed"] == result["round_trip"]
    assert 0 < result["sampled"] < result["composed"]
    assert 0.999 <= result["calibrated"] <= 1.0


SEEN = """
import sys
for name in accounting.__all__:
    getattr(accounting, name)
heavy = {"jax", "matplotlib", "flax", "optax", "openfhe", "dp_accounting"}
print(sorted(heavy & set(sys.modules)))
"""


def python(script, path):
    output = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return output.stdout.strip()


def test_it_loads_neither_jax_nor_matplotlib():
    script = "import fedjax_private.privacy.accounting as accounting\n" + SEEN
    assert python(script, _root()) == "[]"


def test_it_can_be_lifted_out(tmp_path):
    """As the README says: a copy of the folder, its own name in its imports."""
    source = pathlib.Path(accounting.__file__).parent
    (tmp_path / "lifted").mkdir()
    for file in source.glob("*.py"):
        text = file.read_text().replace("fedjax_private.privacy.accounting", "lifted")
        assert "fedjax_private" not in text, file
        (tmp_path / "lifted" / file.name).write_text(text)
    script = (
        "import lifted as accounting\n"
        + SEEN
        + "relation = accounting.Neighbors.ADD_REMOVE\n"
        "books = accounting.RdpAccountant(neighbors=relation)\n"
        "print(books.compose(accounting.Gaussian(4.0)).epsilon(1e-5))\n"
        "print('fedjax_private' in sys.modules)"
    )
    books = accounting.RdpAccountant(neighbors=accounting.Neighbors.ADD_REMOVE)
    epsilon = books.compose(accounting.Gaussian(4.0)).epsilon(1e-5)
    assert python(script, tmp_path).splitlines() == ["[]", str(epsilon), "False"]


@pytest.fixture
def alone(tmp_path):
    """Runs Python where the folder, NumPy and SciPy are all that is installed.

    The folder is below no package, as its own distribution installs it. Returns the
    finished process.
    """
    source = pathlib.Path(accounting.__file__).parent
    target = tmp_path / "fedjax_private" / "privacy" / "accounting"
    shutil.copytree(source, target, ignore=lambda path, names: {"__pycache__"})
    for package in (numpy, scipy):
        path = pathlib.Path(package.__file__).parent
        (tmp_path / path.name).symlink_to(path)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-S", *arguments],  # no site-packages
            env={"PYTHONPATH": str(tmp_path), "PATH": ""},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_numpy_and_scipy_are_all_that_it_needs(alone):
    script = f"""
import fedjax_private.privacy.accounting as accounting
{SEEN}
from fedjax_private.privacy.accounting import *
def run(sigma):
    return Repeated(Poisson(0.01, Gaussian(sigma)), 100)
sigma = calibrate_noise_multiplier(run, 2.0, 1e-5, Neighbors.ADD_REMOVE)
ledger = Ledger("spent.jsonl", Neighbors.ADD_REMOVE)
ledger.charge(
    clients=[1], round_number=0, event=run(sigma), fingerprint="f", digest="d"
)
print(1.99 < ledger.epsilon(1e-5) <= 2.0)
print(hasattr(sys.modules["fedjax_private"], "__version__"))
import absl
"""
    finished = alone("-c", script)
    assert finished.stdout.splitlines() == ["[]", "True", "False"]
    assert "No module named 'absl'" in finished.stderr


def test_its_command_needs_matplotlib_to_draw_only(alone):
    argv = ["-m", "fedjax_private.privacy.accounting", "--noise_multiplier=1.3"]
    argv += ["--sampling_probability=0.01", "--steps=10", "--delta=1e-5"]
    finished = alone(*argv)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("epsilon: 0.")
    finished = alone(*argv, "--plot=curve.png")
    assert finished.returncode == 2 and finished.stdout == ""
    assert finished.stderr == (
        "python -m fedjax_private.privacy.accounting: --plot needs matplotlib (No "
        "module named 'matplotlib'): pip install matplotlib.\n"
    )


def test_its_distribution_has_the_library_s_version_and_no_more_requirements():
    folder = pathlib.Path(accounting.__file__).parent
    text = (folder / "pyproject.toml").read_text()
    [required] = re.findall(r"^dependencies = (.*)$", text, re.MULTILINE)
    names = {re.split(r"\W", each)[0] for each in json.loads(required)}
    assert names == {"numpy", "scipy"}
    assert accounting.__version__ == fedjax_private.__version__
    assert (folder / "LICENSE").read_text() == (_root() / "LICENSE").read_text()


def _root():
    return pathlib.Path(accounting.__file__).parents[3]


def test_public_claims_state_their_guarantees():
    for name in ("RdpAccountant", "Ledger", "price", "register", "fingerprint"):
        assert "Formal guarantees:" in getattr(accounting, name).__doc__, name
    for module in (accounting.accountant, accounting.calibration, accounting.ledger):
        text = pathlib.Path(module.__file__).read_text()
        assert "Formal guarantees:" in text
