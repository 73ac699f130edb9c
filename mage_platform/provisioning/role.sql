-- Create or mend one login role; what it is to be is handed over as settings of the transaction. An empty verifier leaves
-- the password as it is.
do $$
declare
    role_name text := current_setting('provisioning.role');
    purpose text := current_setting('provisioning.purpose');
    verifier text := current_setting('provisioning.verifier');
begin
    if not exists (select from pg_roles where rolname = role_name) then
        execute format('create role %I login', role_name);
    end if;
    execute format('alter role %I login', role_name);
    if verifier <> '' then
        execute format('alter role %I password %L', role_name, verifier);
    end if;
    if current_setting('provisioning.may_create_databases') = 'yes' then
        execute format('alter role %I createdb', role_name);
    else
        execute format('alter role %I nocreatedb', role_name);
    end if;
    if purpose = 'platform' then
        -- one forgotten transaction would keep a pooled connection for good
        execute format('alter role %I set idle_in_transaction_session_timeout = %L', role_name, '60s');
    elsif purpose = 'mage' then
        -- Mage sends the time zone as a start-up option, which PgBouncer drops; a running block holds its
        -- transaction open for as long as it runs, so no idle timeout here
        execute format('alter role %I set timezone = %L', role_name, 'UTC');
    end if;
end
$$;
