#!/bin/sh
# Puts the parts of the extension that are in the directory $1, built for PostgreSQL $2, where the server of this image
# looks for them.
#
# In supabase/postgres the program "postgres" on the PATH is a wrapper that sets NIX_PGLIBDIR, and that is where $libdir
# is then, whatever pg_config says. Where there is no Nix pg_config is right.

set -eu

fail() {
	echo "place.sh: $*" >&2
	exit 1
}

parts=$1
major=$2
case $(postgres --version) in
*" $major."*) ;;
*) fail "built for PostgreSQL $major, but here is $(postgres --version)" ;;
esac
postgres=$(command -v postgres)
library=$(sed -n "s/^export NIX_PGLIBDIR=[\"']\{0,1\}\([^\"']*\)[\"']\{0,1\} *$/\1/p" "$postgres" | head -n 1)
if [ -z "$library" ]; then
	case $(readlink -f "$postgres") in
	/nix/*) fail "$postgres does not say where its libraries are" ;;
	esac
	library=$(pg_config --pkglibdir)
fi
share=$(pg_config --sharedir)/extension
for directory in "$library" "$share"; do
	[ -d "$directory" ] || fail "there is no directory $directory"
done
install -m 755 "$parts"/invite_sync.so "$library/"
install -m 644 "$parts"/invite_sync.control "$parts"/invite_sync--*.sql "$share/"
echo "placed in $library and $share"
