# dockerd.sh: run a Docker engine in the namespaces that this process has, until standard input ends. It
# prints "ready" when the engine is, and has an image "busybox". DOCKER_HOST is its socket.
set -eu
dir=/run/docker-engine
mkdir -p "$dir/root/bin" "$dir/root/tmp"
dockerd --data-root "$dir/data" --exec-root "$dir/exec" -H "$DOCKER_HOST" -p "$dir/pid" -s vfs --experimental --ip6tables \
	--cgroup-parent "$CGROUP_PARENT" --oom-score-adjust 0 --default-ulimit nofile=1024 >"$dir/log" 2>&1 </dev/null &
daemon=$!
tries=600
until docker version >/dev/null 2>&1; do
	tries=$((tries - 1))
	[ $tries -gt 0 ] || { tail -n 5 "$dir/log" >&2; exit 1; }
	sleep 0.05
done
cp /bin/busybox "$TALK" "$dir/root/bin/"
for name in $(busybox --list); do
	[ "$name" = busybox ] || ln -s busybox "$dir/root/bin/$name"
done
tar -C "$dir/root" -c . | docker import -c 'ENV PATH=/bin' - busybox >/dev/null
echo ready
cat >/dev/null
kill $daemon
wait $daemon || true
