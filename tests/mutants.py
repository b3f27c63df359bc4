"""Mutation testing of the pure modules: ``python -m tests.mutants`` (or ``make mutants``).

Each mutant of :mod:`tests.mutations` is one small wrong change. A test has to fail with it ("killed"). One
that survives lacks a test, or makes no difference, and then ``tests/surviving_mutants.txt`` says why.

How it is fast enough: one process for each module imports pytest, collects the module's tests (:data:`TESTS`)
and forks for each mutant. In the fork the mutant's function gets its changed code, and the tests that
run the changed lines, the quickest first, go until one fails. What an import runs (tables, defaults,
constants) cannot be changed afterwards, so there the fork happens before our first import. No source file
is written.

mutmut 3.8 was tried and works here. It changes nothing outside functions, which is where tables, limits and
defaults are, and it changes the words of errors, which nobody promises; so this is a tool of our own.
"""

import argparse
import ast
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from random import Random
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import coverage
import pytest
from hypothesis import Phase, settings

from .mutations import Mutant, mutants_of

ROOT: Final = Path(__file__).parent.parent
SURVIVORS: Final = Path(__file__).with_name("surviving_mutants.txt")

#: At least so many of the mutants of each module must be killed, in percent, however good the reasons of the
#: others are. In a module with a short way beside the general one, many a change costs nothing but time.
LEAST: Final = 80.0

#: The tests that are to notice a change of a pure module: the whole list ``PURE`` of the Makefile.
TESTS: Final[dict[str, tuple[str, ...]]] = {
    "_states": ("states", "herd"),
    "_outcomes": ("outgoing", "buffer"),
    "_outgoing": ("outgoing", "buffer", "in_flight", "sender"),
    "_lanes": ("lanes", "buffer"),
    "_frames": ("frames",),
    "_http_answers": ("http_answers", "http", "clients"),
    "_contents": ("contents", "rest_requests", "rpc_requests"),
    "_operations": ("operations", "rest_operations", "rpc_requests"),
    "_targets": ("targets",),
    "_recipients": ("recipients",),
    "_continuity": ("continuity", "hub_frames", "inbox"),
    "_duplicates": ("duplicates", "receiving"),
    "_acknowledgements": ("acknowledge", "inbox"),
    "_envelopes": ("envelopes", "duplicates"),
    "_decoding": ("envelopes",),
    "_salvage": ("envelopes",),
    "_wire": ("envelopes",),
    "_errors": ("errors",),
    "_buffer": ("buffer", "in_flight", "store_client"),
    "_deadlines": ("deadlines", "buffer"),
    "_ratelimit": ("ratelimit",),
    "_pause": ("pause",),
    "_inbox": ("inbox", "acknowledge", "receiving", "client"),
    "hub/log": ("hub_log",),
    "hub/_pages": ("hub_log",),
    "hub/_protocol": ("hub_protocol",),
    "hub/_incoming": ("hub_incoming",),
    "hub/_request_head": ("hub_request_head",),
    "hub/_recovered": ("hub_recovered",),
    "hub/_framing": ("hub_request_head", "hub_http"),
    "gateways/_hub_wire": ("hub_frames", "hub_sends", "hub_operations"),
    "gateways/_hub_frames": ("hub_frames",),
    "gateways/_hub_answers": ("hub_gateway", "hub_sends"),
    "gateways/_hub_operations": ("hub_operations",),
    "gateways/_rest_answers": ("rest_answers",),
    "gateways/_rest_requests": ("rest_requests", "rest_gateway"),
    "gateways/_rest_operations": ("rest_operations",),
    "gateways/_rest_results": ("rest_operations", "account"),
    "gateways/_operation_answers": ("rest_operations", "rpc_answers", "account"),
    "gateways/_rpc_answers": ("rpc_answers",),
    "gateways/_rpc_requests": ("rpc_requests",),
    "gateways/_rpc_results": ("rpc_requests", "rpc_answers", "account"),
    "gateways/_sse": ("sse",),
    "gateways/_backlog": ("backlog",),
    "gateways/_event_answers": ("event_link",),
    "_styles": ("styles",),
    "_evidence": ("evidence",),
    "_people": ("evidence",),
    "store/_batch": ("store_database", "hub_log"),
    "store/_schema": ("store_database",),
    "store/_codec": ("store_codec",),
}

