#!/bin/bash
# demo.sh: the main job from end to end, in a scratch directory that is removed at the end.
# As root, or as a normal user where fusermount3 and /dev/fuse are.  Exit status 0 only if every
# step held.  DEMO_DB=FILE takes an Access database along; CLUBFS_BIN says where the programs are.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
PATH=${CLUBFS_BIN:-$repo/build}:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C.UTF-8
umask 022
nobody=65534
me=$(id -u)
clubfs_pid='' keyd_pid=''

##### Narration and the end

bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi
nstep=0
step() { nstep=$((nstep + 1)); printf '\n%s%d. %s%s\n' "$bold" "$nstep" "$*" "$plain"; }
say() { printf '   %s\n' "$*"; }
show() { sed 's/^/     | /' | cut -c1-160; }
fail() {
	printf '\nFAILED: %s\n' "$*"
	for log in keyd clubfs; do
		[ ! -s "$dir/$log.log" ] || tail -n 20 "$dir/$log.log"
	done
	exit 1
} >&2

cleanup() {
	trap - EXIT
	trap '' INT TERM HUP
	unmount 2>/dev/null || :
	stop_keyd || :
	rm -rf --one-file-system "$dir"
}

is_mounted() { mountpoint -q "$mnt"; }

# Ends in a clean state either way; fails if that took force or if clubfs complained.
unmount() {
	local bad=0 pid=$clubfs_pid
	if is_mounted; then
		if [ "$me" = 0 ]; then
			umount "$mnt" || { umount -l "$mnt"; bad=1; }
		else
			fusermount3 -u "$mnt" || { fusermount3 -u -z "$mnt"; bad=1; }
		fi
	fi
	[ -n "$pid" ] || return "$bad"
	clubfs_pid=
	[ "$bad" = 0 ] || kill "$pid"
	reap "$pid" && return "$bad"
}

# The exit status of PID, which was told to end; after 30 s it is killed.
reap() {
	local i
	for ((i = 0; i < 600; i++)); do
		kill -0 "$1" 2>/dev/null || break
		sleep 0.05
	done
	kill -KILL "$1" 2>/dev/null || :
	wait "$1"
}

stop_keyd() {
	[ -n "$keyd_pid" ] || return 0
	local pid=$keyd_pid
	keyd_pid=
	kill "$pid" 2>/dev/null || :
	reap "$pid"
}

# wait_for WHAT PID COMMAND...: until the command holds, or PID has ended, or 30 s have passed.
wait_for() {
	local what=$1 pid=$2 i
	shift 2
	for ((i = 0; i < 600; i++)); do
		! "$@" || return 0
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.05
	done
	fail "$what"
}

mount_store() {
	clubfs "$store" "$mnt" -f -o "$options" 2>>"$dir/clubfs.log" &
	clubfs_pid=$!
	wait_for "clubfs did not mount" "$clubfs_pid" is_mounted
}

remount() { unmount || fail "clubfs did not end cleanly"; mount_store; }

