# docker.sh DIR [swarm]: a Docker of its own, in namespaces that are this process's own,
# with its state and its socket in DIR, for as long as standard input is open. It prints
# "PID" of a container "asker" that is on a network with another one called "name1". With
# swarm the network is a Swarm's overlay network, and asker on none.
set -eu
dir=$1
mount --make-rprivate /
mkdir -p "$dir/data" "$dir/exec" "$dir/root/bin"
mount -t tmpfs data "$dir/data"
mount -t tmpfs exec "$dir/exec"
mount -t tmpfs run /run
# A daemon wants a way out to choose addresses by.
ip link set lo up
ip link add out0 type veth peer name out1
ip addr add 192.0.2.1/24 dev out0
ip link set out0 up
ip link set out1 up
ip route add default via 192.0.2.2
export DOCKER_HOST="unix://$dir/socket"
dockerd --data-root "$dir/data" --exec-root "$dir/exec" -H "$DOCKER_HOST" -p /run/dockerd.pid -s vfs \
	--oom-score-adjust 0 --default-ulimit nofile=1024 >"$dir/log" 2>&1 </dev/null &
daemon=$!
tries=100
until docker version >/dev/null 2>&1; do
	tries=$((tries - 1))
	[ $tries -gt 0 ] || { tail -n 5 "$dir/log" >&2; exit 1; }
	sleep 0.1
done
cp /bin/busybox "$dir/root/bin/"
tar -C "$dir/root" -c . | docker import - bench >/dev/null
network=bench
if [ "${2:-}" = swarm ]; then
	docker swarm init --advertise-addr 192.0.2.1 >/dev/null
	docker network create -d overlay --attachable bench >/dev/null
	network=none
else
	docker network create bench >/dev/null
fi
docker run -d --name name1 --network bench bench /bin/busybox sleep 1000 >/dev/null
docker run -d --name asker --network $network bench /bin/busybox sleep 1000 >/dev/null
[ $network = bench ] || docker network disconnect none asker
docker inspect -f '{{.State.Pid}}' asker
cat >/dev/null
docker rm -f name1 asker >/dev/null
kill $daemon
wait $daemon || true
