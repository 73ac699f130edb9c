#!/bin/sh
# Redis reads its password from its configuration only. It is put there from the secret file, so that it stands in no
# variable and on no command line.
set -eu
umask 077
{
    cat /etc/redis/redis.conf
    printf 'requirepass "%s"\n' "$(cat /run/secrets/platform/platform_redis_password)"
} >/run/redis/redis.conf
exec redis-server /run/redis/redis.conf