# requests: the key requests in the audit log, one line each, as a person would read them.
requests() { cat "$dir"/state/audit/*.jsonl | python3 "$repo/tests/demo_audit.py"; }

for need in clubfs clubkeyd clubctl sqlite3 python3 fusermount3; do
	command -v "$need" >/dev/null || { echo "demo.sh: '$need' is missing; use 'make demo'" >&2; exit 1; }
done
if [ "$me" != 0 ] && [ ! -e /etc/mtab ]; then
	echo "demo.sh: fusermount3 cannot unmount without /etc/mtab; 'make deps-demo' as root mends it" >&2
	exit 1
fi
dir=$(mktemp -d "${TMPDIR:-/var/tmp}/clubfs-demo.XXXXXX")
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
store=$dir/store mnt=$dir/mnt
export CLUBKEYD_RUN=$dir/run
chmod 755 "$dir"
mkdir -m 755 "$mnt" "$CLUBKEYD_RUN" "$dir/plain"
mkdir -m 700 "$dir/state"

##### The demo

step "The key daemon starts, with a master key made for this demo"
if [ "$me" = 0 ]; then
	options=allow_other
	printf 'deny  nobody-is-no-member\n\tacting-uid %s\n' "$nobody"
	printf 'allow this-demo\n\tuid %s\n' "$me"
else
	options=default_permissions
	printf 'deny  choir-is-not-ours\n\tclub chor-harmonie\n\top get\n'
	printf 'allow this-demo\n\tuid %s\n' "$me"
fi >"$dir/policy"
echo "policy $dir/policy" >"$dir/keyd.conf"
clubkeyd --state "$dir/state" --run "$CLUBKEYD_RUN" --config "$dir/keyd.conf" -f 2>"$dir/keyd.log" &
keyd_pid=$!
wait_for "clubkeyd did not start" "$keyd_pid" test -S "$CLUBKEYD_RUN/admin.sock"
say "its policy, first match wins, nothing else is allowed:"
show <"$dir/policy"

step "A store with two clubs, mounted as plain directories"
clubctl init "$store"
clubctl add "$store" tsv-nord
clubctl add "$store" chor-harmonie
mount_store
[ "$(ls "$mnt" | sort | tr '\n' ' ')" = "chor-harmonie tsv-nord " ] || fail "the mount does not show both clubs"
say "listing the clubs needs no key:"
ls -l "$mnt" | show

step "A request that the policy refuses"
if [ "$me" = 0 ]; then
	say "The user nobody (uid $nobody) wants to look into chor-harmonie:"
	try=(setpriv --reuid="$nobody" --regid="$nobody" --clear-groups ls "$mnt/chor-harmonie")
else
	say "There is no other user here to try it with, so the policy denies a whole club,"
	say "chor-harmonie, to everybody, us included:"
	try=(ls "$mnt/chor-harmonie")
fi
if "${try[@]}" >"$dir/out" 2>&1; then fail "the refused request was answered: $(cat "$dir/out")"; fi
show <"$dir/out"
grep -q 'Permission denied' "$dir/out" || fail "refused, but not with 'Permission denied'"

step "Ordinary software writes into the club tsv-nord"
club=$mnt/tsv-nord
mkdir "$club/Mitglieder" "$club/Berichte"
sql="CREATE TABLE mitglied(nr INTEGER PRIMARY KEY, name TEXT, seit INTEGER, ehrung TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
INSERT INTO mitglied SELECT i, 'Erika Mustermann ' || i, 1950 + i % 75, 'Ehrennadel in Silber' FROM n;
UPDATE mitglied SET ehrung = 'Ehrennadel in Gold' WHERE seit < 1960;
CREATE INDEX name ON mitglied(name);
DELETE FROM mitglied WHERE nr % 7 = 0;"
for where in "$club/Mitglieder" "$dir/plain"; do
	sqlite3 "$where/mitglieder.sqlite" "$sql"
done
python3 "$repo/tests/demo_office.py" "$dir/plain"
cp "$dir"/plain/*.odt "$dir"/plain/*.docx "$dir"/plain/*.csv "$club/Berichte/"
say "a SQLite database, two office documents and a report file:"
(cd "$club" && find . -type f -printf '%10s  %P\n' | sort -k2) | show
if [ -n "${DEMO_DB:-}" ]; then
	cp -- "$DEMO_DB" "$club/Mitglieder/verein.mdb"
	say "and an Access database, $(basename "$DEMO_DB")"
fi

step "After a remount the same software reads the same things back"
remount
for what in .dump 'PRAGMA integrity_check' 'SELECT ehrung, count(*) FROM mitglied GROUP BY 1'; do
	sqlite3 "$club/Mitglieder/mitglieder.sqlite" "$what" >"$dir/one"
	sqlite3 "$dir/plain/mitglieder.sqlite" "$what" >"$dir/two"
	cmp "$dir/one" "$dir/two" || fail "SQLite reads something else than was written"
done
say "SQLite: dump and integrity check are the same as of an unencrypted twin:"
show <"$dir/one"
for f in "$dir"/plain/*.odt "$dir"/plain/*.docx "$dir"/plain/*.csv; do
	cmp "$f" "$club/Berichte/$(basename "$f")" || fail "$(basename "$f") has changed"
done
python3 -m zipfile -t "$club/Berichte/Ehrungen 2026.odt" >/dev/null || fail "the document is damaged"
say "the documents: the same, byte for byte, and whole as archives"
if [ -n "${DEMO_DB:-}" ]; then
	tables=$(mdb-tables -1 "$DEMO_DB")
	[ "$(mdb-tables -1 "$club/Mitglieder/verein.mdb")" = "$tables" ] || fail "Access: other tables"
	while IFS= read -r table; do
		mdb-export "$DEMO_DB" "$table" >"$dir/one"
		mdb-export "$club/Mitglieder/verein.mdb" "$table" >"$dir/two"
		cmp "$dir/one" "$dir/two" || fail "Access: table $table differs"
		say "mdb-export: table $table, $(wc -l <"$dir/two") lines, the same"
	done <<<"$tables"
fi

step "What lies on the disk is ciphertext"
say "names in the store:"
(cd "$store/clubs/tsv-nord/tree" && find . -mindepth 1 -printf '%P\n' | sort | head -n 4) | show
big=$(find "$store/clubs/tsv-nord/tree" -type f -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)
say "the beginning of the database, as the club sees it and as the disk holds it:"
od -A d -c -N 48 "$club/Mitglieder/mitglieder.sqlite" | head -n 3 | show
od -A d -c -j 4096 -N 48 "$big" | head -n 3 | show
grep -q Mustermann "$club/Mitglieder/mitglieder.sqlite" || fail "the search itself does not work"
for word in Mustermann Ehrennadel 'SQLite format' Mitglieder mitglieder.sqlite Ehrungen Berichte; do
	if grep -rqF -e "$word" "$store"; then fail "'$word' is found in the store"; fi
	if find "$store" | grep -qF -e "$word"; then fail "'$word' is found in a name in the store"; fi
done
say "a search for members, honours and file names over the whole store finds nothing"

step "The audit log: every key request, with the user on whose behalf it was made"
requests >"$dir/requests"
show <"$dir/requests"
grep -q "^allow .*tsv-nord .*for uid $me\$" "$dir/requests" || fail "the granted request is not in the audit log"
denied=$([ "$me" = 0 ] && echo "$nobody" || echo "$me")
grep -q "^deny .*chor-harmonie .*for uid $denied\$" "$dir/requests" || fail "the refused request is not in the audit log"

step "One flipped byte on the disk is noticed"
touch "$dir/marker"
sleep 0.1
for ((i = 1; i <= 1200; i++)); do echo "Protokoll der Sitzung, Zeile $i"; done >"$club/Protokoll.txt"
unmount || fail "clubfs did not end cleanly"
victim=$(find "$store/clubs/tsv-nord/tree" -type f -newer "$dir/marker" -size +20k)
[ "$(wc -l <<<"$victim")" = 1 ] && [ -n "$victim" ] || fail "not exactly one new file in the store: $victim"
at=$((4096 + 2 * 4096 + 100))		# in the third block after the header page
flip() {
	local byte
	byte=$(od -An -tu1 -j "$at" -N 1 "$victim")
	printf '%b' "\\0$(printf %o $((byte ^ 1)))" | dd of="$victim" bs=1 seek="$at" conv=notrunc status=none
}
flip
: >"$dir/clubfs.log"
mount_store
if cat "$club/Protokoll.txt" >"$dir/one" 2>"$dir/out"; then fail "damaged data was delivered"; fi
show <"$dir/out"
grep -q 'Input/output error' "$dir/out" || fail "damaged, but the error is another one"
say "clubfs says which file, and where:"
show <"$dir/clubfs.log"
grep -q 'Protokoll.txt\|'"$(basename "$victim")" "$dir/clubfs.log" || fail "the message does not name the file"
grep -qE '\b(8192|12288|12388)\b' "$dir/clubfs.log" || fail "the message does not name the offset"
head -c 4096 "$club/Protokoll.txt" | grep -q 'Zeile 1$' || fail "the undamaged part is not readable"
say "the blocks beside it are still readable; with the byte put right, all of it is:"
unmount || fail "clubfs did not end cleanly"
flip
mount_store
tail -n 1 "$club/Protokoll.txt" | show
[ "$(wc -l <"$club/Protokoll.txt")" = 1200 ] || fail "the repaired file is not whole"

step "Everything is unmounted and stopped"
unmount || fail "clubfs did not end cleanly"
[ -z "$(ls -A "$mnt")" ] || fail "something is left in the mount point"
stop_keyd || fail "clubkeyd did not end cleanly"
printf '\n%sEvery step held.%s\n' "$bold" "$plain"
