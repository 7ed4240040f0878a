#!/bin/sh
# An alias in the message that makes a link is ignored.
#
# Version: iproute2 6.1.0 (Debian 12), Linux up to 6.18
# `ip link add ... alias TEXT` succeeds, and the link has no alias. ip sends the attribute (IFLA_IFALIAS) and the kernel, which
# takes name, MAC, MTU and master of that message, leaves it out without an error. A second message sets it. Who
# identifies its links by alias has some without, if it dies between the two.
. "$(dirname "$0")/common.sh"
debian iproute2=6.1.0-3 libbpf1 libelf1 libmnl0 libxtables12

seen "$(cat <<-'END'
	made with an alias:
	given one later: alias mine
END
)" "$(alone sh -c '
	ip link add veth0 alias mine address 02:00:00:00:00:01 type veth peer name veth1
	ip link show veth0 | grep -q 02:00:00:00:00:01 || echo "the MAC is ignored as well"
	echo "made with an alias:" $(ip link show veth0 | grep -o "alias .*")
	ip link set veth0 alias mine
	echo "given one later:" $(ip link show veth0 | grep -o "alias .*")')"
