# invite_sync: auth.users synced to application tables
#
# A developer's commands:   make, make install, make installcheck (PGXS, PG_CONFIG as usual)
# A fresh machine's ones:   make demo, make check, make fuzz, make bench, make mutate, make soak (they install what is missing);
#                           make check-gotrue (builds an auth server, which needs Go), make check-js (needs Node.js)

EXTENSION = invite_sync
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" invite_sync.control)

MODULE_big = invite_sync
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))

# The install script is joined from its parts in this order; a room comes after the rooms it uses.
SQL_PARTS = $(foreach part,prelude caller caller_act caller_grant plan event sync standard quarantine sync_operate organization organization_domain membership membership_role membership_join membership_rls token invitation invitation_accept quota account hook doctor doctor_probe doctor_guard doctor_audit drift grants,$(wildcard sql/$(part).sql))
SQL_SCRIPT = $(EXTENSION)--$(EXTVERSION).sql

DATA = $(wildcard sql/upgrade/*--*--*.sql)
DATA_built = $(SQL_SCRIPT)
PGFILEDESC = "invite_sync - auth.users synced to application tables"

# setup makes the test database what all the others expect, so it goes first.
TESTS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS = $(filter setup,$(TESTS)) $(filter-out setup,$(TESTS))
REGRESS_OPTS = --inputdir=test
REGRESS_PREP = fixture-database

ISOLATION = $(patsubst test/isolation/specs/%.spec,%,$(sort $(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test/isolation --use-existing --dbname=isolation_regression

TAP_TESTS = $(if $(wildcard test/t/*.pl),1)
PROVE_TESTS = test/t/*.pl
PROVE_FLAGS = -I test/perl

PG_CPPFLAGS = -DINVITE_SYNC_VERSION='"$(EXTVERSION)"'
EXTRA_CLEAN = build src/*.bc src/errcodes_known.h results output_iso tmp_check regression.diffs regression.out

# These targets build in a place of their own and must work before there is any PostgreSQL; besides, PGXS has a
# "check" of its own, one that only refuses. So it is either they or PGXS.
THROWAWAY = check check-gotrue check-js fuzz mutate soak demo demo-server demo-stop bench

ifeq (,$(filter $(THROWAWAY),$(MAKECMDGOALS)))

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

ifneq (,$(wildcard $(PGXS)))
include $(PGXS)

# The SQLSTATEs that this PostgreSQL defines, for telling a deliberate refusal from a failure.
src/errcodes_known.h: $(shell $(PG_CONFIG) --includedir-server)/utils/errcodes.h
	sed -n 's/^#define \(ERRCODE_[A-Z0-9_]*\) .*/	\1,/p' $< > $@.tmp && mv $@.tmp $@

src/quarantine.o src/quarantine.bc: src/errcodes_known.h

# What policies ask for each row costs little more than its calls into the server, so they go there without a detour.
ifeq ($(PORTNAME),linux)
src/membership_rls.o: override CFLAGS += -fno-plt
endif

# PGXS does not follow includes; the headers are few, so each object depends on all of them.
$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h) invite_sync.control

$(SQL_SCRIPT): $(SQL_PARTS) invite_sync.control Makefile
	cat $(SQL_PARTS) > $@.tmp && mv $@.tmp $@

# pg_isolation_regress cannot load a file into its database, so the database is made for it.
fixture-database:
	$(if $(ISOLATION),PATH="$$($(PG_CONFIG) --bindir):$$PATH" scripts/fixture-db.sh isolation_regression invite_sync)

.PHONY: fixture-database
else
all install installcheck:
	@echo "There is no PostgreSQL to build against: $(PG_CONFIG) is missing or came without its build files." >&2
	@echo "Install postgresql-server-dev-NN or set PG_CONFIG; or run 'make demo', which installs it." >&2
	@exit 1
clean:
	rm -rf $(EXTRA_CLEAN) $(OBJS) $(MODULE_big).so $(SQL_SCRIPT)
.PHONY: all install installcheck clean
endif

else

check:
	scripts/setup.sh check
	scripts/gotrue.sh --optional scripts/js.sh --optional scripts/with-cluster.sh scripts/check.sh

# The tests against a real auth server: the one that GOTRUE_SERVER names, or one built from its Go module.
check-gotrue:
	scripts/setup.sh gotrue
	scripts/gotrue.sh scripts/with-cluster.sh scripts/check.sh gotrue

# The examples of docs/supabase-js.md through the npm packages, which need Node.js.
check-js:
	scripts/setup.sh demo
	scripts/js.sh scripts/with-cluster.sh scripts/check.sh js

# What reads a stranger's bytes, as a program of its own: FUZZ_SECONDS (20) of libFuzzer for each such room.
fuzz:
	scripts/setup.sh fuzz
	scripts/fuzz.sh

# Do the tests notice when the code is broken? See test/mutations/README.md.
mutate:
	scripts/setup.sh check
	scripts/with-cluster.sh scripts/mutate.sh

# Ten minutes of mixed traffic; "make check" has a short form of it.
soak:
	scripts/setup.sh check
	SOAK_SECONDS=$${SOAK_SECONDS:-600} scripts/with-cluster.sh scripts/check.sh tap 075_soak

demo:
	@scripts/setup.sh demo
	@scripts/with-cluster.sh scripts/demo.sh

# Keeps the demo's cluster until Ctrl-C or "make demo-stop". It has a build directory of its own, so that the
# other targets can be used meanwhile.
demo-server:
	@scripts/setup.sh demo
	@BUILD_DIR=$(CURDIR)/build/demo-server scripts/with-cluster.sh scripts/demo.sh serve

demo-stop:
	@BUILD_DIR=$(CURDIR)/build/demo-server scripts/demo.sh stop

bench:
	scripts/setup.sh demo
	scripts/with-cluster.sh bench/run.sh

.PHONY: $(THROWAWAY)
endif
