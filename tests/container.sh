#!/bin/bash
# container.sh [12|13] [demo|test]...: run the commands of README.md, read from there, in a fresh
# minimal Debian tree with a clean clone of HEAD; the demo a second time as a normal user.
# Needs root, debootstrap and git.  Leaves nothing but the cache:
#   CLUBFS_CONTAINER_CACHE  base trees and downloaded packages (/var/tmp/clubfs-container)
#   CLUBFS_CONTAINER_BASE   take this base tree instead; it is copied, never changed
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
version=${1:-12}
shift || :
case $version in
12) suite=bookworm ;;
13) suite=trixie ;;
*) echo "usage: container.sh [12|13] [demo|test]..." >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "container.sh: needs root" >&2; exit 2; }
cache=${CLUBFS_CONTAINER_CACHE:-/var/tmp/clubfs-container}
base=${CLUBFS_CONTAINER_BASE:-$cache/base$version}
mkdir -p "$cache/debs$version/partial"
work=$(mktemp -d "$cache/run.XXXXXX")
child=

# The mounts live in the child's namespace and vanish with it, before the tree is removed.
cleanup() {
	trap - EXIT INT TERM HUP
	[ -z "$child" ] || { kill -KILL "$child" 2>/dev/null || :; wait "$child" 2>/dev/null || :; }
	rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'cleanup; exit 130' INT TERM HUP

readme_command() {	# readme_command demo|test: the one line of README.md that ends so
	sed -n "s/^ *\(apt-get update .*make $1\)\$/\1/p" "$repo/README.md" | head -n 1
}

make_base() {
	[ ! -e "$base" ] || return 0
	debootstrap --variant=minbase "$suite" "$work/base" http://deb.debian.org/debian >"$work/log" ||
		{ tail "$work/log"; return 1; }
	mv -T "$work/base" "$base"
}

make_tree() {	# a copy of the base, a clean clone in /root/clubfs, samples beside it
	rm -rf --one-file-system "$work/root"
	cp -a --reflink=auto "$base" "$work/root"
	cp -L /etc/resolv.conf "$work/root/etc/resolv.conf"
	git clone --quiet --no-hardlinks "$repo" "$work/root/root/clubfs"
	samples=${ACCESS_FILES:-$repo/../shared/data/access}
	if [ -d "$samples" ]; then
		mkdir -p "$work/root/root/shared/data"
		cp -r "$samples" "$work/root/root/shared/data/access"
	fi
}

# inside COMMAND: run it in the tree, in namespaces of its own; then nothing may be left over.
inside() {
	# shellcheck disable=SC2016
	ROOT=$work/root DEBS=$cache/debs$version unshare --mount --pid --fork --kill-child \
		--propagation private bash -euc '
		mount --bind "$ROOT" "$ROOT"
		mount -t proc proc "$ROOT/proc"
		mount -t sysfs -o ro sys "$ROOT/sys"
		mount -t tmpfs -o mode=755 dev "$ROOT/dev"
		mkdir "$ROOT/dev/pts" "$ROOT/dev/shm"
		mount -t devpts -o newinstance,ptmxmode=666 pts "$ROOT/dev/pts"
		mount -t tmpfs -o mode=1777 shm "$ROOT/dev/shm"
		ln -s pts/ptmx "$ROOT/dev/ptmx"
		ln -s /proc/self/fd "$ROOT/dev/fd"
		for d in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229; do
			IFS=: read -r name major minor <<<"$d"
			mknod -m 666 "$ROOT/dev/$name" c "$major" "$minor"
		done
		mount --bind "$DEBS" "$ROOT/var/cache/apt/archives"
		exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CI=true TERM=dumb \
			chroot "$ROOT" bash -uc '\''
				cd /root/clubfs
				eval "$1"
				status=$?
				if grep " - fuse" /proc/self/mountinfo; then
					echo "container.sh: left mounted"; status=1
				fi
				for p in /proc/[0-9]*; do
					case ${p#/proc/} in 1|$$) continue ;; esac
					[ -r "$p/exe" ] || continue
					echo "container.sh: left running: $(tr "\0" " " <"$p/cmdline")"
					status=1
				done
				exit $status
			'\'' inner "$1"
		' outer "$1" </dev/null &
	child=$!
	wait "$child"
}

run() {		# run WHAT COMMAND
	local began=$SECONDS
	echo "=== Debian $version: $1: $2"
	inside "$2" || { echo "=== Debian $version: $1: FAILED"; exit 1; }
	echo "=== Debian $version: $1: ok, $((SECONDS - began)) s"
}

make_base
[ $# -gt 0 ] || set -- demo test
for what in "$@"; do
	command=$(readme_command "$what")
	[ -n "$command" ] || { echo "container.sh: README.md has no command for '$what'" >&2; exit 1; }
	make_tree
	run "$what" "$command"
	if [ "$what" = demo ]; then
		run "demo as a normal user" "useradd -m club && cp -r /root/clubfs ~club/ &&
			chown -R club: ~club/clubfs && su club -c 'cd ~/clubfs && make clean demo'"
	fi
done
