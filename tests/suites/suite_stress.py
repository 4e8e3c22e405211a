"""stress-ng: its class of filesystem stressors, one after the other, checking what they do."""
import re

NAME = "stress-ng"
NEEDS = ["stress-ng"]
ROOT = True

# Not run: what does not touch the directory that is tested, or more of the machine than that.
LEFT_OUT = {
    "bind-mount": "mounts the root directory, works in no directory of its own",
    "binderfs": "mounts a filesystem of its own",
    "dup": "duplicates descriptors of /dev/zero",
    "eventfd": "no files",
    "fanotify": "watches every mount of the machine",
    "procfs": "reads /proc",
}
# What the kernel does by itself, whatever the filesystem: left to the long run.
NOT_QUICK = "chdir dnotify fcntl flock inotify io ioprio lease locka lockf lockofd".split()
# It ends with 0 or one of these when it found that the directory cannot do what it would test.
SKIPPED = (3, 4)


def stressors(place):
    done = place.run(["stress-ng", "--class", "filesystem?"])
    return re.search(r"stressors: (.*)", done.output)[1].split()


def run(place):
    for name in stressors(place):
        if name in LEFT_OUT:
            place.note(name, "left-out", LEFT_OUT[name])
            continue
        if place.quick and name in NOT_QUICK:
            continue
        done = place.run(["stress-ng", f"--{name}", "2", "--timeout", "1", "--verify",
                          "--temp-path", place.fresh(name)], timeout=60)
        skipped = done.status in SKIPPED or "skipping stress" in done.output
        place.note(name, "skipped" if skipped else done.result(), done.tail(20))
        place.empty()
