#!/bin/sh
# Starts every container that runs Mage, as /app/run_app.sh: that of the server, and those of the jobs it starts, whose
# commands begin with this path. Mage reads its database address from the environment only. Here it comes from a secret
# file, so that it stands in no pod's specification; and nothing is installed, unlike in Mage's own image.
set -eu
MAGE_DATABASE_CONNECTION_URL="$(cat "${PLATFORM_SECRETS_FOLDER:-/run/secrets/platform}/mage_database_url")"
PYTHONPATH="${MAGE_REPO_PATH:-/app}${PYTHONPATH:+:$PYTHONPATH}"
export MAGE_DATABASE_CONNECTION_URL PYTHONPATH
exec "$@"
