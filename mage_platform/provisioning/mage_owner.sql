-- Logins of Mage, in its own database; Mage's tables are of its making and may not exist yet.

-- name: has_logins
select to_regclass('public."user"') is not null

-- name: stored_hash
select password_hash from public."user" where email = %(email)s

-- name: replace_hash
update public."user" set password_hash = %(hash)s, password_salt = %(salt)s where email = %(email)s
