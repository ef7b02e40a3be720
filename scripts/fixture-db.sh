#!/usr/bin/env bash
# Makes the database $1 anew (as the superuser that PGUSER names), with the auth schema of the test fixture in it and
# then the extensions that the other arguments name.
#
#   scripts/fixture-db.sh DATABASE [EXTENSION]...

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
database=${1:?usage: fixture-db.sh DATABASE [EXTENSION]...}
shift

run() { PGOPTIONS='-c client_min_messages=warning' psql -X -q -v ON_ERROR_STOP=1 "$@" >/dev/null; }

run -d postgres -v database="$database" <<'SQL'
DROP DATABASE IF EXISTS :"database" WITH (FORCE);
CREATE DATABASE :"database";
SQL
run -d "$database" -f "$root/test/fixture/auth_schema.sql"
for extension in "$@"; do
	run -d "$database" -v extension="$extension" <<<'CREATE EXTENSION :"extension" CASCADE;'
done
