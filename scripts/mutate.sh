#!/usr/bin/env bash
# Do the tests notice? Breaks chosen places of the source one at a time (test/mutations/README.md), builds each mutant
# in a scratch copy, and runs the few tests that must go red. A mutant that they let pass, an anchor that is not found
# exactly once and a mutant that does not build are failures. Ends with the line "N passed, N failed".
#
#   scripts/with-cluster.sh scripts/mutate.sh [NAME]...
#
# NAME is a room or room/mutation; without one all of them run.
# MUTATIONS_OF=N, MUTATIONS_PARTS="1 2": of these only the first two of N parts, so that several runs can share them.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

: "${RUN_DIR:?run it as: scripts/with-cluster.sh scripts/mutate.sh}"
cd "$ROOT"

work=$(dirname "$RUN_DIR")
tree=$work/mutant
pristine=$work/mutant-data
passed=0 failed=0 start=$SECONDS baseline=()
# A mutant that waits for ever is noticed too, but not after the patience that a slow machine deserves.
export PGISOLATIONTIMEOUT=${PGISOLATIONTIMEOUT:-10} PG_TEST_TIMEOUT_DEFAULT=${PG_TEST_TIMEOUT_DEFAULT:-30}
patience=900

# ---------------------------------------------------------------------------
# Reading test/mutations/*.txt

