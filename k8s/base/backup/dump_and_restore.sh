#!/bin/sh
# dump            writes a dump of each database into the folder of backups, and forgets those that are too old
# restore MOMENT  puts back what was dumped then, such as 20261130T010000Z; each database as a whole or not at all
#
# Roles are not in a dump: `mage-platform database provision` makes them from the secrets.
set -eu
umask 077
DATABASES="${DATABASES:-platform mage}"
KEEP_DAYS="${KEEP_DAYS:-14}"
cd "${BACKUPS_FOLDER:-/backups}"
PGPASSWORD="$(cat "${SECRETS_FOLDER:-/run/secrets/platform}/postgres_superuser_password")"
export PGPASSWORD PGHOST="${PGHOST:-postgres}" PGUSER=postgres

case "${1:-}" in
dump)
    moment="$(date -u +%Y%m%dT%H%M%SZ)"
    for database in $DATABASES; do
        pg_dump --format=custom --file="$database.unfinished" "$database"
        mv "$database.unfinished" "$database-$moment.dump"
    done
    find . -name '*.dump' -mtime "+$KEEP_DAYS" -delete
    ls -l
    ;;
restore)
    for database in $DATABASES; do
        ls -l "$database-$2.dump"
    done
    for database in $DATABASES; do
        pg_restore --dbname="$database" --clean --if-exists --single-transaction "$database-$2.dump"
        echo "$database is as it was at $2"
    done
    ;;
*)
    echo "usage: $0 dump | restore MOMENT" >&2
    exit 2
    ;;
esac
