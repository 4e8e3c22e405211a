#!/bin/sh
# Install the named Debian packages that are missing.  With nothing missing it needs no root.
# A server that comes with them is neither started nor enabled: the tests start their own.
set -eu

# fusermount3 lets a normal user unmount only what /etc/mtab lists; a tree made by debootstrap
# has no such file until something boots in it.
if [ ! -e /etc/mtab ] && [ "$(id -u)" = 0 ]; then
	echo "making /etc/mtab, a link to /proc/self/mounts"
	ln -s ../proc/self/mounts /etc/mtab
fi

missing() {
	for p in "$@"; do
		case $(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null) in
		installed*) ;;
		*) printf ' %s' "$p" ;;
		esac
	done
}

want=$(missing "$@")
[ -n "$want" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "These packages are missing. As root:" >&2
	echo "  apt-get install -y --no-install-recommends$want" >&2
	exit 1
fi
echo "installing:$want"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
install() { apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 $want >&2; }

# What installs a service asks this program whether to start it, and enables it for the next boot.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	trap 'exit 130' INT TERM HUP
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
fi
enabled() {
	find /etc/systemd/system -path '*.wants/*.service' -type l 2>/dev/null || :
}
before=$(enabled)
# Package lists older than the archive name files that are gone: refresh them once.
install || { apt-get update -qq && install; }
for link in $(enabled); do
	case " $(echo $before) " in
	*" $link "*) ;;
	*) rm "$link" ;;
	esac
done
