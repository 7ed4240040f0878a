#!/bin/sh
# A reference plugin refuses its own network namespace after it has done its work there.
#
# Version: github.com/containernetworking/plugins v1.9.1 (containernetworking/cni v1.3.0)
# When CNI_NETNS is the namespace that the plugin itself runs in, the library's dispatcher (skel) says error 8. It looks only
# after the verb: ADD has attached and printed its result, and the error follows it on stdout; DEL of loopback has taken lo
# down, which is the host's if a container shares its network.
. "$(dirname "$0")/common.sh"
module github.com/containernetworking/plugins@v1.9.1
go build -o "$work/bin/" github.com/containernetworking/plugins/plugins/main/loopback

cat >"$work/script" <<'END'
state() { ip -o link show lo | grep -o '<.*>'; }
cni() {
	CNI_COMMAND=$1 CNI_CONTAINERID=c1 CNI_IFNAME=lo CNI_NETNS=/proc/self/ns/net CNI_PATH=$work/bin "$work/bin/loopback" \
		>"$work/out" <<-'CONF' && status=0 || status=$?
		{"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}
	CONF
	echo "$1: exit status $status, $(grep -c '"interfaces"' "$work/out") results, error $(sed -n 's/.*"code": *\([0-9]*\).*/\1/p' "$work/out"), lo $(state)"
}
cni ADD
cni DEL
END
export work
seen "$(cat <<-'END'
	ADD: exit status 1, 1 results, error 8, lo <LOOPBACK,UP,LOWER_UP>
	DEL: exit status 1, 0 results, error 8, lo <LOOPBACK>
END
)" "$(alone sh "$work/script" 2>/dev/null)"