#: Seconds of processor time that a test gets on top of five times what it takes. More is a loop.
_GRACE: Final = 1.0
#: Who sleeps for so many seconds without using any is taken to wait for ever.
_IDLE: Final = 4.0
#: What importing and collecting may take, in seconds of processor time.
_START: Final = 10.0
#: How many examples Hypothesis tries for each mutant where a test does not say. 100 take three times as long.
_EXAMPLES: Final = 30
#: What a mutant may take in memory, in bytes.
_MEMORY: Final = 4 * 1024**3

# Only what these tests need: a plugin takes time to import, and some measure or distribute.
_PLUGINS: Final = (
    "pytest_timeout",
    "pytest_trio.plugin",
    "_hypothesis_pytestplugin",
    "trio_signal.testing._fixtures",
)
_OPTIONS: Final = (
    "-q",
    "-x",
    "--tb=no",
    "--assert=plain",
    "--capture=no",
    "--timeout=0",
    "-o",
    "cache_dir=.cache/mutants",
)


# --- What is known of a module before anything is changed. ---


@dataclass
class Module:
    """A pure module, its mutants and its tests."""

    name: str
    path: Path
    source: str
    tree: ast.Module
    mutants: list[Mutant]

    @classmethod
    def read(cls, name: str) -> "Module":
        path = ROOT / "trio_signal" / f"{name}.py"
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source, str(path))
        return cls(name, path, source, tree, mutants_of(tree))

    @property
    def imported_as(self) -> str:
        return f"trio_signal.{self.name.replace('/', '.')}"

    @property
    def files_of_tests(self) -> list[str]:
        paths = [ROOT / "tests" / f"test_{name}.py" for name in TESTS[self.name]]
        return [str(path) for path in paths if path.exists()]

    def mutated(self, index: int) -> CodeType:
        """Return the module's code with one change. To be called in a fork: the tree stays changed."""
        self.mutants[index].edit.make()
        code: CodeType = compile(self.tree, str(self.path), "exec", dont_inherit=True)
        return code


@dataclass
class Baseline:
    """What the tests do with the module as it is.

    Attributes:
        took: the seconds of each test, by its id.
        by_line: which tests run a line.
        at_import: the lines that an import runs.
        modules: what had been imported in the end, ours apart.
    """

    took: dict[str, float] = field(default_factory=dict[str, float])
    by_line: dict[int, set[str]] = field(default_factory=dict[int, set[str]])
    at_import: set[int] = field(default_factory=set[int])
    modules: list[str] = field(default_factory=list[str])

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Return the tests that can notice it, the quickest first."""
        if self.is_run_by_import(mutant):
            return sorted(self.took, key=self.took.__getitem__)
        ids = {test for line in mutant.lines for test in self.by_line.get(line, ())}
        return sorted(ids, key=self.took.__getitem__)

    def is_run_by_import(self, mutant: Mutant) -> bool:
        return mutant.function is None or not self.at_import.isdisjoint(mutant.lines)


# --- Running tests in this process. ---


class Runner:
    """A pytest plugin that hands over the collected tests instead of running them all."""

    def __init__(self, work: Callable[["Runner"], None]) -> None:
        self._work = work
        self.items: dict[str, pytest.Item] = {}
        self.failed = False

    def run(self, test: str) -> bool:
        """Run one test, and return whether it passed."""
        item = self.items[test]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        return not self.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        # After conftest.py has chosen its own, before a test is made with it. Nobody reads shrunk examples.
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile(
            "mutants",
            settings.get_profile("ci"),
            max_examples=_EXAMPLES,
            phases=phases,
            report_multiple_bugs=False,
            print_blob=False,
        )
        settings.load_profile("mutants")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.failed = bool(session.testsfailed)
        self.items = {item.nodeid: item for item in session.items}
        self._work(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed


def run_pytest(files: Sequence[str], work: Callable[[Runner], None]) -> bool:
    """Collect the files' tests in this process and do the work with them. Return whether nothing failed."""
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CI": "1"}
    os.chdir(ROOT)
    runner = Runner(work)
    plugins = [option for name in _PLUGINS for option in ("-p", name)]
    status = pytest.main([*_OPTIONS, *plugins, *files], [runner])
    return status in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED} and not runner.failed


