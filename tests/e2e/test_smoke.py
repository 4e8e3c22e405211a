"""The shortest way through everything: a key daemon, a store, a mount, a file."""
import os
import subprocess

import clubsite


def test_a_file_written_through_the_mount_is_there_after_a_remount(site, keyd):
    store = site.store("alpha")
    first = site.mount(store)
    with open(first.join("alpha", "hello.txt"), "w", encoding="utf-8") as f:
        f.write("hello, club\n")
    assert os.listdir(first.path) == ["alpha"]
    first.umount()
    assert not os.path.exists(first.join("alpha"))

    second = site.mount(store)
    shown = subprocess.run(["cat", second.join("alpha", "hello.txt")], check=True,
                           capture_output=True, text=True)
    assert shown.stdout == "hello, club\n"


def test_list_and_status_answer(site, keyd):
    store = site.store("alpha", "beta")
    assert sorted(site.ctl("list", store).stdout.split()) == ["alpha", "beta"]
    assert site.ctl("status", store).returncode == 0


def test_without_a_key_daemon_the_root_is_listed_and_the_club_is_locked(site, keyd):
    store = site.store("alpha")
    keyd.stop()
    mnt = site.mount(store)
    assert os.listdir(mnt.path) == ["alpha"]
    tried = subprocess.run(["ls", mnt.join("alpha")], check=False, capture_output=True, text=True)
    assert tried.returncode != 0
    assert "Required key not available" in tried.stderr


def test_clubfs_without_f_returns_when_the_mount_is_up(site, keyd):
    store, path = site.store("alpha"), site.mkdir("mnt")
    site.run("clubfs", store, path)
    try:
        assert clubsite.mounted(path)
        with open(os.path.join(path, "alpha", "f"), "w", encoding="utf-8") as f:
            f.write("x")
    finally:
        umount = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
        subprocess.run([*umount, path], check=True)


def test_every_program_names_its_version_and_its_options(site):
    for name in ("clubfs", "clubkeyd", "clubctl"):
        assert name in site.run(name, "--version").stdout
        assert "--help" in site.run(name, "--help").stdout or name == "clubctl"
        assert site.run(name, "--no-such-option", check=False).returncode == 2
