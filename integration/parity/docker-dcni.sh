#!/bin/sh
# docker, as dcni has it: `docker network X` is `dnet X`, and images are left out.

case ${1:-} in
network)
	shift
	exec dnet "$@"
	;;
run) # without the first word "busybox"
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
rm | inspect) exec dnet container "$@" ;; # alone they are networks'
esac
exec dnet "$@"
