import platform

from fedjax_private.runs import environment


def test_versions_and_machine_are_plain_values():
    versions = environment.versions()
    assert versions["python"] == platform.python_version()
    assert versions["jax"] and versions["flax"] and versions["fedjax-private"]
    assert set(versions) == {"python", *environment.PACKAGES}
    machine = environment.machine()
    assert machine["devices"] >= 1 and machine["backend"] in ("cpu", "gpu", "tpu")
