# The command you type is the command CI runs.
#
# demo      the story in the terminal, against real peers
# test      every test; a missing peer is a failure
# check     formatting, lints, documentation, licences and advisories, then every test
# bench     raw token and whole appliance, measured in one run
# faults    every plan of a ceremony, killed at every point, on both software tokens: an hour or more
# mutations every change of an evidence bundle is found, and every forgery judged alike: ten thousand of each
# issuer    the OpenID Connect issuer of the tests: npm packages, as its lock file has them
# pkilint   the linter of certificates of the tests: Python packages, pinned, in a place of their own
# snapshots the checked-in output of programs, made again
# windows   chancery.exe and chancery-card.exe; with WINDOWS_PROFILE=release, for people
# kryoptic  the second software token of the tests, a workspace of its own
# samba     the domain controller of the tests, of Debian 13's backports, in a directory of its own
# ykman     Yubico's program, which reads the cards of the tests: Python packages, pinned, as pkilint
# packages  what the above need from the system (Debian; a no-op when all is there)

.PHONY: demo test check bench faults mutations issuer kryoptic packages pkilint samba snapshots windows ykman

CARGO = cargo
KRYOPTIC = --manifest-path softhsm-tests/kryoptic/Cargo.toml

demo: packages
	$(CARGO) build --locked --workspace --bins
	target/debug/demo

# The stories run the programs that lie beside them, so those are built first.
test: packages issuer kryoptic pkilint samba windows ykman
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace --no-fail-fast

check: packages
	$(CARGO) fmt --check
	$(CARGO) fmt --check $(KRYOPTIC)
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked $(KRYOPTIC) --target-dir target/kryoptic -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	scripts/check-dependencies
	$(MAKE) test

# In memory, if the system has room there: a kill is a kill, and nobody waits for a disk.
faults: packages kryoptic
	$(CARGO) build --locked --package chancery-ceremony --package chancery-shim
	TMPDIR=$$(test -w /dev/shm && echo /dev/shm || echo /tmp) \
	$(CARGO) test --locked --package chancery-ceremony --test faults -- --ignored --nocapture --test-threads 1

mutations: packages
	$(CARGO) test --locked --package chancery-ceremony --test mutations --test forgeries -- --ignored --nocapture

bench: packages
	$(CARGO) build --locked --release --workspace --bins
	target/release/load

issuer: packages softhsm-tests/oidc/node_modules/.package-lock.json

softhsm-tests/oidc/node_modules/.package-lock.json: softhsm-tests/oidc/package-lock.json
	npm ci --prefix softhsm-tests/oidc --ignore-scripts --no-audit --no-fund

pkilint: packages target/pkilint/installed

target/pkilint/installed: ceremony/tests/pkilint/requirements.txt
	python3 -m venv target/pkilint
	target/pkilint/bin/python -m pip install -q --disable-pip-version-check --no-deps -r $<
	touch $@

ykman: packages target/ykman/installed

# Of its packages, pyscard is built here; what builds it is pinned by the same file.
target/ykman/installed: softhsm-tests/ykman/requirements.txt
	python3 -m venv --clear target/ykman
	PIP_CONSTRAINT=$< target/ykman/bin/python -m pip install -q --disable-pip-version-check --no-deps -r $<
	target/ykman/bin/ykman --version
	touch $@

# After a change that is meant: look at the difference before it is committed.
snapshots:
	$(CARGO) test --locked -p chancery-ceremony --test snapshots -- --ignored make_the_snapshots_again

kryoptic: packages
	$(CARGO) build --locked $(KRYOPTIC) --target-dir target/kryoptic

# Debian's compiler, since its source is there to build the standard library from; rustup's has that
# for Windows only from a server of its own. Building it is allowed to nightly compilers alone, hence
# the variable.
WINDOWS_PROFILE = dev
windows: packages target/windows/wine/system.reg
	RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
	CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc \
	$(CARGO) build --locked -Zbuild-std=std,panic_abort --target x86_64-pc-windows-gnu \
	    --target-dir target/windows --profile $(WINDOWS_PROFILE) -p chancery-client -p chancery-card --bins

# The stories run the programs under Wine: one Windows for all of them, and what Wine lacks.
target/windows/wine/system.reg: softhsm-tests/wine/bcryptprimitives.c | packages
	mkdir -p target/windows/lacking
	x86_64-w64-mingw32-gcc -shared -o target/windows/lacking/bcryptprimitives.dll $< -ladvapi32
	rm -rf target/windows/wine target/windows/wine.new
	DISPLAY= WINEPREFIX=$(CURDIR)/target/windows/wine.new WINEDEBUG=-all \
	WINEDLLOVERRIDES='mscoree=;mshtml=;winemenubuilder.exe=' /usr/lib/wine/wine64 wineboot --init
	WINEPREFIX=$(CURDIR)/target/windows/wine.new /usr/lib/wine/wineserver64 -w
	mv target/windows/wine.new target/windows/wine
	touch $@

samba: packages
	scripts/fetch-samba

packages:
	scripts/install-packages
