-- name: lock
-- Two Jobs at once meet here. Bound to the session, which is the superuser's own, never PgBouncer's.
select pg_advisory_lock(7420911301)

-- name: verifier
select rolpassword from pg_authid where rolname = %(role)s

-- name: hand_over
-- What role.sql reads; gone with the transaction.
select
    set_config('provisioning.role', %(role)s, true),
    set_config('provisioning.verifier', %(verifier)s, true),
    set_config('provisioning.purpose', %(purpose)s, true),
    set_config('provisioning.may_create_databases', %(may_create_databases)s, true)

-- name: has_database
select 1 from pg_database where datname = %(database)s

-- name: server_state
-- Each thing that provisioning looks after, with all of it that could differ.
select 'role ' || rolname, md5(concat_ws('|', rolcanlogin, rolcreatedb, rolpassword, setconfig))
from pg_authid left join pg_db_role_setting on setrole = pg_authid.oid and setdatabase = 0
where rolname = any (%(roles)s)
union all
select 'database ' || datname, pg_get_userbyid(datdba) from pg_database where datname = any (%(databases)s)

-- name: database_state
select 'look-up of logins in database ' || current_database(),
    md5(concat_ws('|', pg_get_functiondef(pg_proc.oid), proacl, nspacl))
from pg_proc join pg_namespace on pg_namespace.oid = pronamespace
where nspname = 'pgb' and proname = 'get_auth'
union all
select 'extension ' || extname || ' in database ' || current_database(), extversion
from pg_extension where extname in ('vector', 'pg_stat_statements')
