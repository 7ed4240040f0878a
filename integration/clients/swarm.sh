#!/bin/sh
# swarm.sh: ask a Docker Swarm and dcni the same about services, side by side, in the virtual machine, whose kernel has IPVS. Each has
# one node, in a network namespace, and a machine "outside" on the node's link. What both say is compared with the table "Beside
# Swarm" of docs/services.md, whose last column has the reason for each difference. Needs root, `make programs`, scripts/setup,
# scripts/vm/prepare, `integration/clients/fetch swarm` and a quarter of an hour; of no CI run. SIDES="swarm" or "dcni" asks one of them.
set -eu
cd "$(dirname "$0")/../.."
set -- "${1:-}" # its own, in the virtual machine and in a namespace
export PATH="$PWD/bin:$PWD/bin/test:$PWD/bin/test/docker/usr/bin:$PWD/bin/test/docker/usr/sbin:$PATH:/usr/sbin:/sbin" CNI_PATH="$PWD/bin"
CLIENTS=$PWD/bin/test/clients
SIDES=${SIDES:-swarm dcni}

# The time after which IPVS is told to forget a connection (TCP, 900 s by default), and how long one is idle, in seconds.
forget=20 idle=40

say() { echo "$(date +%T) swarm.sh: $*" >&2; }
fail() { say "FAILED: $*"; exit 1; }

# await SECONDS WHAT COMMAND...: run it until it succeeds.
await() {
	end=$(($(date +%s) + $1)) what=$2
	shift 2
	until "$@" >/run/last 2>&1; do
		[ "$(date +%s)" -lt $end ] || { cat /run/last >&2; fail "$what: not within its time"; }
		sleep 0.5
	done
}

### What each side is asked: within CONTAINER COMMAND..., outside COMMAND..., and functions below are the side's.

# question WHAT COMMAND...: a line with what it says, addresses by what has them.
question() {
	say "$side: $1"
	what=$1
	shift
	printf '%s|%s|%s\n' $side "$what" "$("$@" 2>&1 </dev/null | sed -f /run/names | sort | paste -s -d , | sed 's/,/, /g')"
}
# named WHAT CONTAINER NAME: what a name resolves to there, in an order that is not the addresses'.
named() { question "$1" within "$2" sh -c 'talk lookup $1 | sed "s/^[^ ]*: //; /[0-9]/s/ /\n/g"' - "$3"; }
# known ADDRESS WORDS: what stands for an address, if there is one: a Swarm's service on a network with --ipv6 had none of IPv4 once.
known() { [ -z "$1" ] || printf 's/%s\\b/%s/\n' "$1" "$2"; }
# turns COUNT HOST:PORT, as one command: how often each task answered, and whom it saw.
turns='n=$1; while [ $n -gt 0 ]; do talk ask $2; n=$((n - 1)); done | sort | uniq -c | sed "s/^ *//"'
pinged='if busybox ping -q -c 1 -W 2 $1 >/dev/null 2>&1; then echo answers; else echo no answer; fi'
# A connection says a word, is idle, and says another one.
idles='(echo before; sleep $2; echo after; sleep 2) | busybox nc $1 82 2>/dev/null | paste -s -d " "'
# What a task runs: it answers with its name, and on port 82 with what it hears.
task='busybox nc -ll -p 82 -e /bin/cat & exec talk serve $(hostname) 80 81/udp'

both() { [ "$(within cl sh -c "$turns" - 6 api:80 | grep -c ' w[12] from')" = 2 ]; }
answered() { outside talk ask 192.0.2.1:8080 | grep from; }
silent() { ! within cl talk lookup "$1" | grep -q "$2"; }

