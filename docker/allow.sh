#!/bin/sh
# Adds invite_sync to supautils.privileged_extensions in the configuration file $1, so that "postgres", who is no
# superuser, may CREATE, ALTER and DROP the extension. Again it changes nothing.

set -eu

fail() {
	echo "allow.sh: $*" >&2
	exit 1
}

file=$1
setting=supautils.privileged_extensions
assignment="^ *$setting *= *"
line=$(grep "$assignment" "$file" | tail -n 1)
[ -n "$line" ] || fail "$file does not set $setting"
case ,$(echo "${line#*=}" | tr -d " '"), in
*,invite_sync,*)
	echo "$setting has invite_sync already"
	exit 0
	;;
esac
changed=$(mktemp)
sed "s/\($assignment'[^']*\)'/\1, invite_sync'/; s/\($assignment'\), /\1/" "$file" >"$changed"
! cmp -s "$file" "$changed" || fail "$setting in $file is not a text in quotes"
# into the file that is there: its owner and mode stay
cat "$changed" >"$file"
rm -f "$changed"
echo "added invite_sync to $setting in $file"
