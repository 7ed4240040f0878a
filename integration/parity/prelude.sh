# Functions of the scenarios. FROM is a container, "host", or "outside", a machine on the host's only link,
# which knows no way to the networks of containers.

# within FROM COMMAND...: run a command there.
within() {
	from=$1
	shift
	case $from in
	host) "$@" ;;
	outside) ip netns exec outside "$@" ;;
	*) docker exec "$from" "$@" ;;
	esac
}

# ask FROM HOST:PORT[/udp]: the answer of a container that runs `talk serve`, or why there is none.
ask() { within "$1" talk ask "$2"; }

# lookup FROM NAME|ADDRESS: what it resolves to.
lookup() { within "$1" talk lookup "$2"; }

# ping FROM ADDRESS
ping() {
	if within "$1" busybox ping -q -c 1 -W 1 "$2" >/dev/null 2>&1; then echo reached; else echo not reached; fi
}

# addresses FROM [LINK]: interfaces and their addresses, but for lo's and link-local ones.
addresses() {
	within "$1" busybox ip -o addr show ${2:-} | awk '$3 ~ /^inet/ && $2 != "lo" && $4 !~ /^fe80/ { print $2, $4 }'
}

# routes FROM: of both families, but for those of link-local and multicast addresses. Of several default routes, the
# one that the kernel takes.
routes() {
	for family in 4 6; do
		within "$1" busybox ip -$family route | awk '
			$1 ~ /^(fe80|ff00|unreachable|multicast)/ { next }
			{ line = $1; metric = 0
			  for (i = 2; i < NF; i++) { if ($i == "via" || $i == "dev") line = line " " $i " " $(i + 1); if ($i == "metric") metric = $(i + 1) }
			  if ($1 != "default") print line
			  else if (!best || metric < least) { best = line; least = metric } }
			END { if (best) print best }' | sort
	done
}

# background COMMAND...: run it until the scenario ends.
background() {
	"$@" >/dev/null 2>&1 </dev/null &
	echo $! >>/run/background
}

# answer FROM NAME PORT...: answer "NAME from ADDRESS" on the host or outside.
answer() {
	case $1 in
	outside) shift; background ip netns exec outside talk serve "$@" ;;
	host) shift; background talk serve "$@" ;;
	esac
}

# nameserver: the name server that the host's resolv.conf names knows www.example.org, and no other name.
nameserver() {
	background ip netns exec outside dnsmasq --keep-in-foreground --no-resolv --no-hosts --conf-file=/dev/null --user=root \
		--host-record=www.example.org,192.0.2.80 --address=/#/
	until talk lookup www.example.org | grep -q 192.0.2.80; do sleep 0.05; done
}