questions() {
	named 'the name, `api`' cl api
	named '`api.web`' cl api.web
	named '`tasks.api`' cl tasks.api
	named 'the virtual address (VIP) in reverse' cl "$vip"
	named 'alias `shop` of its tasks' cl shop
	named 'a task looks up the name' w1 api
	question 'ping of the VIP' within cl sh -c "$pinged" - "$vip"
	question '6 connections to the VIP' within cl sh -c "$turns" - 6 api:80
	question '6 of a task to its own service' within w1 sh -c "$turns" - 6 api:80
	question '2 datagrams to the VIP' within cl sh -c "$turns" - 2 api:81/udp
	question 'a port where no task listens' within cl talk ask api:83
	question 'published port: 6 connections from outside' outside sh -c "$turns" - 6 192.0.2.1:8080
	question '2 datagrams from outside' outside sh -c "$turns" - 2 192.0.2.1:8081/udp
	question 'from the node to its address' sh -c "$turns" - 2 192.0.2.1:8080
	question 'from the node to 127.0.0.1' sh -c "$turns" - 2 127.0.0.1:8080
	question 'from a container to the node' within cl sh -c "$turns" - 2 192.0.2.1:8080
	question 'another service of the same port' same_port
	named '`--endpoint-mode dnsrr`: the name' cl rr
	named '`tasks.rr`' cl tasks.rr
	question 'dnsrr, with a published port' dnsrr_port
	named 'network with `--ipv6`: the name' task6 six
	question 'ping of the IPv6 VIP' ping6
	question 'published port by IPv6, from outside' outside talk ask '[fd00:c0::1]:8083'
	short
	question "idle for 5 s" within cl sh -c "$idles" - "$vip" 5
	question "idle for $idle s, where IPVS forgets after $forget s" within cl sh -c "$idles" - "$vip" $idle
	none
	named 'no task: the name' cl api
	question 'the VIP' within cl talk ask "$vip:80"
	question 'the published port' outside talk ask 192.0.2.1:8080
	removed
	named 'the service removed: the name' cl api
	named '`tasks.api` then' cl tasks.api
	question 'the VIP then' within cl talk ask "$vip:80"
	question 'the published port then' outside talk ask 192.0.2.1:8080
}

### A Swarm of one node
swarm() {
	export DOCKER_HOST=unix:///run/engine/socket DOCKER_CONFIG=/run/engine/config
	mkdir -p /run/engine/root/bin /run/engine/data /run/engine/exec
	# dockerd gives a containerd of its own 15 s, in which it does not start here.
	containerd --root /run/engine/containerd --state /run/engine/state --address /run/engine/containerd.sock >/run/engine/containerd.log 2>&1 </dev/null &
	await 300 containerd test -S /run/engine/containerd.sock
	dockerd --containerd /run/engine/containerd.sock --data-root /run/engine/data --exec-root /run/engine/exec -H "$DOCKER_HOST" -p /run/engine/pid -s vfs \
		--oom-score-adjust 0 --default-ulimit nofile=1024 >/run/engine/log 2>&1 </dev/null &
	await 600 dockerd test -S /run/engine/socket
	cp /bin/busybox bin/test/talk /run/engine/root/bin/
	for name in $(busybox --list); do [ "$name" = busybox ] || ln -s busybox "/run/engine/root/bin/$name"; done
	tar -C /run/engine/root -c . | docker import -c 'ENV PATH=/bin' - busybox >/dev/null
	say "Docker $(docker version -f '{{.Server.Version}}')"
	docker swarm init --advertise-addr 192.0.2.1 >/dev/null
	docker network create -d overlay --attachable --subnet 10.20.0.0/24 web >/dev/null
	docker network create -d overlay --attachable --ipv6 --subnet 10.26.0.0/24 --subnet fd00:26::/64 six >/dev/null
	service api --network name=web,alias=shop --replicas 2 --hostname 'w{{.Task.Slot}}' -p 8080:80 -p 8081:81/udp
	service rr --network web --hostname w1 --endpoint-mode dnsrr
	service six --network six --hostname w1 -p 8083:80
	docker run -d --name cl --network web busybox sleep 10000 >/dev/null
	await 900 "tasks" running
	vip=$(vip api 10.20)
	w1=$(container api.1) six=$(container six.1)
	process_w1=$(process "$w1") process_task6=$(process "$six") process_cl=$(process cl)
	{
		known "$vip" VIP
		known "$(vip six 10.26)" VIP
		known "$(address web "$w1")" "w1's"
		known "$(address web "$(container api.2)")" "w2's"
		known "$(address web "$(container rr.1)")" "rr1's"
		known "$(address six "$six")" "w1's"
		known "$(address web cl)" "the client's"
		docker network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{"\n"}}{{end}}' web ingress |
			sed -n 's#^[a-z]*-endpoint \(.*\)/.*#\1#p' | while read -r address; do known "$address" "the balancer's"; done
	} >/run/names
}
service() {
	name=$1
	shift
	docker service create -d --no-resolve-image --name "$name" "$@" busybox sh -c "$task" 2>&1 >/dev/null
}
# A docker command takes seconds of the processor: processes are counted first.
running() { [ "$(pgrep -xc talk)" = 4 ] && [ "$(docker service ls --format '{{.Replicas}}' | sort | paste -s -d ' ')" = '1/1 1/1 2/2' ]; }
vip() { docker service inspect -f '{{range .Endpoint.VirtualIPs}}{{println .Addr}}{{end}}' "$1" | sed -n "s#^\($2\..*\)/.*#\1#p"; }
container() { docker ps -q -f "name=^$1\\."; }
address() { docker inspect -f "{{.NetworkSettings.Networks.$1.IPAddress}}" "$2"; }
process() { docker inspect -f '{{.State.Pid}}' "$1"; }
# docker exec, in a fiftieth of its time
swarm_within() {
	process=$(eval echo "\$process_$1")
	shift
	PATH=/bin:$PATH nsenter -t "$process" -m -n -u "$@"
}
swarm_same_port() { service other --network web -p 8080:80 | grep -q 'already in use' && echo refused; }
swarm_dnsrr_port() { service other --network web --endpoint-mode dnsrr -p 8089:80 | grep -q dnsrr && echo refused; }
# IPVS is in a namespace of the network, and counts its time there.
swarm_short() {
	network=$(docker network inspect -f '{{.Id}}' web)
	lb=$(ls /run/engine/exec/netns/lb_* | grep "$(echo "$network" | cut -c 1-9)")
	LD_LIBRARY_PATH=$CLIENTS/lib/x86_64-linux-gnu nsenter --net="$lb" "$CLIENTS/sbin/ipvsadm" --set $forget 0 0
}
# IPVS has a task for as long as that takes to end.
ended() { [ "$(pgrep -xc talk)" = 2 ]; }
swarm_none() { docker service scale -d api=0 >/dev/null && await 60 "no task" silent tasks.api 10.20 && await 60 "the end of tasks" ended; }
swarm_removed() { docker service rm api >/dev/null && await 60 "the service removed" silent api 10.20; }

