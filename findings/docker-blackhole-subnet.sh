#!/bin/sh
# Docker gives a network a subnet that the host's routing table refuses.
#
# Version: Docker 20.10.24 (Debian 12)
# A network without --subnet gets the first default pool that no route of the host overlaps. Only routes by a device count: a
# blackhole, prohibit or unreachable route, by which an administrator keeps a range from being used, is passed over, and the
# network takes just that range. Its bridge's route has the better metric, so the range is in use from then on. A route of
# the same range by a device without a carrier is respected.
. "$(dirname "$0")/common.sh"
debian docker.io=20.10.24+dfsg1-1+deb12u1+b6 containerd=1.6.20~ds1-1+deb12u3 runc=1.1.5+ds1-1+deb12u1 iptables libip4tc2 libip6tc2 \
	libxtables12 libnftnl11 libmnl0 libnetfilter-conntrack3 libnfnetlink0 libdevmapper1.02.1 libseccomp2
cat >"$work/try.sh" <<'END'
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
ip link set lo up
export DOCKER_HOST=unix:///run/engine.sock
dockerd --data-root /run/data --exec-root /run/exec -H "$DOCKER_HOST" -p /run/engine.pid -s vfs --iptables=false --bip 10.1.0.1/24 >/run/log 2>&1 &
daemon=$!
tries=0
until docker version >/dev/null 2>&1; do
	tries=$((tries + 1))
	[ $tries -lt 300 ] || { tail -n 5 /run/log; exit 1; }
	sleep 0.1
done
ip link add reserved type bridge
ip link set reserved up
ip route add blackhole 172.17.0.0/16
ip route add unreachable 172.18.0.0/16
ip route add prohibit 172.19.0.0/16
ip route add 172.20.0.0/16 dev reserved
for name in a b c d; do
	docker network create "$name" >/dev/null
	docker network inspect -f '{{.Name}} {{(index .IPAM.Config 0).Subnet}}' "$name"
done
kill $daemon
wait $daemon || true
END
seen "$(cat <<-'END'
	a 172.17.0.0/16
	b 172.18.0.0/16
	c 172.19.0.0/16
	d 172.21.0.0/16
END
)" "$(alone sh "$work/try.sh")"
