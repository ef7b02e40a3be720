#!/usr/bin/env bash
# The demo: scripts/demo.sql told by psql on a throwaway cluster.
#
#   scripts/with-cluster.sh scripts/demo.sh          the story, then the end
#   scripts/with-cluster.sh scripts/demo.sh serve    the story's end state, kept until Ctrl-C or "demo.sh stop"
#   scripts/demo.sh stop                             ends a "serve" that has the same BUILD_DIR

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

pid_file=$BUILD_DIR/demo-server.pid

story() {
	"$ROOT/scripts/fixture-db.sh" demo
	# from standard input, so that a WARNING comes without the file's name in front; and in its place
	psql -X -q -v ON_ERROR_STOP=1 -P pager=off -d demo <"$ROOT/scripts/demo.sql" 2>&1
}

# A process id may have been reused since: only a waiting process of ours is ended.
waiting() {
	pid=$(cat "$pid_file" 2>/dev/null) && [[ $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) == *"demo.sh serve "* ]]
}

case ${1:-} in
'')
	story
	;;
serve)
	story >"$RUN_DIR/demo.out" 2>&1 || { cat "$RUN_DIR/demo.out" >&2; die "the demo's story failed"; }
	echo "The demo's database is running. Connect to it as the application's owner:"
	echo
	echo "    psql 'host=$PGHOST user=postgres dbname=demo'"
	echo
	echo "(user=supabase_admin is the superuser; psql is also at $(command -v psql))"
	echo "It ends, and everything of it goes, with Ctrl-C here or 'make demo-stop' elsewhere."
	trap 'kill "$!"; exit 0' INT TERM
	echo $$ >"$pid_file"
	sleep infinity &
	wait
	;;
stop)
	if waiting; then
		kill "$pid"
		# the server's data directory goes last
		for _ in {1..300}; do
			compgen -G "$BUILD_DIR/pg*/data" >/dev/null || break
			sleep 0.1
		done
		echo "stopped"
	else
		stop_servers_below "$BUILD_DIR"
		echo "no demo server is running"
	fi
	rm -f "$pid_file"
	;;
*)
	die "usage: demo.sh [serve|stop]"
	;;
esac
