"""Settings that hold for every test.

The fixtures `fake_gateway` and `fault_proxy` are not made here: installing the package
gives them to every pytest run, this project's own included (see ``pytest11`` in
``pyproject.toml``).
"""

import os

from hypothesis import HealthCheck, settings

# No deadline and no complaint about speed in either: the time an example takes is a property of the machine,
# and a noisy one would fail at random.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# In CI the same examples each time, so that a red run is red again when somebody looks at it.
settings.register_profile(
    "ci", settings.get_profile("default"), derandomize=True, database=None, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "default")
