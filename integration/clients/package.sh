#!/bin/sh
# package.sh: install the .deb, attach, upgrade, detach, remove and purge, in namespaces and on an overlay of this machine's files; then
# the same with the .rpm, where rpm is installed, and with the tarball. Networks, running containers and names stay. Needs root,
# bin/test/cnitool (`make programs`) and three minutes; of no CI run, for it builds the packages twice.
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 1; }
if [ "${1:-}" != inside ]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	for version in v0.0.1 v0.0.2; do
		ARCHES=amd64 VERSION=$version scripts/dist >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
		cp bin/dist/*.deb bin/dist/*.rpm bin/dist/*.tar.gz bin/test/cnitool "$work/"
	done
	PKG=$work unshare --mount --net --pid --fork --propagation private "$0" inside
	exit
fi

mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mkdir /mnt/files && cp "$PKG"/* /mnt/files/
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work none /mnt/root
mount -t proc none /mnt/root/proc
mount -t sysfs none /mnt/root/sys
mount -t tmpfs none /mnt/root/run
mount -t tmpfs none /mnt/root/tmp
mv /mnt/files/* /mnt/root/tmp/
cat >/mnt/root/tmp/steps.sh <<'STEPS'
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin NETCONFPATH=/etc/cni/net.d CNI_PATH=/opt/cni/bin DEBIAN_FRONTEND=noninteractive
fail() { echo "package.sh: $form: $*" >&2; exit 1; }
quietly() { "$@" >/tmp/log 2>&1 || { cat /tmp/log >&2; fail "$*"; }; }
put() { # VERSION, or an upgrade to it
	case $form in
	deb) quietly dpkg -i /tmp/dcni_$1-1_amd64.deb ;;
	rpm) quietly rpm -U --nodeps /tmp/dcni-$1-1.x86_64.rpm ;;
	tar) tar -C /tmp -xzf /tmp/dcni-$1-linux-amd64.tar.gz && quietly /tmp/dcni-$1-linux-amd64/install.sh ;;
	esac
}
remove() {
	case $form in
	deb) quietly dpkg -r dcni ;;
	rpm) quietly rpm -e dcni ;;
	tar) quietly /tmp/dcni-0.0.2-linux-amd64/install.sh --remove ;;
	esac
}
add() { CNI_ARGS="K8S_POD_NAME=$2" /tmp/cnitool add web /run/netns/$1 >/dev/null; }
answers() { # ADDRESS WHEN: c1 gets that address for two, and an answer from it
	ip netns exec c1 dig +short +time=1 @127.0.0.11 two | grep -qx $1 || fail "$2: no name"
	ip netns exec c1 ping -c1 -W2 $1 >/dev/null || fail "$2: no way"
}
session() {
	form=$1
	rm -rf /var/lib/dcni /opt/cni/bin
	mkdir -p /etc/cni/net.d
	directory=$(stat -c %i /etc/cni/net.d)
	put 0.0.1
	/opt/cni/bin/dbridge 2>&1 | grep -qx 'CNI dbridge plugin v0.0.1' || fail "installed: $(/opt/cni/bin/dbridge 2>&1)"
	[ ! -e /opt/cni/bin/dnetd ] || fail "a daemon is among the plugins"
	dnet create --subnet 10.77.0.0/24 web >/dev/null
	for c in c1 c2 c3; do ip netns add $c; done
	add c1 one
	add c2 two
	answers 10.77.0.3 installed
	echo '# changed' >>/etc/NetworkManager/conf.d/dcni.conf
	put 0.0.2
	dnet --version | grep -q 0.0.2 || fail "upgrade: $(dnet --version)"
	grep -q '^# changed' /etc/NetworkManager/conf.d/dcni.conf || fail "upgrade: a changed file of the configuration is not kept"
	answers 10.77.0.3 upgraded
	/tmp/cnitool check web /run/netns/c1 || fail "upgraded: CHECK"
	/tmp/cnitool del web /run/netns/c2
	add c3 two
	answers 10.77.0.4 "upgraded, a container that came later"
	remove
	[ ! -e /opt/cni/bin/dbridge ] && [ ! -e /usr/bin/dnetd ] || fail "removed: programs are left"
	answers 10.77.0.4 removed
	[ "$form" != deb ] || quietly dpkg -P dcni
	[ -n "$(ls /etc/cni/net.d)" ] || fail "removed: the network is gone"
	put 0.0.2
	answers 10.77.0.4 "installed again"
	/tmp/cnitool del web /run/netns/c1
	/tmp/cnitool del web /run/netns/c3
	dnet rm web >/dev/null
	[ -z "$(find /run/dcni/attachments -name '*.json')" ] || fail "installed again: records are left"
	[ "$(stat -c %i /etc/cni/net.d)" = "$directory" ] || fail "/etc/cni/net.d is another directory"
	remove
	[ "$form" != deb ] || quietly dpkg -P dcni
	for c in c1 c2 c3; do ip netns del $c; done
	rm -f /etc/NetworkManager/conf.d/dcni.conf*
	echo "package.sh: $form: installed, upgraded, removed, installed again: networks, containers and names stayed"
}
# units FORM: what the packages have systemd do, as said to a systemctl that writes it down.
units() {
	form=$1
	mkdir -p /run/systemd/system
	printf '#!/bin/sh\necho "$*" >>/tmp/said\n' >/tmp/systemctl
	install -m 755 /tmp/systemctl /usr/bin/systemctl
	for step in 'put 0.0.1' 'put 0.0.2' remove; do
		echo "# $step" >>/tmp/said
		$step
	done
	cat >/tmp/want <<-'END'
	# put 0.0.1
	daemon-reload
	enable --now dnetd.socket
	# put 0.0.2
	daemon-reload
	try-restart dnetd.service dclusterd.service dnet-api.service
	# remove
	disable dnetd.service dnetd.socket dclusterd.service dnet-api.service dnet-api.socket
	daemon-reload
	END
	diff /tmp/want /tmp/said >&2 || fail "systemctl was told something else"
	[ "$form" != deb ] || quietly dpkg -P dcni
	rm -r /run/systemd/system /tmp/said
	echo "package.sh: $form: systemd starts, restarts and forgets the units"
}
ip link set lo up
session deb
units deb
if command -v rpm >/dev/null; then session rpm && units rpm; else echo "package.sh: rpm: not tried, for rpm is not installed"; fi
session tar
STEPS
chroot /mnt/root sh /tmp/steps.sh
