#!/bin/bash
# kubernetes.sh: one node of a cluster, kubelet and containerd and all that gives them orders, in namespaces of its own: dcni.yaml makes the
# node ready, pods talk, a host port answers, dnetd collects what is left of a pod that no DEL came for, dnetd is upgraded under
# traffic, and dcni-remove.yaml takes all away. Needs root, `integration/clients/fetch kubernetes` (half an hour, once), `make programs`,
# etcd, containerd, dnsperf and busybox (scripts/setup) and three minutes; of no CI run.
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 1; }
K8S=${K8S:-$PWD/bin/test/clients/kubernetes}
for program in kubelet kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl; do
	[ -x "$K8S/$program" ] || { echo "kubernetes.sh: $program is missing: integration/clients/fetch kubernetes" >&2; exit 1; }
done
if [ "${1:-}" != inside ]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"; find /sys/fs/cgroup -depth -type d -path "*/dcni-test-kubernetes*" -exec rmdir {} + 2>/dev/null || :' EXIT
	for version in 0.0.1 0.0.2; do
		[ -n "${BUILT:-}" ] || ARCHES=amd64 VERSION=v$version scripts/image/build
		cp "bin/dist/dcni-$version-oci.tar" "bin/dist/dcni-$version.yaml" "bin/dist/dcni-remove-$version.yaml" "$work/"
	done
	mkdir -p "$work/box/bin"
	cp /bin/busybox "$work/box/bin/"
	for link in $(busybox --list); do [ "$link" = busybox ] || ln -s busybox "$work/box/bin/$link"; done
	printf '#!/bin/sh\ntrap "exit 0" TERM\nwhile :; do sleep 86400 & wait; done\n' >"$work/box/pause"
	chmod 755 "$work/box/pause"
	go run ./scripts/image -out "$work/oci" -name localhost/box -version 1 -created 1 -entrypoint /pause "amd64=$work/box" >/dev/null
	tar -C "$work/oci" -cf "$work/box.tar" .
	cp bin/test/loopback "$work/"
	W=$work K8S=$K8S unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc --propagation private "$0" inside
	exit
fi

