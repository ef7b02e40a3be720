#!/usr/bin/env bash
# The regress, isolation and pgTAP suites with the library built under AddressSanitizer and UBSan, and with PostgreSQL's
# assertions in our own code. What they find ends the backend, and check.sh fails on their words in the server's log.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

BUILD_DIR=$BUILD_DIR/sanitizers
leave_root "${BASH_SOURCE[0]}"
mkdir -p "$BUILD_DIR"

# A library that the server loads (p11-kit, by way of libldap) allocates in its constructor with glibc's locale lock
# held; an AddressSanitizer that starts up only then waits for that lock for ever. This one makes it start before.
gcc -shared -fPIC -O0 -Wl,-z,initfirst -o "$BUILD_DIR/start-first.so" -x c - <<'EOC'
#include <stdlib.h>
__attribute__((constructor)) static void start(void) { free(malloc(1)); }
EOC

export BUILD_DIR
export COPT="-O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -DUSE_ASSERT_CHECKING"
export ASAN_OPTIONS=detect_leaks=0 # what a backend leaves to its end is no leak
asan=$(realpath "$(gcc -print-file-name=libasan.so)")
export SERVER_PRELOAD="$asan $BUILD_DIR/start-first.so"
exec "$ROOT/scripts/with-cluster.sh" "$ROOT/scripts/check.sh" regress isolation pgtap
