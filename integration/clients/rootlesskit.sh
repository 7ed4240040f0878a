#!/bin/sh
# rootlesskit.sh: dnet by a user without rights in RootlessKit's namespaces, with a port of the host by its port driver. The user, and the
# network that is the host's here, are of this script's own mount and network namespaces: the machine has neither. Needs root, make build,
# `fetch rootlesskit` and half a minute; of no CI run.
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 1; }
[ -x bin/test/clients/rootlesskit ] || { echo "integration/clients/fetch rootlesskit comes first" >&2; exit 1; }
if [ "${1:-}" != inside ]; then
	exec unshare --mount --net --pid --fork --mount-proc --propagation private "$0" inside
fi

fail() { echo "rootlesskit.sh: $*" >&2; exit 1; }
. integration/clients/rootless-user

cat >/mnt/inside.sh <<'END'
set -eu
ip -o -4 addr show dev tap0 | grep -o 'inet [0-9.]*'
dnet create --subnet 10.88.0.0/24 --ipv6 --subnet fd00:88::/64 web >/dev/null
mkdir -p /run/www && echo inside >/run/www/index.html
dnet run -d --name web --network web -p 8080:80 busybox httpd -f -p 80 -h /run/www >/dev/null
dnet run --rm --network web busybox sh -c 'for i in 1 2 3 4 5 6 7 8 9; do busybox wget -qO- http://web/ && break; sleep 0.3; done; busybox wget -qO- http://10.0.2.2:9090/'
nft list tables | grep dcni
dnet create -d macvlan -o parent=eth0 lan 2>&1 | sed 's/^/refused: /'
dnet api 2>/run/api.log &
tries=0
until curl -sf --unix-socket $XDG_RUNTIME_DIR/dcni/api.sock http://dnet/networks/web | sed 's/.*"Subnet":"\([^"]*\)".*/api: \1/' | grep api:; do
	tries=$((tries + 1)) && [ $tries -lt 50 ] || { cat /run/api.log; exit 1; }
	sleep 0.1
done
kill $!
ls -d $XDG_RUNTIME_DIR/dcni/dnetd.sock ~/.local/share/dcni/leases ~/.config/cni/net.d/*
touch /run/ready
while [ ! -e /mnt/home/end ]; do sleep 0.1; done
dnet container rm -f web >/dev/null
dnet rm web >/dev/null
echo left: $(ip -o link show type veth | wc -l) $(find $XDG_RUNTIME_DIR/dcni/attachments -name '*.json' | wc -l)
END
as_user \
	rootlesskit --net=slirp4netns --copy-up=/etc --copy-up=/run --copy-up=/var/lib --port-driver=builtin -p 127.0.0.1:8080:8080/tcp \
	sh /mnt/inside.sh >/mnt/home/log 2>&1 &
child=$!
tries=0
until curl -sf -m 2 http://127.0.0.1:8080/ >/mnt/answer; do
	tries=$((tries + 1))
	[ $tries -lt 150 ] && kill -0 $child 2>/dev/null || { cat /mnt/home/log >&2; fail "no answer by RootlessKit's port driver"; }
	sleep 0.2
done
until grep -q '^/mnt/home/.config' /mnt/home/log || ! kill -0 $child 2>/dev/null; do sleep 0.1; done
: >/mnt/home/end
wait $child || { cat /mnt/home/log >&2; fail "the session inside failed"; }
has() { grep -qx "$1" /mnt/home/log || { cat /mnt/home/log >&2; fail "missing: $1"; }; }
grep -qx inside /mnt/answer || fail "answer: $(cat /mnt/answer)"
has 'inet 10\.0\.2\.100'
has inside
has outside
has 'table inet dcni'
has 'refused: dnet: parent "eth0": no such link on this host.*'
has 'api: .*'
has /mnt/run/dcni/dnetd.sock
has /mnt/home/.local/share/dcni/leases
has /mnt/home/.config/cni/net.d/dcni-web.conflist
has 'left: 0 0'
nothing_outside
curl -sf -m 2 http://127.0.0.1:8080/ && fail "the port is open when all has ended"
echo "rootlesskit.sh: all as it is to be"
