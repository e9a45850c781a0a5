#!/bin/sh
# Become the service named by SERVICE, with this script's arguments.
#
# A container that is started again is the same instance: its place in the cluster is its own at once.
#
# DANUBE_SLOTS_DIR, if set, is a volume that all containers of the service share. Each takes the first
# numbered directory in it that no other container holds, and with it the data and the identity of whoever
# had it before: so scaled instances keep both even when containers are made anew. The kernel ends the hold
# with the process, however that dies.
set -eu

SLOTS_MAX=64

take_slot() {
    number=1
    while [ "$number" -le "$SLOTS_MAX" ]; do
        slot=$DANUBE_SLOTS_DIR/$number
        mkdir -p "$slot/data"
        exec 9>>"$slot/lock"
        # The descriptor stays open in the service, and the hold with it.
        if flock --nonblock 9; then
            return
        fi
        number=$((number + 1))
    done
    echo "entrypoint: all $SLOTS_MAX slots of $DANUBE_SLOTS_DIR are taken" >&2
    exit 1
}

prefix=DANUBE_$(printf %s "$SERVICE" | tr a-z- A-Z_)
if [ -n "${DANUBE_SLOTS_DIR:-}" ]; then
    take_slot
    if [ ! -s "$slot/instance-id" ]; then
        python -c 'import secrets; print(secrets.randbelow(1 << 62) + 1)' >"$slot/instance-id.new"
        mv "$slot/instance-id.new" "$slot/instance-id"
    fi
    export "${prefix}_INSTANCE_ID=$(cat "$slot/instance-id")" "${prefix}_DATA_DIR=$slot/data"
elif printf %s "${HOSTNAME:-}" | grep -Eqx '[0-9a-f]{12}' && ! printenv "${prefix}_INSTANCE_ID" >/dev/null; then
    # The engine's own name of the container. One that people chose may be that of several.
    export "${prefix}_INSTANCE_ID=$((0x1$HOSTNAME))"
fi

module=danube_$(printf %s "$SERVICE" | tr - _)
[ "$SERVICE" = admin ] && module=danube_admin_service  # danube-admin is the operator's tool
exec python -m "$module" "$@"
