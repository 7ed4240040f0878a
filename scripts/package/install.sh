#!/bin/sh
# install.sh [--remove]: put this tarball's files where they belong below / or $DESTDIR, or take them away again. A runtime may call a plugin at any
# moment: each file takes the old one's place in one step. A file below /etc that is there already stays. Networks and state are never touched;
# nothing is started.
set -eu
cd "$(dirname "$0")"
find opt usr etc -type f -o -type l | while read -r file; do
	to=${DESTDIR:-}/$file
	new=$(dirname "$to")/.${file##*/}.new
	if [ "${1:-}" = --remove ]; then
		rm -f "$to" "$new"
		continue
	fi
	case "$file" in
	etc/*) [ ! -e "$to" ] || continue ;;
	esac
	mkdir -p "$(dirname "$to")"
	cp -dp "$file" "$new"
	mv -fT "$new" "$to"
done
[ "${1:-}" = --remove ] || echo "installed; with systemd: systemctl daemon-reload && systemctl enable --now dnetd.socket      after an upgrade: ... && systemctl restart dnetd"