def one_after_another(tests: Sequence[str], took: Mapping[str, float]) -> Callable[[Runner], None]:
    """Return the work that runs these tests until one fails; one that takes far too long ends the process."""

    def work(runner: Runner) -> None:
        for test in tests:
            # A table that lacks a row may have taken its own test away, which is how it is noticed.
            if test not in runner.items:
                runner.failed = True
            signal.setitimer(signal.ITIMER_PROF, _GRACE + 5 * took[test])
            if runner.failed or not runner.run(test):
                return

    return work


# --- Forks. ---


def in_fork(work: Callable[[], bool], *, seconds: float) -> bool:
    """Do this in a fork, silently and within limits. Return True only if it came to its end and said so."""
    pid = os.fork()
    if pid == 0:
        try:
            _limit(seconds)
            _hush()
            os._exit(0 if work() else 1)
        finally:
            # Whatever was raised, this process has nobody else to tell.
            os._exit(1)
    # On a busy machine the clock says little. But who uses no processor at all waits for ever.
    with os.fdopen(os.pidfd_open(pid), "rb") as handle:
        before = ""
        while not select.select([handle], [], [], _IDLE)[0]:
            now = _doing(pid)
            if now == before and now.startswith("S"):
                os.kill(pid, signal.SIGKILL)
            before = now
    return os.waitpid(pid, 0)[1] == 0


def _doing(pid: int) -> str:
    """Return the state of a process, such as ``S`` for sleeping, and how much processor time it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return f"{fields[0]} {fields[11]} {fields[12]}"


def _limit(seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    cpu = int(spent + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Until the first test begins, which has a limit of its own.
    signal.setitimer(signal.ITIMER_PROF, _START)


def _hush() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)


def ask_fork(work: Callable[[], object]) -> Any:
    """Do this in a fork and return what it returned, which must fit into JSON."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(2, 1)
            answer = json.dumps(work()).encode()
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(answer)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    if os.waitpid(pid, 0)[1]:
        sys.exit("the tests fail without any change, or could not be run: see above")
    return json.loads(answer)


# --- Bringing a change into a process. ---


class Changed(SourceFileLoader):
    """Loads a module with other code than its file has."""

    def __init__(self, module: Module, code: CodeType) -> None:
        super().__init__(module.imported_as, str(module.path))
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class Finder(MetaPathFinder):
    """Finds one module, for which it has a loader."""

    def __init__(self, loader: Changed) -> None:
        self._loader = loader

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != self._loader.name:
            return None
        return spec_from_file_location(fullname, self._loader.path, loader=self._loader)


def replace_code(module: Module, index: int) -> bool:
    """Give the functions that there are the code of a mutant; False where that cannot be done."""
    import gc

    mutant = module.mutants[index]
    assert mutant.function is not None
    codes = {(code.co_qualname, code.co_firstlineno): code for code in _codes(module.mutated(index))}
    name, first = mutant.function
    done = False
    for function in gc.get_objects():
        if not isinstance(function, FunctionType) or function.__code__.co_filename != str(module.path):
            continue
        old = function.__code__
        inside = old.co_qualname == name or old.co_qualname.startswith(f"{name}.<locals>")
        new = codes.get((old.co_qualname, old.co_firstlineno))
        if inside and new is not None and old.co_firstlineno >= first:
            if old.co_freevars != new.co_freevars:
                return False
            function.__code__ = new
            done = True
    return done


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


# --- One module. ---


def measure(module: Module) -> dict[str, Any]:
    """Run all tests of a module as it is, and say which lines each of them runs."""
    lines = coverage.Coverage(data_file=None, config_file=False, include=[str(module.path)])
    took: dict[str, float] = {}

    def work(runner: Runner) -> None:
        for test in runner.items:
            lines.switch_context(test)
            began = time.process_time()
            assert runner.run(test), f"{test} fails without any change"
            took[test] = time.process_time() - began

    lines.start()
    assert run_pytest(module.files_of_tests, work)
    lines.stop()
    contexts = lines.get_data().contexts_by_lineno(str(module.path))
    ours = {"trio_signal", "tests", "__main__"}
    modules = [name for name in sys.modules if name.partition(".")[0] not in ours]
    return {"took": took, "lines": list(contexts.items()), "modules": modules}


