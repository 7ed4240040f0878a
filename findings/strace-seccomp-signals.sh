#!/bin/sh
# With --seccomp-bpf, strace injects errors and leaves out signals.
#
# Version: strace 6.1 (Debian 12), Linux 6.18
# --seccomp-bpf has the kernel stop a process only at the system calls that are traced, which saves much of what strace costs.
# Tracing and injected errors are the same with it. An injected signal is not sent: strace warns of nothing, and the process
# ends as if no injection had been asked for. A test that kills a process at a system call so kills nothing, and passes
# unless it counts the dead.
. "$(dirname "$0")/common.sh"
debian strace=6.1-0.1 libunwind8 liblzma5

try() { strace "$@" -f -qq -o "$work/trace" sh -c 'exit 3' >/dev/null 2>&1 && echo 0 || echo $?; }
errors() { strace "$@" -f -qq -o "$work/trace" -e trace=getcwd -e inject=getcwd:error=ENOENT sh -c 'cd . && pwd -P' >/dev/null 2>&1 || :; grep -c INJECTED "$work/trace" || :; }
seen "$(cat <<-'END'
	without: errors injected: yes, status after an injected SIGKILL 137
	with --seccomp-bpf: errors injected: yes, status after an injected SIGKILL 3
END
)" "$(for how in without with; do
	option=; name=without
	[ $how = without ] || { option=--seccomp-bpf; name="with --seccomp-bpf"; }
	echo "$name: errors injected: $([ "$(errors $option)" -gt 0 ] && echo yes || echo no), status after an injected SIGKILL $(try $option -e trace=exit_group -e inject=exit_group:signal=SIGKILL)"
done)"
