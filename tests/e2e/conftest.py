"""Fixtures for tests through real mounts with the real key daemon.

site    an empty test directory that can start daemons, make stores and mount (clubsite.py)
keyd    the same site's key daemon, running with the embedded default
mnt     a store with the clubs "alpha" and "beta", mounted; as root with allow_other
club    the path of the club alpha in mnt

Whatever a test started is ended after it.  A daemon that had to be killed, ended with another
status than 0, or printed a sanitizer's report makes the test fail.
"""
import os
import shutil
import sys
import tempfile

import pytest

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def reachable(path):
    """May every user get to @path?  A clone below /root, say, is closed to the others."""
    while os.stat(path).st_mode & 0o001:
        if path == "/":
            return True
        path = os.path.dirname(path)
    return False


def programs_for_all():
    """As root some tests run our programs as other users: let them find the programs.

    Returns the directory made for that, or None."""
    bins = os.path.abspath(os.environ.get("CLUBFS_BIN", os.path.join(REPO, "build")))
    if os.geteuid() != 0 or not os.path.isdir(bins) or reachable(bins):
        return None
    path = tempfile.mkdtemp(prefix="clubfs-bin-", dir="/var/tmp")
    os.chmod(path, 0o755)
    for name in ("clubfs", "clubkeyd", "clubctl"):
        shutil.copy(os.path.join(bins, name), path)
    os.environ["CLUBFS_BIN"] = path     # the workers of this run inherit it
    return path


COPIED_BIN = programs_for_all()     # before any module asks where the programs are
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import clubsite     # noqa: E402  pylint: disable=wrong-import-position

TEST_S = int(os.environ.get("CLUBFS_TEST_TIMEOUT", "900" if clubsite.SAN else "300"))


def pytest_configure(config):
    if not os.path.exists("/dev/fuse"):
        raise pytest.UsageError("/dev/fuse is missing: nothing can be mounted here")


def pytest_unconfigure():
    if COPIED_BIN:
        shutil.rmtree(COPIED_BIN, ignore_errors=True)


@pytest.fixture(scope="session")
def top():
    """The directory of this run (of this worker): on disk, short enough for socket paths."""
    path = tempfile.mkdtemp(prefix="clubfs-", dir=os.environ.get("CLUBFS_TESTDIR", "/var/tmp"))
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def site(top, request):
    if request.node.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")
    here = clubsite.Site(tempfile.mkdtemp(prefix="t", dir=top))
    problems = []
    try:
        with clubsite.Watchdog(here, TEST_S) as dog:
            yield here
            if dog.fired:
                problems.append(f"the test took more than {TEST_S} s")
    finally:
        problems += here.close()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def keyd(site):
    return site.keyd()


@pytest.fixture
def mnt(site, keyd):    # pylint: disable=unused-argument
    store = site.store("alpha", "beta")
    return site.mount(store, "allow_other" if os.geteuid() == 0 else "")


@pytest.fixture
def club(mnt):
    return mnt.join("alpha")


def pytest_terminal_summary(terminalreporter, config):
    """With CLUBFS_RESULTS=FILE append "passed failed skipped" there; one sum for all runners."""
    name = os.environ.get("CLUBFS_RESULTS")
    if name and not hasattr(config, "workerinput"):
        got = {k: len(v) for k, v in terminalreporter.stats.items()}
        failed = got.get("failed", 0) + got.get("error", 0)
        skipped = got.get("skipped", 0) + got.get("xfailed", 0)
        with open(name, "a", encoding="utf-8") as f:
            f.write(f"{got.get('passed', 0)} {failed} {skipped}\n")
