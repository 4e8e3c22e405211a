# clubfs.  `make help` lists the targets.  Overridable: CC CFLAGS CPPFLAGS LDFLAGS LDLIBS
# PREFIX SBINDIR MANDIR HELPERDIR DESTDIR, and V=1 SAN=1 TSAN=1 CLANG=1 WERROR=1.
PREFIX	?= /usr/local
SBINDIR	?= $(PREFIX)/sbin
MANDIR	?= $(PREFIX)/share/man
# mount(8) looks for mount.TYPE in /sbin only, whatever the prefix is.
HELPERDIR ?= $(if $(filter /usr /usr/local,$(PREFIX)),/usr/sbin,$(SBINDIR))
CFLAGS	?= -O2 -g
JOBS	?= $(shell nproc)
PYTHON	?= /usr/bin/python3
# Optional sample databases for the demo and the tests; what needs them is skipped without.
ACCESS_FILES ?= $(CURDIR)/../shared/data/access
export ACCESS_FILES PYTHON WERROR

ifdef CLANG
CC	:= clang
else ifeq ($(origin CC),default)
CC	:= gcc
endif
B	:= build$(if $(SAN),-san)$(if $(TSAN),-tsan)$(if $(CLANG),-clang)
Q	:= $(if $(V),,@)

##### Flags: warnings, hardening, then whatever the user asked for

cc-option = $(shell $(CC) -Werror $(1) -c -x c /dev/null -o /dev/null 2>/dev/null && echo $(1))
WARN	:= -Wall -Wextra -Wshadow -Wconversion -Wformat=2 -Wvla -Wundef -Wpointer-arith \
	   -Wwrite-strings -Wmissing-prototypes -Wstrict-prototypes -Wimplicit-fallthrough \
	   $(if $(WERROR),-Werror)
ifneq ($(SAN)$(TSAN),)	# fortify hides what the sanitizers want to see
HARD	:= $(if $(TSAN),-fsanitize=thread,-fsanitize=address,undefined) \
	   -fno-sanitize-recover=all -fno-omit-frame-pointer -fPIE
HARDLD	:= $(HARD) -pie
else
HARD	:= -U_FORTIFY_SOURCE $(if $(findstring -O0,$(CFLAGS)),,-D_FORTIFY_SOURCE=3) \
	   -fstack-protector-strong -fPIE \
	   $(call cc-option,-fstack-clash-protection) $(call cc-option,-fcf-protection) \
	   $(call cc-option,-ftrivial-auto-var-init=zero)
HARDLD	:= -pie -Wl,-z,relro,-z,now,-z,noexecstack
endif

# Asked on first use and then remembered: `make deps` has to work before pkg-config is there.
pkg	 = $(shell pkg-config $(1) 2>/dev/null)
once	 = $(eval $(1) := $(2))$($(1))
BASE_PC	:= libsodium libcrypto libxxhash libsystemd libseccomp libcap-ng
BASE_CFLAGS = $(call once,BASE_CFLAGS,$(call pkg,--cflags $(BASE_PC)))
BASE_LIBS   = $(call once,BASE_LIBS,$(call pkg,--libs $(BASE_PC)) -pthread)
# libfuse's own headers are not ours to lint, so they are system headers.  Only fs/mount
# and the tests may see them: a FUSE header in the storage engine does not compile.
FUSE_CFLAGS = $(call once,FUSE_CFLAGS,$(patsubst -I%,-isystem %,$(call pkg,--cflags fuse3)))
FUSE_LIBS   = $(call once,FUSE_LIBS,$(call pkg,--libs fuse3))
TEST_LIBS   = $(call once,TEST_LIBS,$(call pkg,--libs criterion))

LANG_FLAGS := -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I.
ALL_CFLAGS = $(LANG_FLAGS) $(WARN) $(HARD) -pthread -MMD -MP $(BASE_CFLAGS) $(CPPFLAGS) $(CFLAGS)
LINK	   = $(CC) -o $@ $(HARDLD) -Wl,--as-needed $(CFLAGS) $(LDFLAGS)

##### What is built from what

