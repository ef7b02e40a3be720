#!/usr/bin/env bash
# Runs a command with the npm packages of test/js: the ones that JS_MODULES names, or else those that npm installs here,
# once, in the versions of package-lock.json.
#
#   scripts/js.sh [--optional] COMMAND [ARGUMENT]...
#
# Where there are none to be had it says why in one line and fails; with --optional the command runs all the same, and
# finds that line in JS_MISSING. Where and how packages are fetched is npm's own configuration.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

needed=20

take_command "$@"
without() { run_without JS_MISSING "no npm packages to try docs/supabase-js.md with: $* (test/js/README.md)"; }
[ -z "${JS_MODULES:-}" ] || exec "${command[@]}"

for program in node npm; do
	command -v $program >/dev/null || without "$program is not installed; Node.js $needed or newer is needed"
done
version=$(node --version)
at_least "$needed" "${version#v}" || without "Node.js $version is installed; $needed or newer is needed"

mkdir -p "$BUILD_DIR"
lock=$(sha256sum "$ROOT/test/js/package-lock.json")
dir=$(cd "$BUILD_DIR" && pwd -P)/js/${lock%% *}
if [ ! -d "$dir/node_modules" ]; then
	rm -rf "${dir%/*}"
	mkdir -p "$dir/tmp"
	cp "$ROOT"/test/js/package.json "$ROOT"/test/js/package-lock.json "$ROOT"/test/js/.npmrc "$dir/tmp/"
	say "Getting the npm packages of test/js"
	# none of them needs a script of its own to be installed
	(cd "$dir/tmp" && npm ci --ignore-scripts --no-audit --no-fund) >"$dir/log" 2>&1 </dev/null ||
		without "npm could not get them, see ${dir#"$ROOT"/}/log"
	# the tests run it as somebody else where they are started as root
	chmod -R a+rX "$dir"
	mv "$dir/tmp/node_modules" "$dir/node_modules"
	rm -rf "$dir/tmp"
fi
exec env JS_MODULES="$dir/node_modules" "${command[@]}"
