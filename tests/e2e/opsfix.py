"""The fixtures of the tests of operations: one mount for all tests of a module.

place   a mount with the clubs "alpha" and "beta" that can be remounted at any time
d       a new directory in alpha, the test's own

With CLUBFS_TEST_PLAIN=DIR the same tests run on the plain directory DIR instead, with no daemon
at all: what fails there is wrong in the test.  CLUBFS_TEST_OPTS=writeback,... adds mount options.
"""
import os
import pathlib
import shutil
import tempfile

import pytest

import clubsite

PLAIN = os.environ.get("CLUBFS_TEST_PLAIN")
OPTIONS = [o for o in os.environ.get("CLUBFS_TEST_OPTS", "").split(",") if o]
TEST_S = 180 * (4 if clubsite.SAN else 1)


def needs_root():
    if os.geteuid() != 0:
        pytest.skip("needs root")


class Place:
    """A mounted store."""
    plain = False
    clubs = ("alpha", "beta")

    def __init__(self, top, opts=None):
        self.site = clubsite.Site(tempfile.mkdtemp(prefix="o", dir=top))
        usual = ["allow_other"] * (os.geteuid() == 0) + OPTIONS
        self.opts = ",".join(usual) if opts is None else opts
        self.keyd = self.site.keyd()
        self.store = pathlib.Path(self.site.store(*self.clubs))
        self.mount = None
        self.start()

    def start(self):
        self.mount = self.site.mount(str(self.store), self.opts)
        self.root = pathlib.Path(self.mount.path)

    def stop(self):
        """Unmount; from here on nothing of the store is in memory."""
        self.mount.umount()

    def remount(self):
        self.stop()
        self.start()

    def club(self, name="alpha"):
        return self.root / name

    def usable(self):
        return self.keyd.running() and self.mount.running()

    def said(self):
        """What the mount daemon has printed since it was mounted."""
        return self.mount.stderr()

    def close(self):
        return self.site.close()


class PlainPlace:
    """The same face for a directory without any encryption."""
    plain = True
    site = store = None

    def __init__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(dir=PLAIN))
        self.root.chmod(0o755)
        for name in Place.clubs:
            (self.root / name).mkdir()

    def remount(self):
        pass

    def club(self, name="alpha"):
        return self.root / name

    def usable(self):
        return True

    def said(self):
        return ""

    def close(self):
        shutil.rmtree(self.root)
        return []


@pytest.fixture(scope="module")
def places(top):
    """The module's place, made anew when a test has killed it: one crash is one failure."""
    held = []

    def current():
        if held and not held[0].usable():
            held.pop().close()
        if not held:
            held.append(PlainPlace() if PLAIN else Place(top))
        return held[0]

    yield current
    problems = held[0].close() if held else []
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def place(places):
    here = places()
    if here.plain:
        yield here
        return
    with clubsite.Watchdog(here.site, TEST_S) as dog:
        yield here
        if dog.fired:
            pytest.fail(f"the test took more than {TEST_S} s; clubfs said:\n{here.said()}")
    if not here.usable():
        pytest.fail(f"a daemon died in this test; clubfs said:\n{here.said()}")


@pytest.fixture
def d(place):
    path = pathlib.Path(tempfile.mkdtemp(prefix="t", dir=place.club()))
    path.chmod(0o755)
    return path