say() { printf '%s kubernetes.sh: %s\n' "$(date +%T)" "$*"; }
fail() {
	say "FAILED: $*" >&2
	[ -z "${KEEP:-}" ] || { mkdir -p "$KEEP" && cp /mnt/k/*.log "$KEEP/"; }
	exit 1
}
# await SECONDS WHAT COMMAND...: run it until it succeeds.
await() {
	until_=$(($(date +%s) + $1)) what=$2
	shift 2
	until "$@" >/mnt/k/out 2>&1; do
		[ "$(date +%s)" -lt "$until_" ] || { cat /mnt/k/out >&2; fail "$what: not within its time"; }
		sleep 0.3
	done
}
export PATH=$K8S:/usr/sbin:/usr/bin:/sbin:/bin

### A node with files of its own: all that is written is in memory.
hostname node1
mount -t tmpfs none /mnt
cp -r "$W" /mnt/w && W=/mnt/w
for dir in etc opt var; do
	mkdir -p "/mnt/$dir/up" "/mnt/$dir/work"
	mount -t overlay -o "lowerdir=/$dir,upperdir=/mnt/$dir/up,workdir=/mnt/$dir/work" none "/$dir"
done
rm -rf /etc/cni/net.d/* && mkdir -p /etc/cni/net.d /opt/cni/bin /var/lib/kubelet /var/lib/containerd /var/lib/dcni
for dir in /run /var/lib/kubelet /var/lib/containerd /var/lib/dcni; do mount -t tmpfs none "$dir"; done
mkdir -p /mnt/k /mnt/cgroup /run/lock
mount --rbind /sys/fs/cgroup /mnt/cgroup && mount -t sysfs none /sys && mount --rbind /mnt/cgroup /sys/fs/cgroup
# The kubelet wants settings of the whole machine: it gets files in their place.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
	file=/mnt/k/$(basename "${setting%=*}")
	echo "${setting#*=}" >"$file"
	mount --bind "$file" "/proc/sys/${setting%=*}"
done
mount --make-rshared /
cp "$W/loopback" /opt/cni/bin/ # the package kubernetes-cni has it
ip link set lo up
ip netns add lan
ip link add eth0 type veth peer name lan0 netns lan
ip addr add 192.0.2.10/24 dev eth0 && ip link set eth0 up && ip route add default via 192.0.2.1
ip -n lan addr add 192.0.2.1/24 dev lan0 && ip -n lan link set lan0 up && ip -n lan link set lo up
printf 'nameserver 192.0.2.1\n' >/mnt/k/resolv.conf
mount --bind /mnt/k/resolv.conf /etc/resolv.conf

### The control plane, which runs on the node as well.
etcd --data-dir /mnt/k/etcd >/mnt/k/etcd.log 2>&1 &
openssl genrsa -out /mnt/k/sa.key 2048 2>/dev/null
echo 'secret,admin,1,"system:masters"' >/mnt/k/tokens
cat >/mnt/k/kubeconfig <<END
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: secret}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
END
export KUBECONFIG=/mnt/k/kubeconfig
kube-apiserver --etcd-servers=http://127.0.0.1:2379 --cert-dir=/mnt/k/certs --service-cluster-ip-range=10.96.0.0/16 --token-auth-file=/mnt/k/tokens \
	--service-account-issuer=https://node1 --service-account-key-file=/mnt/k/sa.key --service-account-signing-key-file=/mnt/k/sa.key \
	--authorization-mode=Node,RBAC --kubelet-preferred-address-types=InternalIP --advertise-address=192.0.2.10 >/mnt/k/apiserver.log 2>&1 &
kube-controller-manager --kubeconfig="$KUBECONFIG" --service-account-private-key-file=/mnt/k/sa.key --root-ca-file=/mnt/k/certs/apiserver.crt --cert-dir=/mnt/k/certs \
	--allocate-node-cidrs --cluster-cidr=10.245.0.0/16 \
	--leader-elect=false >/mnt/k/controllers.log 2>&1 &
kube-scheduler --kubeconfig="$KUBECONFIG" --leader-elect=false --cert-dir=/mnt/k/certs >/mnt/k/scheduler.log 2>&1 &
cat >/mnt/k/containerd.toml <<END
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/box:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
END
cat >/mnt/k/kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /dcni-test-kubernetes
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
clusterDNS: [192.0.2.1]
clusterDomain: cluster.local
resolvConf: /mnt/k/resolv.conf
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 10Mi}
syncFrequency: 5s
END
runtime() { containerd -c /mnt/k/containerd.toml >>/mnt/k/containerd.log 2>&1 & containerd=$! && disown; await 30 containerd ctr version; }
agent() { kubelet --kubeconfig="$KUBECONFIG" --config=/mnt/k/kubelet.yaml --hostname-override=node1 --node-ip=192.0.2.10 --v=2 >>/mnt/k/kubelet.log 2>&1 & kubelet=$! && disown; }
k() { kubectl "$@"; }
runtime
await 90 "API server" k get --raw /readyz
for image in box dcni-0.0.1-oci dcni-0.0.2-oci; do ctr -n k8s.io images import "$W/$image.tar" >/dev/null; done
find /sys/fs/cgroup -maxdepth 1 -mindepth 1 -type d -exec mkdir -p {}/dcni-test-kubernetes \; 2>/dev/null || :
agent
await 60 "the node" k get node node1
condition() { k get node node1 -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}'; }
is() { [ "$(condition)" = "$1" ]; }
await 60 "not ready without a network" is False
k get node node1 -o jsonpath='{.status.conditions[?(@.type=="Ready")].message}' | grep -q 'cni plugin not initialized' || fail "not ready, but why?"
await 60 "the default service account" k get serviceaccount default
say "the node is NotReady: cni plugin not initialized"

kube-proxy --kubeconfig="$KUBECONFIG" --hostname-override=node1 --proxy-mode=iptables --conntrack-max-per-core=0 \
	--conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 >/mnt/k/proxy.log 2>&1 &

### dcni.yaml
k apply -f "$W/dcni-0.0.1.yaml" >/dev/null
await 90 "the DaemonSet" k -n kube-system rollout status ds/dcni --timeout=2s
await 60 "ready by the network's file" is True
say "applied: the node is Ready; $(ls /etc/cni/net.d), plugins $(ls -m /opt/cni/bin)"
leader() { cat /run/dcni/dnetd.pid; }
grep -E 'Cap(Bnd|Eff)|NoNewPrivs|Seccomp:' "/proc/$(leader)/status"
[ "$(readlink "/proc/$(leader)/ns/mnt")" = "$(readlink /proc/1/ns/mnt)" ] || fail "dnetd is not among the host's files"

pod() { # NAME HOSTPORT: a pod that answers with its name
	cat <<END
---
apiVersion: v1
kind: Pod
metadata: {name: $1, labels: {app: $1}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: localhost/box:1
      command: [sh, -c, "mkdir -p /www && hostname >/www/index.html && exec httpd -f -p 8080 -h /www"]
      ports: [{containerPort: 8080${2:+, hostPort: $2}}]
      readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
END
}
{ pod one 18080; pod two; } | k apply -f - >/dev/null
await 60 "two pods" k wait --for=condition=Ready pod/one pod/two --timeout=1s
address() { k get pod "$1" -o jsonpath='{.status.podIP}'; }
one=$(address one) two=$(address two)
case "$one $two" in 10.245.0.*\ 10.245.0.*) ;; *) fail "addresses $one, $two" ;; esac
[ "$(k exec two -- wget -qO- http://one:8080)" = one ] || fail "pod to pod, by name"
[ "$(k exec one -- wget -qO- "http://$two:8080")" = two ] || fail "pod to pod"
[ "$(ip netns exec lan busybox wget -qO- http://192.0.2.10:18080)" = one ] || fail "host port"
k exec one -- cat /etc/resolv.conf | grep -q 'nameserver 192.0.2.1' || fail "the kubelet's resolv.conf"
ip netns exec lan dnsmasq -k -p 53 --no-resolv --no-hosts --address=/kubernetes.default.svc.cluster.local/10.96.0.1 >/mnt/k/dnsmasq.log 2>&1 &
resolves() { k exec one -- nslookup kubernetes.default.svc.cluster.local | grep 10.96.0.1; } # it fails for want of an IPv6 address
await 10 "a name of the cluster's DNS" resolves
say "pods $one and $two: the kubelet's probes, pod to pod by address and by name, host port 18080 from another machine: well"
k -n kube-system exec ds/dcni -c dnetd -- dcni-node host dnet ports | tee /mnt/k/ports | grep -q 18080 || fail "dnet ports: $(cat /mnt/k/ports)"

### Services of Kubernetes
k create service nodeport one --tcp=80:8080 --node-port=30080 >/dev/null
service=$(k get service one -o jsonpath='{.spec.clusterIP}')
await 30 "a service" k exec two -- timeout 2 wget -qO- "http://$service"
k exec two -- timeout 2 wget -qO- "http://$service" | grep -qx one || fail "a service"
ip netns exec lan timeout 5 busybox wget -qO- http://192.0.2.10:30080 | grep -qx one || fail "a node port"
say "service $service and node port 30080: well"

### An upgrade under traffic
netns() { ctr -n k8s.io containers ls -q | while read -r id; do ctr -n k8s.io c info "$id" 2>/dev/null; done | tr -d ' \n' | grep -o '"type":"network","path":"/var/run/netns/[^"]*"' | cut -d'"' -f8 | sort -u; }
of() { for ns in $(netns); do ip netns exec "$(basename "$ns")" ip -4 -o addr show | grep -q "inet $1/" && basename "$ns" && return; done; }
ns=$(of "$two")
[ -n "$ns" ] || fail "the namespace of pod two"
old=$(leader)
for name in one two; do echo "$name A"; done >/mnt/k/queries
ip netns exec "$ns" dnsperf -s 127.0.0.11 -d /mnt/k/queries -l 25 -Q 400 -t 5 >/mnt/k/dnsperf.log 2>&1 &
asked=$!
ip netns exec "$ns" ping -q -i 0.01 -w 25 "$one" >/mnt/k/ping.log 2>&1 &
pinged=$!
ip netns exec lan python3 - >/mnt/k/http.log 2>&1 <<'PY' &
import time, urllib.request
sent = failed = 0
end = time.time() + 25
while time.time() < end:
    sent += 1
    try:
        assert urllib.request.urlopen("http://192.0.2.10:18080", timeout=5).read() == b"one\n"
    except Exception as e:
        failed += 1
        print(e)
    time.sleep(0.01)
print(f"{sent} requests, {failed} failed")
PY
fetched=$!
sleep 1 # of traffic before
k apply -f "$W/dcni-0.0.2.yaml" >/dev/null
await 60 "the upgrade" k -n kube-system rollout status ds/dcni --timeout=2s
await 90 "the old pod's end" test ! -e "/proc/$old"
[ "$(leader)" != "$old" ] || fail "dnetd is the old one"
/opt/cni/bin/dbridge 2>&1 | grep -q 'v0.0.2' || fail "plugins are the old ones"
k -n kube-system exec ds/dcni -c dnetd -- dcni-node --version | grep -q 0.0.2 || fail "the image is the old one"
kill -0 $asked || fail "the upgrade took longer than the traffic"
wait $asked $pinged $fetched || :
grep -E 'Queries (sent|completed|lost)|Response codes' /mnt/k/dnsperf.log
tail -n 3 /mnt/k/ping.log | grep transmitted
tail -n 1 /mnt/k/http.log
grep -qE 'Queries lost: +0 ' /mnt/k/dnsperf.log && grep -qE 'Response codes: +NOERROR [0-9]+ \(100.00%\)' /mnt/k/dnsperf.log || fail "names were lost: $(cat /mnt/k/dnsperf.log)"
grep -q ' 0% packet loss' /mnt/k/ping.log || fail "packets were lost"
grep -qx '[0-9]* requests, 0 failed' /mnt/k/http.log || fail "requests to the host port failed"
[ "$(k -n kube-system get pods -l app.kubernetes.io/name=dcni --no-headers | awk '{print $4}')" = 0 ] || fail "restarts: $(k -n kube-system get pods)"
say "upgraded to 0.0.2 under traffic: nothing lost"

### Back, and forth; a configuration that is none
shows() { /opt/cni/bin/dbridge 2>&1 | grep -q "$1" && k -n kube-system rollout status ds/dcni --timeout=2s; }
k -n kube-system rollout undo ds/dcni >/dev/null
await 60 "the version before" shows v0.0.1
sed 's/"podCIDR"/"10.245.0.0"/' "$W/dcni-0.0.2.yaml" | k apply -f - >/dev/null
refused() { k -n kube-system logs -l app.kubernetes.io/name=dcni -c install --tail=5 | grep 'subnet'; }
await 60 "a configuration is refused" refused
say "$(refused | tail -1)"
shows v0.0.1 >/dev/null 2>&1 && fail "the broken configuration was rolled out"
grep -q '"10.245.0.0/24"' /etc/cni/net.d/10-dcni.conflist || fail "the network's file was replaced"
[ "$(k exec two -- wget -qO- http://one:8080)" = one ] || fail "a name, with a configuration that is none"
k apply -f "$W/dcni-0.0.2.yaml" >/dev/null
k -n kube-system delete pods -l app.kubernetes.io/name=dcni --field-selector=status.phase=Pending >/dev/null
await 90 "the version again" shows v0.0.2
alone() { [ "$(k -n kube-system get pods -l app.kubernetes.io/name=dcni -o name | wc -l)" = 1 ]; }
await 90 "the old pod's end" alone
say "rolled back to 0.0.1, and on to 0.0.2 again"

### A dnetd that is none of a pod's takes over, and is killed
status() { k -n kube-system get pods -l app.kubernetes.io/name=dcni --no-headers | awk '{print $2, $4}'; }
dnetd=$(k -n kube-system get pods -l app.kubernetes.io/name=dcni -o name)
k -n kube-system exec "$dnetd" -c dnetd -- dcni-node host dnetd serve >/mnt/k/other.log 2>&1 &
old=$(leader)
other() { [ "$(leader)" != "$old" ]; }
await 20 "another dnetd" other
has() { [ "$(status)" = "$1" ]; }
await 20 "the pod is not ready any more, and stays" has "0/1 0"
kill -9 "$(leader)"
await 30 "the pod's container runs again" has "1/1 1"
[ "$(k exec two -- wget -qO- http://one:8080)" = one ] || fail "a name, after dnetd was killed"
say "another dnetd took over, and was killed: the pod's container started again, and serves"

### A pod goes; another one goes without DEL
records() { find /run/dcni/attachments/pods -name '*.json' 2>/dev/null | wc -l; }
[ "$(records)" = 2 ] || fail "there are $(records) records"
k delete pod two --wait=true >/dev/null
gone() { [ "$(records)" = "$1" ]; }
await 30 "the record of a pod that was deleted" gone 1
say "a pod was deleted: its record is gone"
kill -9 $kubelet $containerd
id=$(ls /run/dcni/attachments/pods)
ns=$(find /run/netns -name 'cni-*' -printf '%f\n' | head -1)
for p in $(pgrep -f "containerd-shim.*$id" || :) $(ip netns pids "$ns"); do kill -9 "$p" 2>/dev/null || :; done
ip netns del "$ns"
await 40 "a record that no DEL comes for" gone 0
say "kubelet, containerd and a pod's processes were killed, its namespace is gone: dnetd collected its record"
! nft list ruleset 2>/dev/null | grep -q 18080 || fail "the host port's rule is there still"
runtime
agent
await 60 "the node again" is True
k delete pod one --wait=false >/dev/null
none() { [ -z "$(k get pods -o name)" ]; }
await 60 "the pod that was killed" none

### Removal
pod three | k apply -f - >/dev/null
await 60 "a new pod" k wait --for=condition=Ready pod/three --timeout=1s
k delete -f "$W/dcni-0.0.2.yaml" >/dev/null
k apply -f "$W/dcni-remove-0.0.2.yaml" >/dev/null
waits() { k -n kube-system logs ds/dcni-remove -c remove | grep 'not yet'; }
await 60 "removal waits for a pod" waits
say "$(waits | tail -1)"
[ -e /etc/cni/net.d/10-dcni.conflist ] || fail "the network went under a pod"
k delete pod three >/dev/null
await 60 "removal" k -n kube-system rollout status ds/dcni-remove --timeout=2s
k delete -f "$W/dcni-remove-0.0.2.yaml" >/dev/null
[ "$(ls -A /etc/cni/net.d)$(ls -A /opt/cni/bin)" = loopback ] || fail "left: $(ls -A /etc/cni/net.d /opt/cni/bin)"
await 60 "not ready again" is False
# The tables of iptables are the kubelet's.
left() { { ip -br link show type bridge; ip -br link show type veth | grep -v '^eth0'; nft list tables 2>/dev/null | grep dcni; iptables-save | grep -E 'br-|dcni'; } | grep .; }
! left || fail "the host has more than before"
find /run/dcni /var/lib/dcni -type f | sed 's/^/left: /'
say "removed: $(find /run/dcni /var/lib/dcni -type f | wc -l) files of state are left, no plugin, no network, no link, no table"
