# Sourced by each finding: a temporary folder that vanishes, pinned public packages in it, and a comparison.
# shellcheck shell=sh
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

# debian PACKAGE=VERSION...: unpack Debian packages into $work/debian, and use their programs and libraries.
debian() {
	mkdir -p "$work/debian"
	(cd "$work/debian" && apt-get -qq -o APT::Sandbox::User=root download "$@" && for deb in *.deb; do dpkg -x "$deb" .; done)
	PATH="$work/debian/usr/sbin:$work/debian/sbin:$work/debian/usr/bin:$work/debian/bin:$PATH"
	LD_LIBRARY_PATH=$(find "$work/debian" -name '*.so*' -printf '%h\n' | sort -u | paste -sd :)
	export PATH LD_LIBRARY_PATH
}

# module MODULE@VERSION...: begin a Go module in $work/go that requires these, and go there.
module() {
	mkdir -p "$work/go" "$work/bin"
	cd "$work/go"
	go mod init finding >/dev/null 2>&1
	CGO_ENABLED=0 GOFLAGS=-mod=mod && export CGO_ENABLED GOFLAGS
	go get "$@" >/dev/null 2>&1
}

# alone COMMAND...: run a command in network and mount namespaces of its own, as root.
alone() {
	[ "$(id -u)" = 0 ] || { echo "needs root, for namespaces" >&2; exit 1; }
	unshare -n -m "$@"
}

# seen EXPECTED ACTUAL: succeed if a finding is still so.
seen() {
	if [ "$1" = "$2" ]; then
		printf '%s\n' "$2"
		return
	fi
	printf 'It has changed. Seen when this was written:\n%s\nNow:\n%s\n' "$1" "$2" >&2
	exit 1
}
