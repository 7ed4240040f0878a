#!/bin/sh
# tc's JSON has rates in bytes a second where its text has bits, and classes are no JSON at all.
#
# Version: iproute2 6.1.0 (Debian 12)
# `tc -j qdisc show` prints the same options as without -j, under the same names, but a rate of 1 Mbit as 125000: bytes a second, which no
# word beside it says, and a latency in microseconds. `tc -j class show` succeeds and prints the text. So who reads a
# container's limit from JSON takes it for an eighth, and who reads an HTB's classes has to read text.
. "$(dirname "$0")/common.sh"
debian iproute2=6.1.0-3 libbpf1 libelf1 libmnl0 libxtables12

cat >"$work/script" <<'END'
ip link add v0 type veth peer name v1
ip link set v0 up
tc qdisc add dev v0 root handle 1: tbf rate 1mbit burst 10k latency 50ms
tc qdisc show dev v0 | grep -o 'rate.*'
tc -j qdisc show dev v0 | grep -o '"options".*}'
tc qdisc del dev v0 root
tc qdisc add dev v0 root handle 1: htb
tc class add dev v0 parent 1: classid 1:1 htb rate 1mbit burst 10k
tc -j class show dev v0
END
seen "$(cat <<-'END'
	rate 1Mbit burst 10Kb lat 50ms 
	"options":{"rate":125000,"burst":10240,"lat":50000}}
	class htb 1:1 root prio 0 rate 1Mbit ceil 1Mbit burst 10Kb cburst 1600b 
END
)" "$(alone sh "$work/script")"
