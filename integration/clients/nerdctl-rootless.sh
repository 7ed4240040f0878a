#!/bin/sh
# nerdctl-rootless.sh: containerd and nerdctl of a user without rights, in RootlessKit's namespaces as nerdctl's own containerd-rootless.sh makes
# them, with containers on networks of dcni and a port of the host by RootlessKit's port driver. The user, and the network that is the host's here, are of
# this script's own namespaces: the machine has neither. Needs root, make programs, `fetch rootlesskit` and half a minute; of no CI run.
set -eu
cd "$(dirname "$0")/../.."
fail() { echo "nerdctl-rootless.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "needs root"
[ -x bin/test/clients/rootlesskit ] || fail "integration/clients/fetch rootlesskit comes first"
[ -x bin/test/nerdctl ] || fail "make programs comes first"
if [ "${1:-}" != inside ]; then
	version=$(bin/test/nerdctl --version | sed 's/.* //')
	SCRIPT=$(cd / && go mod download -json "github.com/containerd/nerdctl/v2@v$version" | sed -n 's#^\t"Dir": "\(.*\)",*$#\1/extras/rootless/containerd-rootless.sh#p')
	export SCRIPT
	exec unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private "$0" inside
fi
. integration/clients/rootless-user
install -m 755 "$SCRIPT" bin/test/nerdctl bin/test/talk /usr/lib/cni/* /mnt/bin/ # its default network is of the reference plugins

# The image of the tests, localhost/busybox:test: busybox, links for its commands, and what answers.
image=/mnt/image
mkdir -p $image/blobs/sha256 /mnt/root/bin /mnt/root/etc
cp /bin/busybox bin/test/talk /mnt/root/bin/
for name in $(busybox --list); do [ "$name" = busybox ] || ln -s busybox "/mnt/root/bin/$name"; done
echo root:x:0:0:root:/:/bin/sh >/mnt/root/etc/passwd
blob() { # TYPE FILE: its descriptor
	digest=$(sha256sum <"$2" | cut -c 1-64)
	cp "$2" $image/blobs/sha256/"$digest"
	printf '{"mediaType": "application/vnd.oci.image.%s", "digest": "sha256:%s", "size": %s' "$1" "$digest" "$(stat -c %s "$2")"
}
tar -C /mnt/root --owner 0 --group 0 -cf /mnt/layer .
layer=$(blob layer.v1.tar /mnt/layer)}
cat >/mnt/config <<END
{"architecture": "$(dpkg --print-architecture)", "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "86400"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$(sha256sum </mnt/layer | cut -c 1-64)"]}}
END
echo "{\"schemaVersion\": 2, \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\", \"config\": $(blob config.v1+json /mnt/config)}, \"layers\": [$layer]}" >/mnt/manifest
echo "{\"schemaVersion\": 2, \"manifests\": [$(blob manifest.v1+json /mnt/manifest), \"annotations\": {\"io.containerd.image.name\": \"localhost/busybox:test\"}}]}" >$image/index.json
echo '{"imageLayoutVersion": "1.0.0"}' >$image/oci-layout
tar -C $image -cf /mnt/image.tar .

mkdir -p /mnt/home/.config/containerd
cat >/mnt/home/.config/containerd/config.toml <<'END'
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
END
mkdir -p /mnt/home/.config/cni/net.d
cat >/mnt/home/.config/cni/net.d/web.conflist <<'END'
{"cniVersion": "1.0.0", "name": "web", "plugins": [
  {"type": "dbridge", "capabilities": {"portMappings": true, "ips": true}, "names": {"intercept": true},
   "ipam": {"type": "dipam", "subnets": [{"subnet": "10.88.0.0/24"}, {"subnet": "fd00:88::/64"}]}}]}
END
chown -R 1234:1234 /mnt/home

# await SECONDS WHAT COMMAND...: run it until it succeeds.
await() {
	end=$(($(date +%s) + $1)) what=$2
	shift 2
	until "$@" >/mnt/last 2>&1; do
		[ "$(date +%s)" -lt $end ] || { cat /mnt/log /mnt/last >&2; fail "$what: not within its time"; }
		sleep 0.2
	done
}
nerdctl() { as_user nerdctl --cgroup-manager none "$@"; }
start_session() {
	as_user containerd-rootless.sh >>/mnt/log 2>&1 </dev/null &
	await 60 "containerd and nerdctl" nerdctl ps
}
# in_mounts, in_session COMMAND...: in the mounts of the user's session, and in its network, whose name only those have.
in_mounts() { as_user nsenter --preserve-credentials -m -U -t "$(cat /mnt/run/containerd-rootless/child_pid)" "$@"; }
in_session() { in_mounts nsenter -n/mnt/run/containerd-rootless/netns "$@"; }
# said WANT COMMAND...: what it says is WANT, a line of basic regular expression.
said() {
	want=$1
	shift
	"$@" >/mnt/said 2>&1 || true
	grep -qx "$want" /mnt/said || { cat /mnt/said >&2; fail "$*: want $want"; }
}
answers() { # WHEN: names that nerdctl does not write into hosts files, and the host's port
	said 'shop: 10\.88\.0\.[0-9]* fd00:88::[0-9a-f]*' nerdctl exec box talk lookup shop
	said 'web from 10\.88\.0\.[0-9]*' nerdctl exec box talk ask shop:80
	said 'web from 10\.88\.0\.1' bin/test/talk ask 127.0.0.1:8080
	said 'web from fd00:88::1' bin/test/talk ask '[::1]:8081'
	echo "nerdctl-rootless.sh: $1: names and ports"
}
start_session
in_mounts ctr -n default images import /mnt/image.tar >/dev/null # nerdctl load wants containerd 1.7
nerdctl run -d --name web --net web --annotation dcni-aliases=shop -p 127.0.0.1:8080:80 -p '[::1]:8081:80' localhost/busybox:test talk serve web 80 >/dev/null
nerdctl run -d --name box --net web localhost/busybox:test >/dev/null
answers run
said .*br-4b5e57f6eb2f.* in_session nft list set inet dcni bridges
said 'web *bridge *local *web,box\|4b5e57f6eb2f *web *bridge *local' in_session dnet ls
[ -S /mnt/run/dcni/dnetd.sock ] && [ -d /mnt/home/.local/share/dcni/leases/web ] || fail "state is not the user's"
nerdctl restart web >/dev/null
answers restart

# What systemd does at the end of a user's unit: the next session has another network, and the records of this one.
kill -KILL $(pgrep -u 1234)
while pgrep -u 1234 >/dev/null; do sleep 0.1; done
start_session
nerdctl start web box >/dev/null
answers "the next session"

nerdctl rm -f web box >/dev/null
said 'refused' bin/test/talk ask 127.0.0.1:8080
left() { in_session ip -o link show type veth; find /mnt/run/dcni/attachments /mnt/home/.local/share/dcni/leases -name '*.json' -o -name '*10.88*'; in_session nft list map inet dcni ports4_addr | grep 8080; }
[ -z "$(left)" ] || { left >&2; fail "something is left"; }
in_session dnet rm web >/dev/null
[ ! -e /mnt/home/.config/cni/net.d/web.conflist ] || fail "the network is there"
nothing_outside
echo "nerdctl-rootless.sh: all as it is to be"
