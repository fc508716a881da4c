#!/usr/bin/env bash
# A Ray cluster of this machine alone: nothing of it is reachable from outside, and nothing is done without the token.
# Ctrl-C ends it. More options of `ray start` may follow, such as --num-cpus 4.
set -euo pipefail

umask 077                          # the token is for this user alone; Ray itself writes it readable for all
export RAY_AUTH_MODE=token
ray get-auth-token --generate >/dev/null
chmod 600 "$HOME/.ray/auth_token"
export RAY_JOB_STOP_WAIT_TIME_S="${RAY_JOB_STOP_WAIT_TIME_S:-300}"

exec ray start --head --node-ip-address 127.0.0.1 --dashboard-host 127.0.0.1 --disable-usage-stats --block "$@"
