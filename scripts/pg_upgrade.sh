#!/usr/bin/env bash
# The TAP test 090_pg_upgrade from one major to another, in the system of the newer one (scripts/chroot.sh). pg_upgrade
# must see both installations, so a copy of the older one of this machine, with our extension and every library that it
# needs, is lent to that system. Ends with the line "N passed, N failed"; needs root.
#
#   scripts/pg_upgrade.sh FROM TO      for example: scripts/pg_upgrade.sh 15 18

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Run by with-cluster.sh for the older major: makes $1, with programs in $1/bin.
pack() {
	local old=$1 bindir file program
	bindir=$(pg_config --bindir)
	bindir=${bindir#"$BUILD_DIR/pg$PG_MAJOR/root"}
	rm -rf "$old"
	mkdir -p "$old/bin" "$old/lib"
	cp -a "$BUILD_DIR/pg$PG_MAJOR/root/." "$old/"
	# The C library is that of the system where it will run, which is newer; LLVM is large and used for speed only.
	find "$old$bindir" "$old$bindir/../lib" -maxdepth 1 -type f ! -name 'llvmjit*' \( -name '*.so' -o -perm -u+x \) \
		-exec ldd {} + 2>/dev/null |
		sed -n 's/^\t[^ ]* => \(\/[^ ]*\) (0x[0-9a-f]*)$/\1/p' | sort -u |
		grep -vE '/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|resolv|util|anl|mvec|nss_[a-z]*)\.so\.[0-9]*)$' |
		while IFS= read -r file; do cp -L "$file" "$old/lib/"; done
	for program in "$old$bindir"/*; do
		file=$old/bin/${program##*/}
		printf '%s\n' '#!/bin/sh' "LD_LIBRARY_PATH=\${0%/*}/../lib exec \"\${0%/*}/..$bindir/${program##*/}\" \"\$@\"" >"$file"
		chmod +x "$file"
	done
}

if [ "${1:-}" = pack ]; then
	pack "$2"
	exit
fi
[ $# -eq 2 ] || die "usage: pg_upgrade.sh FROM TO"
[ "$(id -u)" -eq 0 ] || die "pg_upgrade.sh needs root"
from=$1 to=$2
work=$BUILD_DIR/upgrade
PG_MAJOR=$from "$ROOT/scripts/setup.sh" demo
PG_MAJOR=$from BUILD_DIR=$work "$ROOT/scripts/with-cluster.sh" "$ROOT/scripts/pg_upgrade.sh" pack "$work/old$from"
OLD_INSTALLATION=$work/old$from exec "$ROOT/scripts/chroot.sh" "$to" bash -c \
	'scripts/setup.sh check && exec scripts/with-cluster.sh scripts/check.sh tap 090_pg_upgrade'