names=() why=() file=() where=() tests=() olds=() news=()
n=-1
for list in test/mutations/*.txt; do
	room=$(basename "$list" .txt)
	while IFS= read -r line || [ -n "$line" ]; do
		case $line in
		'#'* | '') ;;
		'['*']'*)
			n=$((n + 1))
			names[n]=$room/${line#\[}
			names[n]=${names[n]%%\]*}
			why[n]=${line#*\] }
			file[n]='' where[n]='' tests[n]='' olds[n]='' news[n]=''
			;;
		'file: '*)
			file[n]=${line#file: }
			case ${file[n]} in *', '*) where[n]=${file[n]#*, } file[n]=${file[n]%%, *} ;; esac
			;;
		'test: '*) tests[n]+=${line#test: }$'\n' ;;
		-*) olds[n]+=${line#-}$'\n' ;;
		+*) news[n]+=${line#+}$'\n' ;;
		*) die "$list: neither of [name], file:, test:, -, +: $line" ;;
		esac
	done <"$list"
done
[ "$n" -ge 0 ] || die "there is nothing in test/mutations"

# The file of mutation $1 with the mutation in it, on standard output. White space of the anchor matches any white space,
# so that indenting anew changes nothing; everything else must be there, and only once.
mutate() {
	WHERE=${where[$1]} OLD=${olds[$1]} NEW=${news[$1]} perl -0777 -e '
		my $text = <STDIN>;
		my ($from, $to) = (0, length $text);
		if ($ENV{WHERE} ne "") {
			$text =~ /^\Q$ENV{WHERE}\E/m or die "no line begins with \"$ENV{WHERE}\"\n";
			$from = $-[0];
			$to = $from + $-[0] if substr($text, $from) =~ /^(?:\}|COMMENT ON)/m;
		}
		my $part = substr $text, $from, $to - $from;
		my $anchor = join "\\s+", map { quotemeta } split " ", $ENV{OLD};
		my $found = () = $part =~ /$anchor/g;
		die "the anchor is found $found times, not once\n" if $found != 1;
		(my $new = $ENV{NEW}) =~ s/\n\z//;
		$part =~ s/$anchor/$new/;
		print substr($text, 0, $from), $part, substr($text, $to);' <"${file[$1]}"
}

wanted() {
	local name
	[ $# -gt 1 ] || return 0
	for name in "${@:2}"; do
		case $1 in "$name" | "$name"/*) return 0 ;; esac
	done
	return 1
}

todo=()
for ((i = 0; i <= n; i++)); do
	wanted "${names[i]}" "$@" || continue
	todo+=("$i")
	if [ -z "${file[i]}" ] || [ -z "${tests[i]}" ] || [ -z "${olds[i]}" ]; then
		die "${names[i]}: file:, test: or the text to look for is missing"
	fi
	if ! why_not=$(mutate "$i" 2>&1 >/dev/null); then
		failed=$((failed + 1))
		echo "FAILED  ${names[i]}: ${file[i]}: $why_not"
	fi
done
[ ${#todo[@]} -gt 0 ] || die "there is no such mutation: $*"
if [ -n "${MUTATIONS_OF:-}" ]; then
	for i in "${!todo[@]}"; do
		case " $MUTATIONS_PARTS " in *" $((i % MUTATIONS_OF + 1)) "*) ;; *) unset "todo[i]" ;; esac
	done
fi
if [ "$failed" -gt 0 ]; then
	echo "test/mutations no longer fits the source"
	echo "0 passed, $failed failed"
	exit 1
fi

# ---------------------------------------------------------------------------
# Building, a new cluster, running tests

# Without optimization: nothing here is about speed but this.
build() {
	make -C "$tree" PG_CONFIG="$PG_CONFIG" DESTDIR="$work/root" with_llvm=no \
		COPT="-O0 -Wno-cpp -Wno-unused -Wno-unused-but-set-variable" all install >"$work/mutant.log" 2>&1
}

fresh_cluster() {
	stop_servers_below "$RUN_DIR"
	pg_ctl -D "$work/data" -m immediate -s stop >/dev/null 2>&1 || true
	rm -rf "$work/data" "$RUN_DIR"/{regress,isolation,tap,pgtap}
	cp -a "$pristine" "$work/data"
	: >"$SERVER_LOG"
	pg_ctl -w -s -D "$work/data" -l "$SERVER_LOG" start || die "the server does not start"
}

# Runs one "test:" line, words of check.sh with settings for the environment before them. 0: green, 1: red; any other
# ending says nothing about the mutant and ends the run.
run_test() {
	local words settings=() rc=0 log=$work/mutant-test.log
	read -ra words <<<"$1"
	while [[ ${words[0]} == *=* ]]; do
		settings+=("${words[0]}")
		words=("${words[@]:1}")
	done
	timeout --kill-after=5 "$patience" env "${settings[@]}" scripts/check.sh "${words[@]}" >"$log" 2>&1 </dev/null || rc=$?
	case $rc in
	0) return 0 ;;
	124 | 137) echo "no end after $patience s" >>"$log" ;;
	*)
		grep -qE '^[0-9]+ passed, [1-9][0-9]* failed' "$log" || {
			cat "$log"
			die "cannot be run: $1"
		}
		;;
	esac
	return 1
}

pg_ctl -D "$work/data" -m fast -w -s stop
rm -rf "$tree" "$pristine"
mv "$work/data" "$pristine"
cp -a "$work/src" "$tree"
rm -f "$tree"/src/*.o
rm -rf "$work/root$("$PG_CONFIG" --pkglibdir)/bitcode/invite_sync"
build || {
	cat "$work/mutant.log"
	die "the extension does not build"
}

# ---------------------------------------------------------------------------
# Without a mutation the tests are green, or their being red would mean nothing. Each test runs once: a suite's names
# together, and so the cases of a TAP file.

mapfile -t all < <(for i in "${todo[@]}"; do printf '%s' "${tests[i]}"; done | sort -u)
for suite in regress isolation pgtap; do
	mapfile -t together < <(printf '%s\n' "${all[@]}" | sed -n "s/^$suite //p" | tr ' ' '\n' | sort -u)
	[ ${#together[@]} -eq 0 ] || baseline+=("$suite ${together[*]}")
done
mapfile -t -O ${#baseline[@]} baseline < <(printf '%s\n' "${all[@]}" | grep -vE '^(regress|isolation|pgtap) ' |
	awk '{ c = $1; sub(/^BREAKAGES=[^ ]* /, "")
		if (c ~ /^BREAKAGES=/) cases[$0] = cases[$0] (cases[$0] == "" ? "" : ",") substr(c, 11); else print }
		END { for (t in cases) print "BREAKAGES=" cases[t] " " t }')
for test in "${baseline[@]}"; do
	fresh_cluster
	began=$SECONDS
	run_test "$test" || {
		cat "$work/mutant-test.log"
		die "red without a mutation: $test"
	}
	printf '%-8s %-60s %4d s\n' green "$test" "$((SECONDS - began))"
done

# ---------------------------------------------------------------------------
# The mutants

patience=90
for i in "${todo[@]}"; do
	began=$SECONDS verdict=
	mutate "$i" >"$tree/mutated"
	cp "$tree/${file[i]}" "$tree/original"
	mv "$tree/mutated" "$tree/${file[i]}"
	if ! build; then
		verdict='does not build'
	else
		while [ -z "$verdict" ] && IFS= read -r test; do
			fresh_cluster
			run_test "$test" || verdict="noticed by ${test##*=}$(sed -n 's/^no end after .*/: &/p' "$work/mutant-test.log")"
		done < <(printf '%s' "${tests[i]}")
	fi
	case $verdict in
	noticed*) passed=$((passed + 1)) word=ok ;;
	'') failed=$((failed + 1)) word=FAILED verdict="SURVIVES ${tests[i]//$'\n'/; }" ;;
	*) failed=$((failed + 1)) word=FAILED ;;
	esac
	printf '%-7s %-42s %4d s  %s\n' "$word" "${names[i]}" "$((SECONDS - began))" "$verdict"
	case $verdict in
	noticed*) ;;
	'does not build') tail -n 20 "$work/mutant.log" ;;
	*) printf '        %s\n' "${why[i]}" ;;
	esac
	# written anew, so that make sees that it is another file again
	cat "$tree/original" >"$tree/${file[i]}"
done

# the next run of with-cluster.sh builds and installs what is in the tree
rm -rf "$tree" "$pristine"
echo "PostgreSQL $PG_MAJOR, $((SECONDS - start)) s"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
