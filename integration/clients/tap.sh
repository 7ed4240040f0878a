#!/bin/sh
# tap.sh: a bridge network with names.gateway, and the plugin tc-redirect-tap behind it in the list, as Firecracker has it. In place of a virtual
# machine (there is no KVM here) a program has the tap: with the guest's MAC and address it asks for the gateway's by ARP, and then the name
# server there. In namespaces of its own; needs root, python3, make programs, `fetch tap` and a few seconds; of no CI run.
set -eu
cd "$(dirname "$0")/../.."
fail() { echo "tap.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "needs root"
[ -x bin/test/clients/tc-redirect-tap ] || fail "integration/clients/fetch tap comes first"
if [ "${1:-}" != inside ]; then
	exec unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private "$0" inside
fi
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mkdir -p /run/net.d /run/netns /etc/cni/net.d
mount -t tmpfs none /etc/cni/net.d
[ -e /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }
ip link set lo up
for c in c1 c2; do ip netns add $c; done
cat >/run/net.d/web.conflist <<'END'
{"cniVersion": "1.0.0", "name": "web", "plugins": [
  {"type": "dbridge", "antiSpoof": true, "names": {"gateway": true}, "ipam": {"type": "dipam", "subnet": "10.88.0.0/24"}},
  {"type": "tc-redirect-tap"}]}
END
cat >/run/guest.py <<'END'
"""guest.py RESULT NAME: what a machine on the tap of a CNI result is told of a name."""
import fcntl, ipaddress, json, os, select, struct, sys, time
result, name = json.load(open(sys.argv[1])), sys.argv[2]
# As Firecracker's SDK takes it: the machine's interface is that of the tap's name whose sandbox is no path.
at = next(n for n, i in enumerate(result["interfaces"]) if i["name"] == "tap0" and not i["sandbox"].startswith("/"))
guest = result["interfaces"][at]
ip = next(ip for ip in result["ips"] if ip["interface"] == at)
mac = bytes.fromhex(guest["mac"].replace(":", ""))
own = ipaddress.ip_interface(ip["address"]).ip.packed
server = ipaddress.ip_address(result["dns"]["nameservers"][0]).packed
fd = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"tap0", 0x1002))  # TUNSETIFF, IFF_TAP | IFF_NO_PI

def ask(what, frame, want):
    for _ in range(20):  # the tap is up a moment after it was opened
        os.write(fd, frame)
        end = time.time() + 0.3
        while select.select([fd], [], [], max(0, end - time.time()))[0]:
            if (found := want(os.read(fd, 2048))) is not None:
                return found
    sys.exit(f"{what}: no answer")

def arp(kind, to, sender, target_mac, target):
    return to + mac + struct.pack("!HHHBBH", 0x806, 1, 0x800, 6, 4, kind) + mac + sender + target_mac + target

def checksum(data):
    n = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ~((n & 0xFFFF) + (n >> 16)) & 0xFFFF

gateway = ask("ARP", arp(1, b"\xff" * 6, own, b"\0" * 6, server),
              lambda f: f[22:28] if f[12:14] == b"\x08\x06" and f[20:22] == b"\0\2" and f[28:32] == server else None)
query = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + struct.pack("!BHH", 0, 1, 1)
header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(query), 0, 0, 64, 17, 0, own, server)
header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
datagram = gateway + mac + b"\x08\0" + header + struct.pack("!4H", 4000, 53, 8 + len(query), 0) + query

def answer(f):
    if f[12:14] == b"\x08\x06":  # the name server's host asks for this machine
        if f[20:22] == b"\0\1" and f[38:42] == own:
            os.write(fd, arp(2, f[6:12], own, f[22:28], f[28:32]))
        return None
    if f[:6] == mac and f[12:14] == b"\x08\0" and f[23] == 17 and f[26:30] == server and f[34:36] == b"\0\x35":
        return f[42:]
    return None

m = ask("DNS", datagram, answer)
print("status", m[3] & 15, *[ipaddress.ip_address(m[-4:])] if m[7] else [])
END
export CNI_PATH="$PWD/bin:$PWD/bin/test/clients" NETCONFPATH=/run/net.d
cnitool() { CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=$3" bin/test/cnitool "$1" web "/run/netns/$2" 2>/run/log || { cat /run/log >&2; fail "$*"; }; }
cnitool add c1 vm >/run/c1.json
cnitool add c2 db >/run/c2.json
cnitool check c1 vm
said() { # WANT NAME: what the machine is told of a name
	ip netns exec c1 python3 /run/guest.py /run/c1.json "$2" >/run/said 2>&1 || true
	grep -qx "$1" /run/said || { cat /run/said >&2; fail "$2: want $1"; }
}
said 'status 0 10\.88\.0\.3' db
said 'status 0 10\.88\.0\.3' db.web
said 'status 0 10\.88\.0\.2' vm
said 'status 2' nosuch # there is no other server
cnitool del c2 db
said 'status 2' db
cnitool check c1 vm
cnitool del c1 vm
[ -z "$(ip -o link show type veth)$(ip -n c1 -o link | grep -v ' lo:')$(find /run/dcni/attachments -name '*.json')" ] || fail "something is left"
echo "tap.sh: all as it is to be"
