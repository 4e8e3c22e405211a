"""A disk to measure on."""
import os
import shutil
import subprocess
import tempfile

import clubsite

DISK_GIB = 40


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3")


class Disk:
    """A new ext4 in a file below @where, so that the state of a used disk does not count.

    Without root it is just @where."""

    def __init__(self, where):
        self.image = self.loop = None
        self.path = tempfile.mkdtemp(prefix="clubfs-bench-", dir=where)
        if os.geteuid() != 0:
            return
        self.image = self.path + ".img"
        try:
            with open(self.image, "wb") as f:
                f.truncate(DISK_GIB << 30)
            subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0",
                            self.image], check=True)
            self.loop = subprocess.run(
                ["losetup", "--find", "--show", "--direct-io=on", self.image], check=True,
                stdout=subprocess.PIPE, text=True).stdout.strip()
            subprocess.run(["mount", "-t", "ext4", self.loop, self.path], check=True)
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.image and clubsite.mounted(self.path):
            subprocess.run(["umount", self.path], check=False)
        if self.loop:
            subprocess.run(["losetup", "-d", self.loop], check=False)
        if self.image:
            os.unlink(self.image)
        shutil.rmtree(self.path, ignore_errors=True)
