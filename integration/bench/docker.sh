# docker.sh DIR MODE [TOKEN]: a Docker of its own, in namespaces that are this process's own,
# with its state and its socket in DIR, for as long as standard input is open. It prints PIDs
# of containers:
#
#	names	asker, which is on a network with another one called "name1"
#	manager	asker, on no network, and name1, on an overlay network of a Swarm
#	service	in the virtual machine only: asker, on an overlay network of a Swarm, and the one task of its service "api"
#	worker	far, on the overlay network of the Swarm with the token
#
# A manager has a link out1, which is to be moved into the worker's namespace.
set -eu
dir=$1 mode=$2
export DOCKER_HOST="unix://$dir/socket"

# container ARG...: run one that sleeps.
container() { docker run -d "$@" bench /bin/busybox sleep 10000 >/dev/null; }
# await COMMAND...: run it until it succeeds, for as long as an emulated machine may take.
await() {
	tries=3000
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || { tail -n 5 "$dir/log" >&2; exit 1; }
		sleep 0.1
	done
}
pid() { docker inspect -f '{{.State.Pid}}' "$1"; }

mount --make-rprivate /
mkdir -p "$dir/data" "$dir/exec" "$dir/root/bin"
mount -t tmpfs data "$dir/data"
mount -t tmpfs exec "$dir/exec"
mount -t tmpfs run /run
# A daemon wants a way out to choose addresses by.
ip link set lo up
if [ "$mode" = worker ]; then
	self=192.0.2.2 other=192.0.2.1
	until ip link set out1 name out0 2>/dev/null; do sleep 0.05; done
else
	self=192.0.2.1 other=192.0.2.2
	ip link add out0 type veth peer name out1
	ip link set out1 up
fi
ip addr add $self/24 dev out0
ip link set out0 up
ip route add default via $other
# dockerd gives a containerd of its own 15 s, in which it does not start in an emulated machine.
containerd --root "$dir/exec/root" --state "$dir/exec/state" --address "$dir/containerd" >>"$dir/log" 2>&1 </dev/null &
containerd=$!
await test -S "$dir/containerd"
dockerd --containerd "$dir/containerd" --data-root "$dir/data" --exec-root "$dir/exec" -H "$DOCKER_HOST" -p /run/dockerd.pid -s vfs \
	--oom-score-adjust 0 --default-ulimit nofile=1024 >>"$dir/log" 2>&1 </dev/null &
daemon=$!
await docker version
cp /bin/busybox "$dir/root/bin/"
tar -C "$dir/root" -c . | docker import - bench >/dev/null
case $mode in
names)
	docker network create bench >/dev/null
	container --name name1 --network bench
	container --name asker --network bench
	pid asker
	;;
manager)
	docker swarm init --advertise-addr $self >/dev/null
	docker network create -d overlay --attachable bench >/dev/null
	container --name name1 --network bench
	container --name asker --network none
	docker network disconnect none asker
	echo "$(pid asker) $(pid name1)"
	;;
service)
	# The network namespace with a Swarm's IPVS has this from the first one of the machine: forwarding, without which nothing comes back
	# from a task. Settings of IPVS want the module to be there.
	nsenter --net=/mnt/network sysctl -qw net.ipv4.ip_forward=1
	modprobe ip_vs
	docker swarm init --advertise-addr $self >/dev/null
	docker network create -d overlay --attachable bench >/dev/null
	docker service create -d --name api --network bench bench /bin/busybox sleep 10000 >/dev/null 2>&1
	container --name asker --network bench
	until docker service ls --format '{{.Replicas}}' | grep -q 1/1; do sleep 1; done
	echo "$(pid asker) $(pid "$(docker ps -q -f name=^api)")"
	;;
worker)
	docker swarm join --token "$3" $other:2377 >/dev/null
	container --name far --network bench
	pid far
	;;
esac
cat >/dev/null
[ "$mode" != service ] || docker service rm api >/dev/null
# shellcheck disable=SC2046 # one argument for each container
docker rm -f $(docker ps -aq) >/dev/null
kill $daemon
wait $daemon || true
kill $containerd
wait $containerd || true