# One archive per folder, so that a program gets only the modules that it uses.
OBJ	 = $(patsubst %.c,$(B)/%.o,$(1))
LIBSRC	:= $(wildcard keyd/lib/*.c)
KEYDSRC	:= $(filter-out %/main.c,$(wildcard keyd/*.c))
STORESRC := $(wildcard fs/store/*.c)
MOUNTSRC := $(filter-out %/main.c,$(wildcard fs/mount/*.c))
CTLSRC	:= $(filter-out %/main.c,$(wildcard tools/clubctl/*.c))
MODULES	:= $(LIBSRC) $(KEYDSRC) $(STORESRC) $(MOUNTSRC) $(CTLSRC)
MAINS	:= $(wildcard fs/mount/main.c keyd/main.c tools/clubctl/main.c)
UNITSRC	:= $(wildcard tests/unit/test_*.c)
FUZZSRC	:= $(wildcard tests/fuzz/fuzz_*.c)
SOURCES	:= $(MODULES) $(MAINS) $(FUZZSRC) $(wildcard tests/unit/*.c tests/bench/*.c tests/crash/*.c)
HEADERS	:= $(wildcard keyd/*.h keyd/lib/*.h fs/*/*.h tools/*/*.h tests/*/*.h)

lib	 = $(if $(strip $(2)),$(B)/lib$(1).a)
KEYLIB	:= $(call lib,keylib,$(LIBSRC))
KEYD	:= $(call lib,keyd,$(KEYDSRC))
STORE	:= $(call lib,store,$(STORESRC))
MOUNT	:= $(call lib,mount,$(MOUNTSRC))
CTL	:= $(call lib,clubctl,$(CTLSRC))

PROGS	:= $(if $(wildcard fs/mount/main.c),$(B)/clubfs) \
	   $(if $(wildcard keyd/main.c),$(B)/clubkeyd) \
	   $(if $(wildcard tools/clubctl/main.c),$(B)/clubctl)
