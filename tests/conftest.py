"""Settings that hold for every test.

The fixtures `fake_gateway` and `fault_proxy` are not made here: installing the package
gives them to every pytest run, this project's own included (see ``pytest11`` in
``pyproject.toml``).
"""

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.canaries import EAR

# No deadline and no complaint about speed in either: the time an example takes is a property of the machine,
# and a noisy one would fail at random.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# In CI the same examples each time, so that a red run is red again when somebody looks at it.
settings.register_profile(
    "ci", settings.get_profile("default"), derandomize=True, database=None, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# A shell starts what is to run in the background with Ctrl-C ignored, and programs started here inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# --- No secret in any log of any test: see canaries.py. ---


@pytest.fixture(scope="session", autouse=True)
def an_ear_for_secrets() -> Generator[None]:
    """Hear every logger, from the first test to the last."""
    with EAR.put_in():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail the test during which a secret was logged, or printed and read by no one."""
    report = yield
    if report.when == "teardown":
        for name, text in report.sections:
            if name.startswith("Captured std"):  # the log was heard as it came
                EAR.read(text, name)
    if leaks := EAR.take():
        told = "\n".join(dict.fromkeys(leaks))
        if report.passed:
            report.outcome, report.longrepr = "failed", told
        else:
            report.sections.append(("Secrets in the log", told))
    return report
