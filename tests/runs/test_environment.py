import platform

import fedjax_private
from fedjax_private.runs import environment


def test_versions_and_machine_are_plain_values():
    versions = environment.versions()
    assert versions["python"] == platform.python_version()
    assert versions["jax"] and versions["flax"]
    assert versions["fedjax-private"] == fedjax_private.__version__
    assert set(versions) == {"python", *environment.PACKAGES}
    machine = environment.machine()
    assert machine["devices"] >= 1 and machine["backend"] in ("cpu", "gpu", "tpu")
