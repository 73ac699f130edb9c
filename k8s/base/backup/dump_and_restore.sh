#!/bin/sh
# dump            writes a dump of each database into the folder of backups, and forgets those that are too old
# restore MOMENT  puts new databases, as they were dumped at 20261130T010000Z for example, in the place of the present
#                 ones, which are kept under another name; to be run while nothing uses them
#
# Roles are not in a dump: `mage-platform database provision` makes them from the secrets.
set -eu
umask 077
cd "${BACKUPS_FOLDER:-/backups}"
PGPASSWORD="$(cat "${SECRETS_FOLDER:-/run/secrets/platform}/postgres_superuser_password")"
export PGPASSWORD PGHOST="${PGHOST:-postgres}" PGUSER=postgres
# each belongs to the role of its name
databases="platform mage"

dump() {
    moment="$(date -u +%Y%m%dT%H%M%SZ)"
    for database in $databases; do
        pg_dump --format=custom --file="$database.unfinished" "$database"
        mv "$database.unfinished" "$database-$moment.dump"
    done
    find . -name '*.dump' -mtime "+${KEEP_DAYS:-14}" -delete
    ls -l
}

restore() {
    for database in $databases; do
        ls -l "$database-$1.dump"
    done
    for database in $databases; do
        dropdb --if-exists "${database}_restored"
        createdb --owner="$database" "${database}_restored"
        pg_restore --dbname="${database}_restored" --single-transaction "$database-$1.dump"
    done
    for database in $databases; do
        former="${database}_until_$(date -u +%Y%m%dT%H%M%SZ)"
        psql --quiet --dbname=postgres --set=ON_ERROR_STOP=1 --set=database="$database" --set=former="$former" \
            --set=restored="${database}_restored" <<'SQL'
alter database :"database" with allow_connections false;
select count(pg_terminate_backend(pid, 10000)) as ended from pg_stat_activity where datname = :'database';
begin;
alter database :"database" rename to :"former";
alter database :"restored" rename to :"database";
commit;
SQL
        echo "$database is as it was at $1; the former one is kept as $former"
    done
}

case "${1:-}" in
dump) dump ;;
restore) restore "${2:?the moment of a dump: see ls in the folder of backups}" ;;
*)
    echo "usage: $0 dump | restore MOMENT" >&2
    exit 2
    ;;
esac
