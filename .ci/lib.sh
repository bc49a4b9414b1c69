# Functions that the scripts of this folder share; they source it.
# shellcheck shell=bash

# as_root COMMAND... runs a command of the system's package manager.
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# install WHAT PACKAGE... fetches what a fresh machine lacks, where there is apt.
install() {
	local what=$1
	shift
	if ! command -v apt-get >/dev/null; then
		printf '%s is missing and there is no apt-get to install it with\n' "$what"
		return 1
	fi
	printf 'installing %s\n' "$what"
	as_root apt-get update -q && as_root apt-get install -q -y --no-install-recommends "$@"
}

# needs finds Go and a C compiler, or installs them.
needs() {
	if ! command -v go >/dev/null && [ -x /usr/local/go/bin/go ]; then
		export PATH=$PATH:/usr/local/go/bin
	fi
	# Any Go from 1.21 on fetches the version that go.mod asks for.
	command -v go >/dev/null || install Go golang-go ca-certificates || return 1
	# The race detector needs cgo, and cgo a C compiler.
	command -v "$(go env CC)" >/dev/null || install 'a C compiler' gcc libc6-dev || return 1
	go version
}

# find_browser sets PHANTOM_CHROMIUM to a browser, or installs one.
find_browser() {
	browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
	if [ -z "${PHANTOM_CHROMIUM:-}" ]; then
		browser >/dev/null || install Chromium chromium || return 1
		PHANTOM_CHROMIUM=$(browser)
	fi
	export PHANTOM_CHROMIUM
}

# data_dir OTHER prints a folder on a disk whose sync takes time, if there is one.
data_dir() {
	local dir kind start nanos
	for dir in ${PHANTOM_DIR:+"$PHANTOM_DIR"} "${TMPDIR:-/tmp}" "$1"; do
		mkdir -p "$dir"
		kind=$(stat -f -c %T "$dir" 2>/dev/null || echo disk)
		case $kind in tmpfs | ramfs) continue ;; esac
		start=$(date +%s%N)
		case $start in *N) echo "$dir"; return ;; esac # no nanoseconds, so no probe
		dd if=/dev/zero of="$dir/.probe" bs=4k count=100 oflag=dsync 2>/dev/null || continue
		nanos=$((($(date +%s%N) - start) / 100))
		rm -f "$dir/.probe"
		if [ "$nanos" -ge 25000 ]; then
			echo "$dir"
			return
		fi
	done
}

# choose_disk OTHER has benchmarks keep durable data on a disk: under
# PHANTOM_DIR, in the temporary folder, or in OTHER.
choose_disk() {
	local dir
	dir=$(data_dir "$1")
	if [ -n "$dir" ]; then
		export PHANTOM_DIR=$dir
	else
		# The cases must run all the same; their lines then say disk=unsafe.
		printf 'no disk here has a sync that takes time\n'
		export PHANTOM_DISK_UNSAFE=1
	fi
	printf 'data in %s\n' "${PHANTOM_DIR:-the temporary folder}"
}

# summary FILE appends a file to the summary of the job, where there is one.
summary() {
	if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat "$1" >>"$GITHUB_STEP_SUMMARY"; fi
}
