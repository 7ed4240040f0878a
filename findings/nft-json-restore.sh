#!/bin/sh
# What nft lists as JSON, nft refuses to load or loads as something else, where the same in text comes back whole.
#
# Version: nft 1.0.6 (Debian 12)
# `nft -j list ruleset` and `nft -j -f` look like a way to save rules. A map from a port to an address and a port, as translations of
# ports have it, is refused with all that is in the file ("Invalid map type"), and so are a chain of an inet table at the hook
# ingress, for its link is not listed, and ranges as values of a map. Others change without an error: a map loses its flags, a set its
# auto-merge and its comment, timeouts of connections lose all their values. Who saves rules should save text.
. "$(dirname "$0")/common.sh"
debian nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11 libmnl0 libxtables12 libjansson4

cat >"$work/script" <<'END'
while IFS="|" read -r what statement; do
	nft flush ruleset
	printf "table inet t {\n%s\n}\n" "$statement" | nft -f -
	nft list ruleset >text
	nft -j list ruleset >json
	for form in text json; do
		nft flush ruleset
		[ $form = text ] && flag= || flag=-j
		result=refused
		if nft $flag -f $form 2>error; then
			nft list ruleset >again
			result="lost:$(diff text again | sed -n 's/^< *//p' | tr -d '\t' | sed 's/^/ /' | paste -sd,)"
			[ "$result" = "lost:" ] && result=whole
		fi
		echo "$what, by $form: $result"
	done
done <statements
END
cat >"$work/statements" <<'END'
a map to addresses and ports|map m { type inet_service : ipv4_addr . inet_service; }
a map to ranges|map m { type ipv4_addr : interval ipv4_addr; flags interval; elements = { 10.0.0.0/24 : 192.168.1.0/24 }; }
a chain at ingress|chain c { type filter hook ingress device "lo" priority filter; }
a map that rules add to|map m { type ipv4_addr : mark; size 100; flags dynamic,timeout; timeout 30s; }
a set that merges|set s { type ipv4_addr; flags interval; auto-merge; }
timeouts|ct timeout o { protocol tcp; l3proto ip; policy = { established : 100, close : 5 }; }
a comment|set s { type ipv4_addr; comment "mine"; }
a map to addresses|map m { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.1 }; }
END
cd "$work"
seen "$(cat <<-'END'
	a map to addresses and ports, by text: whole
	a map to addresses and ports, by json: refused
	a map to ranges, by text: whole
	a map to ranges, by json: refused
	a chain at ingress, by text: whole
	a chain at ingress, by json: refused
	a map that rules add to, by text: whole
	a map that rules add to, by json: lost: flags dynamic,timeout
	a set that merges, by text: whole
	a set that merges, by json: lost: auto-merge
	timeouts, by text: whole
	timeouts, by json: lost: l3proto ip, policy = { established : 100, close : 5 }
	a comment, by text: whole
	a comment, by json: lost: comment "mine"
	a map to addresses, by text: whole
	a map to addresses, by json: whole
END
)" "$(alone sh "$work/script")"
