// Package integration tests the plugins on the real kernel, as sessions that
// read like a shell script. Run them with `make integration`; one alone with
//
//	make integration RUN=TestParity/dcni/ports
//
// Scenarios run side by side, but for those that measure or make crowds: they are
// in testdata/alone, or their test calls newFixtureAlone.
//
// Each testdata/*/NAME.txtar is a script of testscript
// (github.com/rogpeppe/go-internal/testscript, whose own commands are exec,
// stdin, stdout, stderr, grep, cmp, env, skip ...) and runs in a throwaway
// host: see package testhost for what is in it. testdata/parity is run against the
// reference plugins and against ours, testdata/dcni and testdata/alone against ours only.
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
//	listen NS ADDR:PORT[/PROTO] [TEXT]    answer "TEXT from PEER-ADDRESS" until the script ends; TEXT is NS if left out
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
//	systemd                               start a systemd, with dnetd's units, for systemctl --user
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
//	[kernel:sctp]                    also macvlan, ipvlan, vlan, vxlan
//	[podman:cni]                     podman is installed, a version with the CNI backend
//	[systemd]                        systemd is installed; it need not run
//
// # Configurations
//
// A configuration may say {$BRIDGE, ...}, {$IPAM, ...} and $PORTS, and gets
// the suite's plugins there (see suites).
package integration
