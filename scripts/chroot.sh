#!/usr/bin/env bash
# Runs a command in a copy of the tree inside a Debian that has the PostgreSQL major wanted. For CI, and to look at a
# failure on another major; needs root.
#
#   scripts/chroot.sh MAJOR COMMAND [ARGUMENT]...      for example: scripts/chroot.sh 18 make check
#
# The systems are made by debootstrap when absent or half-made, and kept in .chroot/ (CHROOT_DIR); the command's files
# are then below .chroot/SUITE/src/build. REQUIRE_ALL, COPT and SERVER_PRELOAD are passed on; the directory that
# OLD_INSTALLATION names is seen there as /old.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ $# -ge 2 ] || die "usage: chroot.sh MAJOR COMMAND [ARGUMENT]..."
major=$1
shift
case $major in
15) suite=bookworm ;;
17) suite=trixie ;;
18) suite=forky ;;
*) die "no Debian release is known to have PostgreSQL $major" ;;
esac
[ "$(id -u)" -eq 0 ] || die "chroot.sh needs root"

dir=${CHROOT_DIR:-$ROOT/.chroot}
system=$dir/$suite
mkdir -p "$dir"
exec 9>"$dir/$suite.lock"
flock 9

# The mirror is the one this machine's own apt uses, whichever way that is configured.
mirror() {
	local codename
	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# shellcheck disable=SC2016  # apt's own syntax
	apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Codename: $codename" "Origin: Debian" | sort -u | sed -n 1p
}

if [ ! -e "$dir/$suite.ready" ]; then
	command -v debootstrap >/dev/null || die "debootstrap is missing; scripts/setup.sh ci-host installs it"
	mirror=$(mirror)
	[ -n "$mirror" ] || die "apt's configuration names no Debian mirror to make a $suite system from"
	# an older debootstrap does not know the newer releases by name; they are all made like sid
	script=/usr/share/debootstrap/scripts/$suite
	[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
	say "Making a $suite system in $system"
	rm -rf "$system"
	debootstrap --variant=minbase --include=ca-certificates "$suite" "$system" "$mirror" "$script" \
		>"$dir/$suite.log" 2>&1 9>&- || { tail -n 20 "$dir/$suite.log" >&2; die "debootstrap of $suite failed"; }
	touch "$dir/$suite.ready"
fi

# How to reach the network is the machine's affair: names, and the way apt is told to fetch.
cp -L /etc/resolv.conf "$system/etc/resolv.conf"
cp /etc/hosts "$system/etc/hosts"
apt-config dump | grep -E '^Acquire::(http|https|Check|Retries)' >"$system/etc/apt/apt.conf.d/99machine" || true

# What git knows or would add, and nothing else: no objects of another major.
rm -rf "$system/src"
mkdir "$system/src"
git -c safe.directory='*' -C "$ROOT" ls-files -z --cached --others --exclude-standard |
	while IFS= read -r -d '' file; do
		[ ! -e "$ROOT/$file" ] || printf '%s\0' "$file"
	done | tar -C "$ROOT" --null -T - -cf - | tar -C "$system/src" -xf -

old=${OLD_INSTALLATION:-}
[ -z "$old" ] || mkdir -p "$system/old"

# In namespaces of their own the mounts and every process end with the command, however it ends.
# Not exec: the lock is this shell's, and has to live as long as the command.
# shellcheck disable=SC2016  # expanded inside
unshare --mount --pid --fork --kill-child --propagation private bash -euc '
	system=$1 old=$2
	shift 2
	[ -z "$old" ] || mount --bind "$old" "$system/old"
	mount -t proc proc "$system/proc"
	mount --rbind /dev "$system/dev"
	mount -t tmpfs -o mode=1777 tmpfs "$system/dev/shm"
	mount -t tmpfs -o mode=1777 tmpfs "$system/tmp"
	exec chroot "$system" "$@"
' bash "$system" "$old" env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
	PG_MAJOR="$major" REQUIRE_ALL="${REQUIRE_ALL:-0}" COPT="${COPT:-}" SERVER_PRELOAD="${SERVER_PRELOAD:-}" \
	OLD_INSTALLATION="${old:+/old}" bash -c 'cd /src && exec "$@"' bash "$@" 9>&-
