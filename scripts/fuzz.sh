#!/usr/bin/env bash
# Fuzzing of what reads a stranger's bytes outside of the server, and whether its way depends on secrets. For each room
# with a test/fuzz/ROOM_fuzz.c: the seeds in test/fuzz/corpus/ROOM, then FUZZ_SECONDS (20) of libFuzzer under
# AddressSanitizer and UBSan; and with a test/fuzz/ROOM_time.c: that program under valgrind, by gcc and by clang with
# PostgreSQL's own options. Ends with the line "N passed, N failed".
#
#   scripts/fuzz.sh [ROOM]...

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
BUILD_DIR=$BUILD_DIR/fuzz
leave_root "${BASH_SOURCE[0]}" "$@"
mkdir -p "$BUILD_DIR"
find_postgres || die "no PostgreSQL to build against; scripts/setup.sh installs one"
cd "$ROOT/test/fuzz"

seconds=${FUZZ_SECONDS:-20}
passed=0 failed=0

try() {
	local what=$1 log=$BUILD_DIR/log start=$SECONDS
	shift
	if "$@" >"$log" 2>&1; then
		passed=$((passed + 1))
		printf '%-7s %-50s %4d s\n' ok "$what" "$((SECONDS - start))"
	else
		failed=$((failed + 1))
		printf '%-7s %-50s %4d s\n' FAILED "$what" "$((SECONDS - start))"
		tail -n 100 "$log"
	fi
}

# compile COMPILER PROGRAM ROOM SOURCE OPTION...: the room's file, the source, and what stands for the server.
compile() {
	local compiler=$1 program=$2 room=$3 source=$4
	shift 4
	"$compiler" -Wall -Wextra -Wno-unused-parameter -Werror "$@" -D_GNU_SOURCE -isystem "$("$PG_CONFIG" --includedir-server)" \
		-I . -I "$ROOT/src" -o "$program" "$ROOT/src/$room.c" "$source" server.c
}

build() {
	compile clang "$BUILD_DIR/$1_fuzz" "$1" "$1_fuzz.c" -g -O1 -fno-omit-frame-pointer \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
}

fuzz() {
	local limits=(-detect_leaks=0 -timeout=10 -rss_limit_mb=1024 -artifact_prefix="$BUILD_DIR/$1-")
	if [ "$2" = seeds ]; then
		"$BUILD_DIR/$1_fuzz" "${limits[@]}" "corpus/$1"/*
		return
	fi
	rm -rf "$BUILD_DIR/corpus-$1"
	mkdir "$BUILD_DIR/corpus-$1"
	"$BUILD_DIR/$1_fuzz" "${limits[@]}" -max_total_time="$seconds" -max_len=300 -print_final_stats=1 "$BUILD_DIR/corpus-$1" "corpus/$1" || return
	# it ran, and did not merely end well
	[ "$(sed -n 's/^stat::number_of_executed_units: *//p' "$BUILD_DIR/log")" -gt 1000 ]
}

way() {
	local room=$1 compiler=$2 program=$BUILD_DIR/$1_time_$2 options
	read -ra options <<<"$("$PG_CONFIG" --cflags)"
	[ "$compiler" != clang ] || options+=(-Wno-unknown-warning-option -Wno-ignored-optimization-argument)
	# valgrind cannot read the newest form of debugging information
	compile "$compiler" "$program" "$room" "${room}_time.c" "${options[@]}" -gdwarf-4 || return
	valgrind --quiet --error-exitcode=1 "$program" || return
	# and what must be seen is seen
	if valgrind --quiet --error-exitcode=1 "$program" leak >"$program.leak" 2>&1; then
		echo "a jump that depends on a secret was not noticed"
		return 1
	fi
	grep 'Conditional jump or move depends on uninitialised' "$program.leak" && grep 'Use of uninitialised value' "$program.leak"
}

rooms=("$@")
if [ ${#rooms[@]} -eq 0 ]; then
	mapfile -t rooms < <(find . -name '*_fuzz.c' -printf '%f\n' | sed 's/_fuzz\.c$//' | sort)
fi
for room in "${rooms[@]}"; do
	try "fuzz: $room is built" build "$room"
	try "fuzz: $room, seeds" fuzz "$room" seeds
	try "fuzz: $room, $seconds s" fuzz "$room" more
	[ -e "${room}_time.c" ] || continue
	for compiler in gcc clang; do
		try "fuzz: $room, no way depends on secrets, $compiler" way "$room" "$compiler"
	done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