def baseline_of(module: Module) -> Baseline:
    """Measure in a fork, and import here what the tests will need that is not ours."""
    answer = ask_fork(lambda: measure(module))
    baseline = Baseline(answer["took"], modules=answer["modules"])
    for line, contexts in answer["lines"]:
        tests = {context for context in contexts if context}
        baseline.by_line[line] = tests
        if "" in contexts:
            baseline.at_import.add(line)
    for name in baseline.modules:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # Made by other means than an import; each fork makes it again.
    return baseline


def check_module(module: Module, chosen: Sequence[int], tell: Callable[[int, bool], None]) -> None:
    """Try the mutants with these indices and tell of each whether it was killed."""
    baseline = baseline_of(module)
    late = [n for n in chosen if not baseline.is_run_by_import(module.mutants[n])]
    left = set(chosen)

    def told(index: int, killed: bool) -> None:
        left.discard(index)
        tell(index, killed)

    def while_collected(runner: Runner) -> None:
        for index in late:
            killed = try_late(module, index, runner, baseline)
            if killed is not None:
                os.write(told_pipe[1], f"{index} {int(killed)}\n".encode())

    told_pipe = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(2, 1)
        os.close(told_pipe[0])
        run_pytest(module.files_of_tests, while_collected)
        os._exit(0)
    os.close(told_pipe[1])
    with os.fdopen(told_pipe[0]) as lines:
        for line in lines:
            index, killed = map(int, line.split())
            told(index, bool(killed))
    os.waitpid(pid, 0)
    for index in sorted(left):
        told(index, try_early(module, index, baseline))


def _seconds(tests: Sequence[str], baseline: Baseline) -> float:
    return _START + sum(_GRACE + 5 * baseline.took[test] for test in tests)


def try_late(module: Module, index: int, runner: Runner, baseline: Baseline) -> bool | None:
    """Change a function that is imported already. None if that cannot be done."""
    tests = baseline.tests_of(module.mutants[index])
    changed = os.pipe()

    def work() -> bool:
        if not replace_code(module, index):
            os.write(changed[1], b"no")
            return False
        one_after_another(tests, baseline.took)(runner)
        return not runner.failed

    survived = in_fork(work, seconds=_seconds(tests, baseline))
    os.close(changed[1])
    with os.fdopen(changed[0], "rb") as pipe:
        return None if pipe.read() else not survived


def try_early(module: Module, index: int, baseline: Baseline) -> bool:
    """Change the module before it is imported, and collect and run its tests."""
    tests = baseline.tests_of(module.mutants[index])

    def work() -> bool:
        sys.meta_path.insert(0, Finder(Changed(module, module.mutated(index))))
        return run_pytest(module.files_of_tests, one_after_another(tests, baseline.took))

    return not in_fork(work, seconds=_seconds(tests, baseline))


# --- The survivors that are known. ---


def known_survivors(text: str) -> dict[str, str]:
    """Read ``surviving_mutants.txt``: a line for each mutant, and its reason in the indented lines below."""
    known: dict[str, str] = {}
    reasons: list[str] = []
    for line in reversed(text.splitlines()):
        if line.startswith(" "):
            reasons.insert(0, line.strip())
        elif line and not line.startswith("#"):
            known[line] = " ".join(reasons)
            reasons = []
    return dict(reversed(known.items()))


# --- All modules. ---


@dataclass
class Tally:
    """What became of the mutants of a module.

    Attributes:
        survived: what no test has noticed.
        explained: the same, but with a reason that is written down.
        trouble: why not all of them were tried, if so.
    """

    killed: int = 0
    survived: list[str] = field(default_factory=list[str])
    explained: list[str] = field(default_factory=list[str])
    trouble: str | None = None

    @property
    def total(self) -> int:
        return self.killed + len(self.survived) + len(self.explained)

    @property
    def percent(self) -> float:
        return 100 * self.killed / self.total if self.total else 100.0


