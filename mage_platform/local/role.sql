-- Create or mend one login role; name, SCRAM verifier and purpose are handed over as settings of the transaction.
do $$
declare
    role_name text := current_setting('stack.role');
    purpose text := current_setting('stack.purpose');
begin
    if not exists (select from pg_roles where rolname = role_name) then
        execute format('create role %I login', role_name);
    end if;
    execute format('alter role %I login password %L', role_name, current_setting('stack.verifier'));
    if purpose = 'platform' then
        -- tests clone a migrated template database
        execute format('alter role %I createdb', role_name);
        -- one forgotten transaction would keep a pooled connection for good
        execute format('alter role %I set idle_in_transaction_session_timeout = %L', role_name, '60s');
    elsif purpose = 'mage' then
        -- Mage sends the time zone as a start-up option, which PgBouncer drops; a running block holds its
        -- transaction open for as long as it runs, so no idle timeout here
        execute format('alter role %I set timezone = %L', role_name, 'UTC');
    end if;
end
$$;
