#!/bin/sh
# Starts every container that runs Mage, as /app/run_app.sh: that of the server, and those of the jobs it starts, whose
# commands begin with this path. Mage reads its database address from the environment only. Here it comes from a secret
# file, so that it stands in no pod's specification; and nothing is installed, unlike in Mage's own image. What else the
# server needs it takes from its settings and secret files itself.
set -eu
address="${PLATFORM_SECRETS_FOLDER:-/run/secrets/platform}/mage_database_url"
MAGE_DATABASE_CONNECTION_URL="$(cat "$address" || true)"
if [ -z "$MAGE_DATABASE_CONNECTION_URL" ]; then
    echo "error: the secret file $address is missing or empty: without it Mage would keep its metadata in a file of this" \
        "container; mount the key mage_database_url of the Secret mage there" >&2
    exit 2
fi
MAGE_REPO_PATH="${MAGE_REPO_PATH:-/app}"
# relative to the project: Mage appends the project's name to an absolute folder
MAGE_DATA_DIR="${MAGE_DATA_DIR:-../state/mage}"
PYTHONPATH="$MAGE_REPO_PATH${PYTHONPATH:+:$PYTHONPATH}"
HELP_IMPROVE_MAGE=false GE_USAGE_STATS=FALSE DO_NOT_TRACK=1
export MAGE_DATABASE_CONNECTION_URL MAGE_REPO_PATH MAGE_DATA_DIR PYTHONPATH HELP_IMPROVE_MAGE GE_USAGE_STATS DO_NOT_TRACK
exec "$@"