def choose(modules: Sequence[Module], sample: int | None, seed: int) -> dict[str, list[int]]:
    """Return which mutants to try: all, or so many drawn from a seed."""
    every = [(module.name, index) for module in modules for index in range(len(module.mutants))]
    if sample is not None and sample < len(every):
        every = sorted(Random(seed).sample(every, sample))
    chosen: defaultdict[str, list[int]] = defaultdict(list)
    for name, index in every:
        chosen[name].append(index)
    return chosen


def run_worker(module: Module, chosen: Sequence[int], tell: Callable[[int, bool], None]) -> None:
    """Have a process of its own try the mutants of a module.

    Raises:
        RuntimeError: it did not get to its end.
    """
    command = [sys.executable, "-m", "tests.mutants", "--worker", module.name]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        json.dump(list(chosen), process.stdin)
        process.stdin.close()
        count = 0
        for line in process.stdout:
            index, killed = map(int, line.split())
            tell(index, bool(killed))
            count += 1
        trouble = process.stderr.read()
    if process.returncode or count != len(chosen):
        raise RuntimeError(f"{module.name}: {count} of {len(chosen)} mutants were tried\n{trouble}")


def tell_parent(index: int, killed: bool) -> None:
    """Tell the process that started this one."""
    print(index, int(killed), flush=True)  # noqa: T201


def run_all(
    modules: Sequence[Module], chosen: dict[str, list[int]], jobs: int, known: dict[str, str]
) -> dict[str, Tally]:
    """Try all that were chosen, so many modules at a time, with a progress bar, and tell of each module."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    tallies = {module.name: Tally() for module in modules if chosen[module.name]}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("mutants", total=sum(map(len, chosen.values())))

        def run(module: Module) -> None:
            tally = tallies[module.name]

            def tell(index: int, killed: bool) -> None:
                if killed:
                    tally.killed += 1
                elif (name := f"{module.name}: {module.mutants[index].name}") in known:
                    tally.explained.append(name)
                else:
                    tally.survived.append(name)
                progress.advance(bar)

            run_worker(module, chosen[module.name], tell)
            lines = [f"{module.name:<28}{tally.killed:>5} of {tally.total:<5}{tally.percent:6.1f} %"]
            lines += [f"survived without a reason: {name}" for name in tally.survived]
            progress.console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)

        biggest_first = sorted(
            (module for module in modules if chosen[module.name]),
            key=lambda module: -len(chosen[module.name]),
        )
        for module, done in [(module, pool.submit(run, module)) for module in biggest_first]:
            if (error := done.exception()) is not None:
                tallies[module.name].trouble = str(error)
    return tallies


def report(tallies: dict[str, Tally]) -> bool:
    """Print the sums, and return whether that is good enough."""
    killed = sum(tally.killed for tally in tallies.values())
    total = sum(tally.total for tally in tallies.values())
    explained = sum(len(tally.explained) for tally in tallies.values())
    print(f"{killed} of {total} mutants killed ({100 * killed / max(1, total):.1f} %).")  # noqa: T201
    print(f"{total - killed} survived, {explained} of them with a reason in {SURVIVORS.name}.")  # noqa: T201
    is_good = True
    for name, tally in tallies.items():
        if tally.trouble is not None:
            print(tally.trouble)  # noqa: T201
        elif tally.percent < LEAST:
            print(f"{name}: less than {LEAST:.0f} % were killed")  # noqa: T201
        is_good = is_good and tally.trouble is None and tally.percent >= LEAST and not tally.survived
    return is_good


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Mutation testing of the pure modules."
    )
    parser.add_argument(
        "--module", action="append", choices=sorted(TESTS), help="only this one; may be given again"
    )
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants, drawn from the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="modules at a time (%(default)s)"
    )
    parser.add_argument("--worker", choices=sorted(TESTS), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.worker:
        check_module(Module.read(given.worker), json.load(sys.stdin), tell_parent)
        return
    modules = [Module.read(name) for name in given.module or TESTS]
    known = known_survivors(SURVIVORS.read_text(encoding="utf-8"))
    tallies = run_all(modules, choose(modules, given.sample, given.seed), given.jobs, known)
    sys.exit(not report(tallies))


if __name__ == "__main__":
    main()
