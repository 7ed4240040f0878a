#!/bin/sh
# docker, as dcni has it: `docker network X` is `dnet X`, and images are left out.

# without_image ARG...: have the others without the first word "busybox".
case ${1:-} in
network)
	shift
	exec dnet "$@"
	;;
run)
	left=$# image=
	while [ $left -gt 0 ]; do
		word=$1
		shift
		left=$((left - 1))
		if [ -z "$image" ] && [ "$word" = busybox ]; then
			image=$word
		else
			set -- "$@" "$word"
		fi
	done
	;;
rm)
	shift
	[ "${1:-}" != -f ] || shift
	exec dnet stop -t 0 --rm "$@"
	;;
esac
exec dnet "$@"
