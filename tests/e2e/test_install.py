"""make install and make uninstall, into a scratch DESTDIR."""
import os
import subprocess

import pytest

import clubsite


def make(target, *args):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"}
    subprocess.run(["make", "-s", "-C", clubsite.REPO, target, *args], check=True, env=env,
                   stdout=subprocess.DEVNULL)


def files(top):
    return sorted(os.path.relpath(os.path.join(d, n), top)
                  for d, _, names in os.walk(top) for n in names)


@pytest.fixture
def dest(site):
    return site.mkdir("dest")


@pytest.fixture
def built(dest):
    """Arguments with which `install` takes the programs under test, without a rebuild."""
    san = ["SAN=1"] if clubsite.SAN else []
    return [*san, f"DESTDIR={dest}"]


def test_install_then_uninstall_leaves_no_file(dest, built):
    make("install", *built)
    got = files(dest)
    assert "usr/local/sbin/clubfs" in got and "usr/local/sbin/clubkeyd" in got
    assert "usr/local/sbin/clubctl" in got and "usr/sbin/mount.clubfs" in got
    for page in ("clubfs.8", "clubkeyd.8", "clubctl.8"):
        assert f"usr/local/share/man/man8/{page}" in got
    make("uninstall", *built)
    assert files(dest) == []


def test_install_honours_prefix_and_the_helper_is_the_installed_program(dest, built):
    make("install", "PREFIX=/opt/clubfs", *built)
    assert all(f.startswith("opt/clubfs/") for f in files(dest))
    helper = os.path.join(dest, "opt/clubfs/sbin/mount.clubfs")
    assert os.readlink(helper) == "/opt/clubfs/sbin/clubfs"
    shown = subprocess.run([os.path.join(dest, "opt/clubfs/sbin/clubfs"), "--version"],
                           check=True, capture_output=True, text=True)
    assert "clubfs" in shown.stdout
    make("uninstall", "PREFIX=/opt/clubfs", *built)
    assert files(dest) == []
