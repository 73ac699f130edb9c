-- What each database needs besides its owner's tables: PgBouncer's look-up of verifiers, and extensions.
create schema if not exists pgb;

-- PgBouncer logs in as pgb_auth and asks for the verifier of whoever connects; never a superuser's, nor an
-- expired role's (CVE-2025-2291).
create or replace function pgb.get_auth(u text) returns table (usename name, passwd text)
language sql security definer set search_path = pg_catalog as
$$
    select rolname, rolpassword from pg_authid
    where rolname = u and rolcanlogin and not rolsuper and (rolvaliduntil is null or rolvaliduntil > now())
$$;
revoke all on function pgb.get_auth(text) from public;
grant usage on schema pgb to pgb_auth;
grant execute on function pgb.get_auth(text) to pgb_auth;

do $$
begin
    if exists (select from pg_available_extensions where name = 'vector') then
        create extension if not exists vector;
    end if;
    if exists (select from pg_available_extensions where name = 'pg_stat_statements') then
        create extension if not exists pg_stat_statements;
    end if;
end
$$;