TESTS	:= $(patsubst tests/unit/%.c,$(B)/%,$(UNITSRC))
# Whatever else lies in tests/unit is shared by the tests there, and so is the simulated disk.
TESTHELP := $(filter-out $(UNITSRC),$(wildcard tests/unit/*.c)) $(FUZZSRC) $(wildcard tests/crash/sim*.c)
MAN8	:= $(wildcard fs/*.8 keyd/*.8 tools/*/*.8)

all: $(PROGS)	## build every program (default)

tests: $(TESTS)	## build the unit tests

$(B)/libkeylib.a: $(call OBJ,$(LIBSRC))
$(B)/libkeyd.a: $(call OBJ,$(KEYDSRC))
$(B)/libstore.a: $(call OBJ,$(STORESRC))
$(B)/libmount.a: $(call OBJ,$(MOUNTSRC))
$(B)/libclubctl.a: $(call OBJ,$(CTLSRC))
$(B)/lib%.a: $(B)/.flags
	@echo '  AR      $@'
	$(Q)rm -f $@ && ar rcs $@ $(filter %.o,$^)

$(B)/clubfs: $(B)/fs/mount/main.o $(MOUNT) $(STORE) $(KEYLIB)
$(B)/clubfs: LDLIBS += $(FUSE_LIBS)
$(B)/clubkeyd: $(B)/keyd/main.o $(KEYD) $(KEYLIB)
$(B)/clubctl: $(B)/tools/clubctl/main.o $(CTL) $(STORE) $(KEYD) $(KEYLIB)
$(B)/clubctl: LDLIBS += -ljson-c
# A static pattern: "%: deps" without a recipe would be ignored and link an empty, passing test.
$(TESTS): $(B)/test_%: $(B)/tests/unit/test_%.o $(call OBJ,$(TESTHELP)) \
			$(CTL) $(MOUNT) $(STORE) $(KEYD) $(KEYLIB)
$(TESTS): LDLIBS += $(FUSE_LIBS) $(TEST_LIBS) -ljson-c
$(PROGS) $(TESTS):
	@echo '  LD      $@'
	$(Q)$(LINK) $(filter %.o %.a,$^) $(LDLIBS) $(BASE_LIBS)

$(B)/fs/mount/%.o $(B)/tests/unit/%.o: EXTRA_CFLAGS = $(FUSE_CFLAGS)
$(B)/%.o: %.c $(B)/.flags
	@mkdir -p $(@D) && echo '  CC      $@'
	$(Q)$(CC) $(ALL_CFLAGS) $(EXTRA_CFLAGS) -c -o $@ $<

# Rewritten only when flags or file lists changed, so that nothing stale is linked.
FLAGS	 = $(CC) $(ALL_CFLAGS) $(FUSE_CFLAGS) $(LINK) $(MODULES) $(TESTHELP)
$(B)/.flags: FORCE
	@mkdir -p $(B); echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' >$@

##### Tests

test:	## install what is missing, build, and run every check and test; this is what CI runs
	$(Q)$(MAKE) --no-print-directory deps deps-suites
	$(Q)MAKE='$(MAKE)' JOBS='$(JOBS)' tests/ci.sh all

check: all unit check-symbols check-style check-man	## unit tests and static checks; no root needed

unit: $(TESTS)	## run the unit tests
	$(Q)B=$(B) tests/unit/run.sh $(TESTS)

e2e: all	## run the tests that mount; T='-k word' selects
	$(Q)CLUBFS_BIN=$(CURDIR)/$(B) CLUBFS_SAN=$(SAN)$(TSAN) $(PYTHON) -B -m pytest \
		-p no:cacheprovider -c tests/e2e/pytest.ini --rootdir=tests/e2e -n $(JOBS) \
		$(if $(findstring tests/e2e,$(T)),,tests/e2e) $(T)

FUZZ_TIME ?= 60
FUZZERS	:= $(addprefix build-fuzz/fuzz-,filehdr clubhdr name xattr geom wire control journal \
	     auditline auditnote keyfile backup policy ask)
$(FUZZERS): build-fuzz/fuzz-%: tests/fuzz/entry.c $(FUZZSRC) $(LIBSRC) $(KEYDSRC) \
		$(STORESRC) $(HEADERS)
	@mkdir -p $(@D) && echo '  FUZZ    $@'
	$(Q)clang -g -O1 $(LANG_FLAGS) $(BASE_CFLAGS) -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=all -DTARGET=fuzz_$* -o $@ $(filter %.c,$^) $(BASE_LIBS)

# The crash tests: the engine with its deliberate faults compiled in, on the simulated disk.
CRASH_TIME ?= 600
CRASH	:= build-crash/explore
CRASHSRC := $(wildcard tests/crash/*.c)
$(CRASH): $(CRASHSRC) $(STORESRC) $(LIBSRC) $(HEADERS)
	@mkdir -p $(@D) && echo '  CRASH   $@'
	$(Q)$(CC) -O2 -g $(LANG_FLAGS) $(WARN) $(BASE_CFLAGS) -DSTORE_MUTANTS -pthread -o $@ \
		$(filter %.c,$^) $(BASE_LIBS)

crash: $(CRASH)	## lose power everywhere for CRASH_TIME seconds; then mutants and faults
	$(Q)$(CRASH) --seconds $(CRASH_TIME)
	$(Q)$(CRASH) --mutants --seconds $(or $(MUTANT_TIME),60)
	$(Q)$(CRASH) --faults $(or $(FAULT_STRIDE),1)

fuzz: $(FUZZERS)	## run every fuzzer FUZZ_TIME seconds
	$(Q)tests/fuzz/run.sh $(FUZZ_TIME) $(FUZZERS)

san:	## unit tests and mounts again with ASan and UBSan
	$(Q)$(MAKE) --no-print-directory SAN=1 unit e2e

tsan:	## mounts once more with the thread sanitizer; Criterion does not run under it
	$(Q)$(MAKE) --no-print-directory TSAN=1 e2e

demo:	## the whole system at work in a scratch directory; DEMO_DB=FILE adds an Access database
	$(Q)$(MAKE) --no-print-directory deps-demo
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) all
	$(Q)CLUBFS_BIN=$(CURDIR)/$(B) tests/demo.sh

bench: all	## compare with plain, passthrough, gocryptfs, securefs, encfs; ROWS="key ..." ROUNDS=n ONLY="name ..."
	$(Q)CLUBFS_BIN=$(CURDIR)/$(B) $(PYTHON) -B tests/bench/bench.py \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(BENCH_DIR),--dir $(BENCH_DIR)) \
		$(addprefix --only ,$(ONLY)) $(ROWS)
	$(if $(ROWS)$(ONLY),,$(Q)$(MAKE) --no-print-directory bench-keyd)

bench-keyd: all	## leases: a key's cost, 5,000 clubs at once, a revocation; then a flood; CLUBS=n FLOOD=n
	$(Q)CLUBFS_BIN=$(CURDIR)/$(B) $(PYTHON) -B tests/bench/keyd.py \
		$(if $(CLUBS),--clubs $(CLUBS)) $(if $(BENCH_DIR),--dir $(BENCH_DIR))
	$(Q)CLUBFS_BIN=$(CURDIR)/$(B) $(PYTHON) -B tests/bench/flood.py $(FLOOD)

test-suites: all	## test suites that others wrote; SUITES="fio samba", SUITES_QUICK=1
	$(Q)CLUBFS_BIN=$(CURDIR)/$(B) SUITES_QUICK=$(SUITES_QUICK) $(PYTHON) -B \
		tests/suites/suites.py $(SUITES)

test-container:	## both README commands in a fresh minimal tree; DEBIAN="12 13", as root
	$(Q)for v in $(or $(DEBIAN),12 13); do tests/container.sh $$v || exit 1; done

##### Static checks

check-symbols: $(call OBJ,$(MODULES))	## each file exports only names with its own prefix
	$(Q)for o in $(filter %.o,$^); do m=$$(basename $$o .o); p=$${m##*_}; \
		nm -g --defined-only $$o | awk 'NF == 3 { print $$3 }' \
			| grep -vE "^($$m|$$p|$${m%%_*}_|__)" | sed "s|^|$$o exports |"; done | { ! grep .; }

check-man:	## lint the manual pages
	$(Q)$(if $(MAN8),mandoc -Tlint -Wwarning $(MAN8))

check-style:	## tabs, line and file length, trailing blanks
	$(Q)awk -f tests/style.awk $(SOURCES) $(HEADERS)

lint:	## cppcheck and clang-tidy
	$(Q)cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
		--error-exitcode=1 --suppress=missingIncludeSystem \
		--suppress=normalCheckLevelMaxBranches -D_GNU_SOURCE -I. -j$(JOBS) \
		$(MODULES) $(MAINS)
	$(Q)printf '%s\n' $(MODULES) $(MAINS) | xargs -P$(JOBS) -n1 sh -c \
		'clang-tidy --quiet "$$@" -- $(LANG_FLAGS) $(BASE_CFLAGS) $(FUSE_CFLAGS) 2>/dev/null' -

format-diff:	## what clang-format would change; advice, not a gate
	$(Q)for f in $(SOURCES) $(HEADERS); do clang-format $$f | diff -u --label $$f $$f - ; done; :

##### Installing what is needed, and what was built

APT_BUILD := gcc libc6-dev pkg-config libfuse3-dev libsodium-dev libssl-dev libxxhash-dev \
	     libsystemd-dev libjson-c-dev libseccomp-dev libcap-ng-dev
APT_DEMO := $(APT_BUILD) fuse3 sqlite3 mdbtools python3 util-linux procps
APT_TEST := $(APT_DEMO) clang libclang-rt-dev clang-tidy cppcheck mandoc libcriterion-dev python3-pytest \
	    python3-pytest-xdist python3-cryptography attr acl rsync strace gdb systemd e2fsprogs \
	    util-linux-extra samba samba-vfs-modules smbclient golang-go golang-golang-x-mod-dev \
	    faketime openssl
APT_BENCH := $(APT_DEMO) gocryptfs securefs encfs e2fsprogs
APT_SUITES := $(APT_DEMO) fio stress-ng dbench bonnie++ samba samba-vfs-modules samba-testsuite \
	      samba-common-bin
need	  = $(Q)tests/deps.sh $(1)

deps:	## install the packages for building and testing, if any is missing
	$(call need,$(APT_TEST))

deps-build:	## the same, only for building
	$(call need,$(APT_BUILD))

deps-demo:	## the same, for the demo
	$(call need,$(APT_DEMO))

deps-bench:	## the same, for the benchmark
	$(call need,$(APT_BENCH))

deps-suites:	## the same, for the test suites of others; Samba does not become a service
	$(call need,$(APT_SUITES))

install: all	## honours DESTDIR and PREFIX
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(HELPERDIR) $(DESTDIR)$(MANDIR)/man8
	install -m755 $(PROGS) $(DESTDIR)$(SBINDIR)
	$(if $(MAN8),install -m644 $(MAN8) $(DESTDIR)$(MANDIR)/man8)
	ln -sfn $(SBINDIR)/clubfs $(DESTDIR)$(HELPERDIR)/mount.clubfs

uninstall:	## undo install
	rm -f $(addprefix $(DESTDIR)$(SBINDIR)/,clubfs clubkeyd clubctl)
	rm -f $(addprefix $(DESTDIR)$(MANDIR)/man8/,$(notdir $(MAN8)))
	rm -f $(DESTDIR)$(HELPERDIR)/mount.clubfs

help:	## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t16

clean:	## remove everything that was built
	rm -rf build build-san build-tsan build-clang build-bench build-fuzz build-crash

.PHONY: all crash fuzz tests test check unit e2e san tsan demo bench bench-keyd test-suites \
	test-container check-symbols check-man check-style lint format-diff deps deps-build deps-demo deps-bench \
	deps-suites install uninstall help clean FORCE
.DELETE_ON_ERROR:
-include $(patsubst %.o,%.d,$(call OBJ,$(SOURCES)))