### dcni, an overlay network of a cluster of one node
dcni() {
	mkdir -p /etc/cni/net.d
	dnetd serve --metrics= >/run/dnetd.log 2>&1 </dev/null &
	await 60 dnetd test -S /run/dcni/dnetd.sock
	await 120 "the cluster" sh -c 'dnet cluster init --advertise 192.0.2.1 || dnet cluster status'
	# etcd is slow in emulation, and what it answered too late is there all the same, but for containers.
	once() { dnet $1 inspect "$2" || { shift 2 && dnet "$@"; }; }
	await 120 web once '' web create -d overlay --subnet 10.20.0.0/24 web
	await 120 six once '' six create -d overlay --subnet 10.26.0.0/24 --subnet fd00:26::/64 --ipv6 six
	await 120 api once service api service create --network web -p 8080:80 -p 8081:81/udp api
	await 120 rr once service rr service create --network web --mode dnsrr rr
	await 120 six once service six service create --network six -p 8083:80 six
	run() { name=$1 && shift && await 120 "$name" dnet run -d --name "$name" -h "$(echo $name | sed "s/task6/w1/")" "$@"; }
	for n in 1 2; do run w$n --network web --service api --network-alias shop sh -c "$task"; done
	run rr1 --network web --service rr sh -c "$task"
	run task6 --network six --service six sh -c "$task"
	run cl --network web sleep 10000
	dnet service ls >&2
	vip=$(dnet service ls | awk '$1 == "api" { print $4 }')
	{
		known "$vip" VIP
		dnet service ls | awk '$1 == "six" { split($4, a, ","); print a[1] " VIP\n" a[2] " VIP6" }' | while read -r address word; do known "$address" $word; done
		for c in w1 w2 rr1; do known "$(address web $c)" "$c's"; done
		known "$(address six task6)" "w1's"
		known "$(address web cl)" "the client's"
		known 10.20.0.1 "the node's"
	} >/run/names
}
dcni_address() { dnet exec "$2" ip -4 -o addr show dev eth0 | sed 's#.*inet \(.*\)/.*#\1#'; }
dcni_within() { dnet exec "$@"; }
dcni_same_port() { ! dnet service create --network web -p 8080:80 other >/dev/null 2>&1 && echo refused; }
dcni_dnsrr_port() { ! dnet service create --network web --mode dnsrr -p 8089:80 other >/dev/null 2>&1 && echo refused; }
dcni_short() { :; }
dcni_none() { dnet stop -t 1 w1 w2 >/dev/null; }
dcni_removed() { dnet service rm api >/dev/null && await 60 "the service removed" silent api 10.20; }

