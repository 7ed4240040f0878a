// Package integration tests the plugins on the real kernel, as sessions that
// read like a shell script. Run them with `make integration`; one alone with
//
//	make integration RUN=TestParity/dcni/ports
//
// Scenarios run side by side. Of those in testdata/alone, which measure or make crowds, no
// two run at once.
//
// Each testdata/*/NAME.txtar is a script of testscript
// (github.com/rogpeppe/go-internal/testscript, whose own commands are exec,
// stdin, stdout, stderr, grep, cmp, env, skip ...) and runs in a throwaway
// host: see package testhost for what is in it. testdata/parity is run against the
// reference plugins and against ours, testdata/dcni and testdata/alone against ours only.
//
// parity/scenarios are sessions from Docker's manual: what dcni says to them is compared with
// what a Docker engine said, see package parity.
//
// testdata/vm is for what the machine's own kernel may lack: VLANs, ipvlan, dummy
// links, VRFs, SCTP. Its scripts run one after another in a virtual machine with
// Debian's kernel 6.12 (see scripts/vm) that sees this machine's files and boots once
// for all of them. It is emulated: a process starts some forty times slower than here,
// so keep them few and short. One alone, and anything else there:
//
//	make integration RUN='TestInVM/sctp$'
//	scripts/vm/run sh -c 'ip link add d0 type dummy; ip -d link'
//
// Where the virtual machine can't be had, TestInVM is skipped and says why.
//
// # Commands
//
// NS is a sandbox, a pod, a container of dnet run, podman:NAME for one of podman,
// "host", "outside" or a path. PROTO is tcp (if left out), udp or sctp. "!"
// before a command expects it to fail, and what it said is then on stderr.
// Commands of bin/, as dnet, are in the PATH of exec.
//
//	netns [-d] NAME...                    make sandboxes, or remove them
//	in NS COMMAND [ARG...]                run a command there; stdout, stderr as with exec
//	ping NS ADDR                          echo requests until one is answered, at most 10 s; after ! one, 1 s
//	advertise NS LINK                     send a router advertisement: default route, prefix, route, MTU
//	frame NS NS KIND [WORD...]            send a frame from one's eth0 to the other's, which must receive it. KIND is raw (a
//	                                      type that nothing knows), tagged (VLAN 5), arp (an announcement), ns, dad, na, ra
//	                                      (neighbour discovery), ip or ip6. WORDs: all (to all on the bridge), ip=ADDR (that it
//	                                      claims), mac=ADDR (of its sender); else the sender's own
//	redirect NS GATEWAY VICTIM DST VIA    send an ICMP redirect as if it were the gateway's
//	listen NS ADDR:PORT[/PROTO] [TEXT]    answer "TEXT from PEER-ADDRESS" until the script ends; TEXT is NS if left out
//	occupy ADDR:PORT[/udp]                have another program hold a port of the host until the script ends
//	reach NS ADDR:PORT[/PROTO] [REGEXP]   ask such a server; the answer is on stdout and must match
//	cni add NET NAME [IFNAME] [WORD...]   the result is on stdout
//	cni check|del NET NAME [IFNAME] [WORD...]
//	cni gc NET [NAME[/IFNAME]...]         with the valid attachments
//	cni status NET
//	plugin VERB TYPE FILE [WORD...]       execute one plugin: FILE is its stdin, WORDs are
//	                                      containerid= netns= ifname= args= (and any other CNI_ variable)
//	conf FILE DESTINATION                 write a configuration for other programs
//	ruleset [ARG...]                      `nft -s list ruleset` of the host
//	snapshot NAME                         remember links, addresses, routes, rules, sysctls and the state on disk
//	unchanged NAME [REGEXP]               compare with it, but for lines that match; waits for the kernel
//	containerd [NETWORKS]                 start a containerd, with the CRI and a busybox image, for ctr and pod;
//	                                      NETWORKS for each pod, 1 if left out, 0: all
//	pod ready                             the CRI has a network to give; waits for it, or after ! for the contrary
//	pod up NAME [WORD...]                 its addresses are on stdout; WORDs are port= annotation=KEY=VALUE
//	pod exec NAME COMMAND [ARG...]
//	pod stop NAME                         the first DEL; the pod's files stay
//	pod down NAME                         stop and remove: both DELs
//	podman ARG...                         run podman with its CNI backend; what "podman run" starts
//	                                      is of the busybox image and in the background
//	nerdctl ARG...                        likewise nerdctl, with the containerd that was started
//	multus FOLDER NETWORK                 Multus is the host's network, with an API server that knows FOLDER's
//	                                      pods/NAME and network-attachment-definitions/NAME, as JSON; other
//	                                      networks, and NETWORK, the first, are files in /etc/cni/multus
//	systemd                               start a systemd, with dnetd's units, for systemctl --user
//
// A script that is about several hosts begins with "nodes". The host that every script
// has is then the wire between them, which no packet ends at; outside is on it as well.
// Each node is a host like the one of other scripts, with network, mount and UTS
// namespaces and a /run, /etc and /var/lib of its own.
//
//	nodes [-mtu BYTES] NAME...            make them: 192.0.2.11 and 2001:db8::11 is the first, .12 and ::12
//	                                      the second; the names are host names, and in each /etc/hosts
//	on NODE COMMAND [ARG...]              have exec, or a command of this list, happen there
//	on NODE                               go there: all that follows happens there, commands of testscript too;
//	                                      "on wire" comes back
//	cluster [-6] NODE...                  the first begins a cluster (`dnet cluster init`), the others join; -6: by
//	                                      their IPv6 addresses
//	keys NODE [PREFIX]                    what the cluster's store has, as that node's dclusterd says: key and value
//	sums LINK [kernel]                    who computes checksums of what goes out by a link: it, or the kernel; have the
//	                                      kernel do so
//	cut NODE NODE [one-way]               drop their packets to one another, or only the first's to the second;
//	                                      the first may be outside
//	heal [NODE NODE]                      undo cut, of two or of all
//	kill9 NODE [REGEXP]                   kill its processes whose command line matches ("^dnetd "), or all
//	await DURATION NS COMMAND [ARG...]    run a program until it succeeds, after "!" until it fails, so long at most
//	traffic NAME NS ADDR:PORT/udp         ask such a server 100 times a second, from its first answer on
//	lost NAME [AT-MOST]                   end that; fails if more were not answered, 0 if left out
//	encrypted VERB NODE...                an encrypted network without the rest of the overlay: its objects and
//	                                      the key exchange are the real ones, the store is this process's memory.
//	                                      "up" has c1 at 10.9.0.N, N as the node's; "start" and "stop" take part in
//	                                      the exchange; "sync" waits for keys; "forge" puts another CA's record into
//	                                      the store, or into the cluster's, where there is one; "states", "log" print; "lock" heals what keeps VXLAN in clear
//	                                      away. Without nodes: "ipv6" first, "rotate"
//	inject NODE NODE PORT                 send VXLAN in clear from outside, as if from the first, for c1 of the second
//	wiretap NODE                          listen on its wire; then print what passed since: ESP, and VXLAN in clear
//	associate NS PORT ADDR:PORT NS PORT   make an SCTP association to a port of the second namespace, until the script ends
//	aborted NS PORT ADDR:PORT             send SCTP data of no association; fails if no abort answers
//	clock DURATION                        step the virtual machine's clock, which is all nodes'; undone when the script ends
//
// In a node, NS is one of its sandboxes, and NODE/NS is another's from anywhere: after
// "on n1", "reach c1 10.0.0.3:80" and "reach n1/c1 10.0.0.3:80" are the same. What runs in
// a node when the script ends is killed.
//
// NET is a file with a list of plugins. "cni" is libcni in the test's process,
// so chaining, prevResult, capabilities and the cache are what runtimes have.
// Its WORDs are
//
//	port=[IP:]HOST:CONTAINER[/PROTO]   a published port, as Docker writes it; may be repeated
//	ip=ADDR/LEN  mac=ADDR              the capabilities ips and mac
//	cap={...}                          any other capability, as JSON
//	args=K=V;K=V                       CNI_ARGS
//	id=ID  netns=PATH                  instead of NAME and /run/netns/NAME
//
// CHECK and DEL without WORDs repeat those of ADD. Errors print as
// "code 7: message; details".
//
// # Conditions
//
//	[suite:reference] [suite:dcni]   which plugins the script runs against
//	[have:BINARY]                    bin/BINARY is built
//	[kernel:sctp]                    also esp, macvlan, ipvlan, vlan, vxlan, vrf
//	[podman:cni]                     podman is installed, a version with the CNI backend
//	[systemd]                        systemd is installed; it need not run
//
// # Configurations
//
// A configuration may say {$BRIDGE, ...}, {$IPAM, ...} and $PORTS, and gets
// the suite's plugins there (see suites). $EXAMPLES is the folder conf-examples.
package integration
