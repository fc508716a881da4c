#!/usr/bin/env bash
# A Ray cluster of this machine alone: nothing of it is reachable from outside, and nothing is done without the token.
# Ctrl-C ends it. More options of `ray start` may follow, such as --num-cpus 4.
set -euo pipefail

umask 077                          # the token is for this user alone; Ray itself writes it readable for all
export RAY_AUTH_MODE=token
ray get-auth-token --generate >/dev/null
chmod 600 "$HOME/.ray/auth_token"

# Ray replaces --node-ip-address 127.0.0.1 by the machine's outer address and opens its ports on all of them. Where it
# believes that no other machine can join, as on Windows and macOS, it stays on loopback.
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
export RAY_JOB_STOP_WAIT_TIME_S="${RAY_JOB_STOP_WAIT_TIME_S:-300}"

exec ray start --head --dashboard-host 127.0.0.1 --disable-usage-stats --block "$@"