case $1 in
swarm | dcni)
	side=$1
	mount -t tmpfs run /run # dcni's state, Docker's, and names of namespaces
	mount -t tmpfs state /var/lib
	echo "nameserver 192.0.2.2" >/run/resolv.conf
	mount --bind /run/resolv.conf /etc/resolv.conf
	ip link set lo up
	export TALK_PATIENCE=8s
	outside() { nsenter --net=/proc/self/fd/9 "$@"; }
	within() { ${side}_within "$@"; }
	ping6() { within task6 sh -c "$pinged" - "$(within task6 talk lookup six | grep -o 'fd00:26::[0-9a-f:]*' || echo ::2)"; }
	same_port() { ${side}_same_port; }
	dnsrr_port() { ${side}_dnsrr_port; }
	short() { ${side}_short; }
	none() { ${side}_none; }
	removed() { ${side}_removed; }
	[ $side = swarm ] || address() { dcni_address "$@"; }
	$side
	{
		for address in 192.0.2.2 fd00:c0::2; do known $address "the client's"; done
		for address in 192.0.2.1 fd00:c0::1; do known $address "the node's"; done
	} >>/run/names
	await 120 "answers of both tasks" both cl
	await 120 "answers from outside" answered
	questions
	;;
machine)
	# The network namespace with a Swarm's IPVS has this from the first one of the machine, where Docker sets it if it is there; and
	# settings of IPVS want the module to be there.
	sysctl -qw net.ipv4.ip_forward=1
	modprobe ip_vs
	busybox hostname node # a cluster's node is called so
	for side in $SIDES; do
		ip netns add $side
		ip netns add $side-outside
		ip link add eth0 netns $side type veth peer name eth0 netns $side-outside
		n=1
		for ns in $side $side-outside; do
			ip -n $ns link set lo up
			ip -n $ns link set eth0 up
			ip -n $ns addr add 192.0.2.$n/24 dev eth0
			ip -n $ns addr add fd00:c0::$n/64 dev eth0 nodad
			n=$((n + 1))
		done
		ip -n $side route add default via 192.0.2.2
		ip -n $side route add default via fd00:c0::2
		# A name server that knows no name.
		ip netns exec $side-outside dnsmasq --no-resolv --no-hosts --conf-file=/dev/null --user=root --pid-file --address=/#/
		unshare --mount --pid --fork --kill-child --mount-proc nsenter --net=/run/netns/$side \
			integration/clients/swarm.sh $side 9</run/netns/$side-outside
	done
	;;
'')
	[ "$(id -u)" = 0 ] || fail "needs root"
	[ -x "$CLIENTS/sbin/ipvsadm" ] || fail "ipvsadm is missing: integration/clients/fetch swarm"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	status=0
	TIMEOUT=${TIMEOUT:-3600} scripts/vm/run env SIDES="$SIDES" integration/clients/swarm.sh machine >"$work/said" || status=$?
	grep -v '^[a-z]*|' "$work/said" >&2 || :
	[ $status = 0 ] || fail "exit status $status in the virtual machine"
	[ "$SIDES" = "swarm dcni" ] || { grep '^[a-z]*|' "$work/said"; exit; }
	awk -F '|' '$1 == "swarm" { swarm[$2] = $3 }
		$1 == "dcni" { print "| " $2 " | " swarm[$2] " | " (swarm[$2] == $3 ? "the same" : $3) " |" }' "$work/said" >"$work/rows"
	cat "$work/rows"
	# The table of the document, without its head and reasons. What differs needs one.
	awk -F ' *[|] *' '/^## /{ here = $0 == "## Beside Swarm" } here && /^[|]/ && ++n > 2 {
		if (($4 == "the same") != ($5 == "")) { print "a reason without a difference, or a difference without a reason: " $0 >"/dev/stderr"; bad = 1 }
		print "| " $2 " | " $3 " | " $4 " |" } END { exit bad }' docs/services.md >"$work/want" || status=1
	diff -u --label docs/services.md --label seen "$work/want" "$work/rows" >&2 || status=1
	[ $status = 0 ] || fail "not what docs/services.md says"
	say "as docs/services.md says"
	;;
*) fail "want no argument" ;;
esac
